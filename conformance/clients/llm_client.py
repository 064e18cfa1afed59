"""The unmodified `llm` command against a Longrun gateway.

Usage: llm_client.py GATEWAY_URL KEY DIRECTORY. One line a check; exits 1 at the first failure.
The gateway waits only seconds for the next piece of a stream of the model "impatient".
"""

import json
import os
import pathlib
import subprocess
import sys

gateway, key, directory = sys.argv[1:4]
home = pathlib.Path(directory)
home.mkdir(parents=True, exist_ok=True)
(home / "keys.json").write_text(json.dumps({"longrun": key}))
(home / "extra-openai-models.yaml").write_text(
    f"- model_id: longrun\n  model_name: scripted\n  api_base: {gateway}/v1\n  api_key_name: longrun\n"
    "  supports_tools: true\n  supports_schema: true\n"
    f"- model_id: impatient\n  model_name: impatient\n  api_base: {gateway}/v1\n  api_key_name: longrun\n"
    f"- model_id: nothing\n  model_name: no-such\n  api_base: {gateway}/v1\n  api_key_name: longrun\n"
)


def llm(*arguments):
    command = [str(pathlib.Path(sys.executable).parent / "llm"), *arguments]
    environment = {**os.environ, "LLM_USER_PATH": directory}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def check(name, done, truth):
    print(f"{'ok    ' if truth else 'FAILED'} {name}", flush=True)
    if not truth:
        print(done.stdout, done.stderr)
        sys.exit(1)


done = llm("-m", "longrun", "What is 3 + 4?")
check("streamed", done, done.stdout.strip() == "the answer is seven")
done = llm("-m", "longrun", "--no-stream", "What is 3 + 4?")
check("in one piece", done, done.stdout.strip() == "the answer is seven")
done = llm("-m", "longrun", "--schema", "total int, words", "What is 3 + 4?")
check("schema", done, done.returncode == 0 and json.loads(done.stdout) == {"total": 7, "words": "seven"})
done = llm("-m", "longrun", "--functions", "def add(a: int, b: int) -> int:\n    return a + b", "--td", "What is 3 + 4?")
check("tools", done, done.stdout.strip().endswith("the answer is seven") and "add" in done.stderr)
done = llm("-m", "nothing", "What is 3 + 4?")
check("errors", done, done.returncode != 0 and "does not exist" in done.stderr)
for prompt, error in {"break off": "broke off", "stall": "stalled", "garbled": "is not a JSON object"}.items():
    done = llm("-m", "impatient", prompt)
    check(f"{prompt}: after its two words an error on stderr and exit code 1", done,
          done.stdout.strip() == "the answer" and "Error: " in done.stderr and error in done.stderr and done.returncode == 1)
