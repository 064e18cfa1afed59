// The page at /verify: files in, checks and a verdict out, nothing over the network. What is read
// from files is put on the page as text, never as markup.
import { fromHex } from "/verify/bytes.js";
import { readPolicy, verifyFile } from "/verify.js";

const element = (id) => document.getElementById(id);
const VERDICTS = {
  valid: ["Valid under the policy you supplied", "good"],
  invalid: ["Invalid: something in it is not what it says it is", "bad"],
  unusable: ["Unusable: not a file that can be verified", "bad"],
  intact_but_untrusted: ["Intact, but its signer or its log is not trusted by the policy you supplied, or you supplied none", ""],
};
const STATES = { passed: ["passed", "good"], failed: ["failed", "bad"], not_checked: ["not checked", ""] };

/** What was given, by the id of its field. */
const given = new Map();
/** The file that was chosen last in each field, so that one that takes long to read cannot replace it. */
const chosen = new Map();
/** Counts what was to be judged: only the last of it may be shown. */
let latest = 0;

function make(tag, text, kind) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

async function take(id, file) {
  chosen.set(id, file);
  const bytes = new Uint8Array(await file.arrayBuffer());
  if (chosen.get(id) !== file) return;
  given.set(id, bytes);
  await judge();
}

for (const id of ["record", "policy", "request", "response"]) {
  element(id).addEventListener("change", ({ target }) => target.files[0] && take(id, target.files[0]));
}
element("secret").addEventListener("change", () => judge());

for (const id of ["record", "policy"]) {
  const drop = element(`${id}-drop`);
  drop.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    const { files } = event.dataTransfer;
    if (files.length === 0) return;
    element(id).files = files; // So that the field shows its name.
    take(id, files[0]);
  });
}

function say(text, kind) {
  element("verdict").textContent = text;
  element("verdict").className = kind;
}

async function judge() {
  const mine = (latest += 1);
  element("reports").replaceChildren();
  if (!crypto.subtle) return say("This browser verifies only on https or on this machine’s own address.", "bad");
  if (!given.has("record")) return say("Give it a record.", "");
  say("Verifying…", "");
  let policy;
  try {
    policy = given.has("policy") ? await readPolicy(given.get("policy")) : undefined;
  } catch (error) {
    if (mine !== latest) return;
    return say(`The policy cannot be used. ${error.message}`, "bad");
  }
  if (mine !== latest) return;
  const secret = fromHex(element("secret").value.trim(), 32);
  const parts = { request: given.get("request"), response: given.get("response") };
  try {
    const result = await verifyFile(given.get("record"), { policy, content: { secret, parts } });
    if (mine !== latest) return;
    say(...VERDICTS[result.verdict]);
    element("reports").append(...result.reports.map(table));
  } catch (error) {
    if (mine !== latest) return;
    say(`It could not be verified here: ${error.message}`, "bad");
  }
}

/** One record's checks. */
function table(report) {
  const box = make("div", undefined, "wide");
  const made = make("table");
  const caption = make("caption");
  const about = [report.part, report.record_kind, report.record].filter((word) => word).join(" · ");
  caption.append(make("span", about || "This file"));
  const head = made.createTHead().insertRow();
  for (const title of ["Check", "State", "Why"]) {
    const cell = make("th", title);
    cell.scope = "col";
    head.append(cell);
  }
  const body = made.createTBody();
  for (const { name, status, reason } of report.checks) {
    const row = body.insertRow();
    const title = make("th", name);
    title.scope = "row";
    const [state, kind] = STATES[status];
    row.append(title, make("td", state, kind), make("td", reason));
  }
  made.prepend(caption);
  box.append(made);
  return box;
}
