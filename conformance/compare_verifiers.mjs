// Two verifiers, one verdict: `longrun verify` and verify.js over the same files and over damaged
// copies of them. Usage: node compare_verifiers.mjs LONGRUN POLICY COPIES FILE...
// COPIES damaged copies are made of each file, the same ones on every run. Compared are the kind of
// file, the verdict and every check's state. Prints a line a file; exits 1 on a disagreement.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { readPolicy, verifyFile } from "../crates/web/src/assets/verify.js";

const [longrun, policyFile, copies, ...files] = process.argv.slice(2);
const policy = await readPolicy(new Uint8Array(readFileSync(policyFile)));
const folder = mkdtempSync(join(tmpdir(), "longrun-compare-"));

/** A small generator with a fixed start (xorshift), so that a disagreement can be looked at again. */
let state = 0x9e3779b9;
function below(limit) {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % limit;
}

/** One byte changed, a piece cut out, doubled or swapped with another, or a digit or letter replaced. */
function damaged(bytes) {
  const at = below(bytes.length);
  const end = Math.min(bytes.length, at + 1 + below(64));
  const piece = bytes.subarray(at, end);
  switch (below(6)) {
    case 0:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(end)]);
    case 1:
      return Buffer.concat([bytes.subarray(0, end), piece, bytes.subarray(end)]);
    case 2: {
      const copy = Buffer.from(bytes);
      copy[at] ^= 1 << below(7);
      return copy;
    }
    case 3: {
      const words = ["null", "1.0", "-0", "{}", "[]", '""', "\n", " ", "=", "0", "\\u0000", "9007199254740993"];
      return Buffer.concat([bytes.subarray(0, at), Buffer.from(words[below(words.length)]), bytes.subarray(at)]);
    }
    default: {
      // Most of a record is base64, JSON in it: a letter for a letter keeps the outside whole.
      const copy = Buffer.from(bytes);
      const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
      for (let n = at; n < copy.length; n += 1) {
        if (!letters.includes(String.fromCharCode(copy[n]))) continue;
        copy[n] = letters.charCodeAt(below(letters.length));
        break;
      }
      return copy;
    }
  }
}

const cases = new Map();
files.forEach((file, number) => {
  const bytes = readFileSync(file);
  cases.set(file, bytes);
  for (let copy = 0; copy < Number(copies); copy += 1) {
    const name = join(folder, `${number}-${copy}`);
    const changed = damaged(bytes);
    writeFileSync(name, changed);
    cases.set(name, changed);
  }
});

/** What both say of a file. */
const summary = ({ kind, verdict, reports }) =>
  JSON.stringify([kind, verdict, reports.map(({ checks }) => checks.map(({ name, status }) => `${name} ${status}`))]);

function ofLongrun(names) {
  const options = { encoding: "utf8", maxBuffer: 1 << 30 };
  try {
    return execFileSync(longrun, ["verify", "--json", "--policy", policyFile, ...names], options);
  } catch (error) {
    if (!error.stdout) throw error; // It exits with the verdict.
    return error.stdout;
  }
}

let disagreements = 0;
const verdicts = {};
const said = JSON.parse(ofLongrun([...cases.keys()])).files;
for (const { file, result } of said) {
  const ours = await verifyFile(new Uint8Array(cases.get(file)), { policy });
  verdicts[ours.verdict] = (verdicts[ours.verdict] ?? 0) + 1;
  if (summary(result) === summary(ours)) continue;
  disagreements += 1;
  const kept = join(tmpdir(), `disagreement-${basename(file)}`);
  writeFileSync(kept, cases.get(file));
  console.log(`DISAGREE about ${kept}\n  longrun   ${summary(result)}\n  verify.js ${summary(ours)}`);
  console.log(`  ${JSON.stringify(result.reports[0].checks.find(({ status }) => status === "failed"))}`);
}
rmSync(folder, { recursive: true });
console.log(`${said.length} files, ${JSON.stringify(verdicts)}: ${disagreements} disagreements`);
process.exit(disagreements === 0 && said.length === cases.size ? 0 : 1);
