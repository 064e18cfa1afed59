"""The witness-conformance suite in the package of the `siglog` crate, unmodified, against
`longrun witness`.

Usage: python siglog_witness.py LONGRUN_BINARY. The package comes through cargo, which checks it
against the registry's index, and must have the digest below. Where the suite and C2SP tlog-witness
differ the specification holds: those cases are listed in DIFFERS with the reason, and must fail as
it says. One line a case; exits 1 on anything else.
"""

import hashlib
import os
import pathlib
import socket
import subprocess
import sys
import tarfile
import xml.etree.ElementTree

VERSION = "0.1.0"
SHA256 = "56cf4c0be0f3bbb3601c0a8b28c8af9424fd7e1c70f44f1dd80f6416fdaeefe6"
CASES = 28

# Case: what its failure must say, and why the specification is right.
DIFFERS = {
    "test_witness_conformance[same_size_different_root_fail]": (
        "expected status 422 but got 409",
        "tlog-witness, add-checkpoint: where the old size is the checkpoint's and the roots differ, "
        "the witness MUST respond with 409",
    ),
}

HERE = pathlib.Path(__file__).resolve().parent


def suite() -> pathlib.Path:
    """The suite's folder, unpacked anew, with the cases that its own script generates."""
    subprocess.run(["cargo", "info", "--quiet", f"siglog@{VERSION}"], check=True, stdout=subprocess.DEVNULL, cwd=HERE)
    home = pathlib.Path(os.environ.get("CARGO_HOME", pathlib.Path.home() / ".cargo"))
    name = f"siglog-{VERSION}"
    package = next(home.glob(f"registry/cache/*/{name}.crate"))
    found = hashlib.sha256(package.read_bytes()).hexdigest()
    if found != SHA256:
        sys.exit(f"{package} has SHA-256 {found}, not {SHA256}")
    work = HERE / ".siglog"
    with tarfile.open(package) as archive:
        archive.extractall(work, filter="data")
    folder = work / name / "witness-conformance"
    subprocess.run([sys.executable, "generate_cases.py"], check=True, stdout=subprocess.DEVNULL, cwd=folder)
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main(binary: str) -> int:
    folder = suite()
    results = folder / "results.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={results}"]
    command += [f"--entrypoint={HERE / 'siglog_entrypoint'}", f"--port={free_port()}"]
    run = subprocess.run(command, cwd=folder, env={**os.environ, "LONGRUN": binary}, stdout=subprocess.PIPE, text=True)
    ran, failures = 0, 0
    for case in xml.etree.ElementTree.parse(results).iter("testcase"):
        ran += 1
        name = case.get("name")
        problem = next((found for kind in ("failure", "error", "skipped") for found in case.iter(kind)), None)
        said = "" if problem is None else problem.get("message") or ""
        wanted, reason = DIFFERS.get(name, ("", ""))
        held = problem is None if not wanted else wanted in said
        failures += not held
        note = f"(the specification says otherwise: {reason})" if wanted and held else "" if held else said
        print("ok    " if held else "FAILED", name, note)
    if ran != CASES:
        print(f"FAILED {ran} cases ran, not {CASES}\n{run.stdout}")
        return 1
    print(f"{ran} cases of siglog {VERSION}, {failures} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(os.path.abspath(sys.argv[1])))
