// An independent verifier of Longrun's records, in plain JavaScript on WebCrypto.
//
// It runs unchanged in a browser (Chrome 137, Firefox 130, Safari 17 or later, on https or
// localhost) and in Node.js 20 or later, asks nobody and sends nothing. It was written from
// docs/format.md and the C2SP specifications, not from the program that makes the records, so
// that the two can disagree; vectors/ holds what both must say.
//
//   import { readPolicy, verifyFile } from "./verify.js";
//   const report = await verifyFile(bytes, { policy: await readPolicy(policyBytes) });
//   report.verdict;   // "valid", "invalid", "unusable", "intact_but_untrusted"
//   report.exit_code; // 0, 1, 2, 3 as `longrun verify`
//   report.reports;   // per record: its checks by name, each passed, failed or not_checked
//
// Nothing inside a file makes that file trusted: without a policy the best answer is 3.

import { LIMITS, rawValues, readJson, same, textOf, toHex, utf8 } from "./verify/bytes.js";
import { PARTS, commitmentsOf, openPart } from "./verify/content.js";
import {
  BadSignature, PROOF_HEADER, inclusionHolds, logThatSigned, readCheckpoint, readLogPolicy, readProof, witnessing,
} from "./verify/log.js";
import {
  BUNDLE_TYPE, Chain, bundleOf, checkBundle, leafHash, leafOf, openEnvelope, readBundle, readEnvelope,
} from "./verify/record.js";

export const EXIT_CODES = { valid: 0, invalid: 1, unusable: 2, intact_but_untrusted: 3 };
const SEVERITIES = ["valid", "intact_but_untrusted", "unusable", "invalid"];
const CLOCK_TOLERANCE_S = 300n;

/** What a check that did not pass means for the verdict. */
const USABILITY = "unusable";
const INTEGRITY = "invalid";
const TRUST = "intact_but_untrusted";

class Draft {
  constructor() {
    this.checks = [];
    this.about = {};
  }

  add(name, status, reason, bearing) {
    this.checks.push({ name, status, reason: String(reason?.message ?? reason), bearing });
  }
  passed(name, reason) {
    this.add(name, "passed", reason);
  }
  failed(name, reason) {
    this.add(name, "failed", reason, INTEGRITY);
  }
  /** Made, and it gives no ground to believe the file, which may be intact all the same. */
  untrusted(name, reason) {
    this.add(name, "failed", reason, TRUST);
  }
  /** Not made, and something is missing without it. */
  notChecked(name, reason) {
    this.add(name, "not_checked", reason, TRUST);
  }
  /** Not made, and nobody asked for it. */
  notAsked(name, reason) {
    this.add(name, "not_checked", reason);
  }

  finish() {
    const bearings = new Set(this.checks.map(({ bearing }) => bearing));
    const verdict = [USABILITY, INTEGRITY, TRUST].find((one) => bearings.has(one)) ?? "valid";
    return { ...this.about, verdict, checks: this.checks.map(({ bearing, ...check }) => check) };
  }
}

function unusable(reason) {
  const draft = new Draft();
  draft.add("format", "failed", reason, USABILITY);
  return draft.finish();
}

/**
 * Reads a trust policy (format.md section 15) and checks everything in it. Throws an `Error` that
 * names the line or the signer.
 */
export async function readPolicy(bytes) {
  const expect = (condition, message) => {
    if (!condition) throw new Error(`trust policy: ${message}`);
  };
  const only = (object, names, what) => {
    expect(object instanceof Map && names.every((name) => object.has(name)), `${what} needs ${names.join(", ")}`);
    for (const name of object.keys()) expect(names.includes(name), `${what} has an unknown member ${name}`);
    return names.map((name) => object.get(name));
  };
  const file = readJson(bytes, LIMITS.policy);
  const [version, lines, signers] = only(file, ["longrun_policy", "log_policy", "signers"], "it");
  expect(version === 1, `version ${version}; this program reads version 1`);
  const texts = (list) => Array.isArray(list) && list.every((text) => typeof text === "string");
  expect(texts(lines) && Array.isArray(signers), "log_policy and signers are lists");
  const policy = { logs: await readLogPolicy(utf8(lines.join("\n"))), signers: new Map() };
  for (const signer of signers) {
    const [id, name, roles, controls] = only(signer, ["id", "name", "roles", "controls"], "a signer");
    expect(typeof name === "string" && texts(roles) && Array.isArray(controls), "a signer's members have other types");
    expect(!policy.signers.has(id), `signer ${id} is listed twice`);
    let chain = null;
    for (const [number, control] of controls.entries()) {
      try {
        chain = await extendChain(chain, bundleOf(control), policy.logs);
      } catch (error) {
        expect(false, `signer ${name}: control ${number + 1}: ${error.message}`);
      }
    }
    expect(chain !== null, `signer ${name} has no control records`);
    expect(chain.signerId === id, `signer ${name}: its control records are those of ${chain.signerId}`);
    policy.signers.set(id, { id, name, roles, chain });
  }
  return policy;
}

/** One more control record of a policy's signer, which must lie in its home log at that time. */
async function extendChain(chain, bundle, logs) {
  const record = await openEnvelope(bundle.envelope);
  checkBundle(bundle, record);
  const checkpoint = readCheckpoint(bundle.checkpoint);
  const { origin, size, root } = checkpoint;
  if (!(await logThatSigned(logs, checkpoint))) throw new Error(`logged in ${origin}, which is no log of this policy`);
  if (!(await inclusionHolds(await leafHash(bundle.leaf), bundle.index, size, bundle.hashes, root))) {
    throw new Error("the inclusion proof does not hold");
  }
  const next = chain ?? Chain.start(record, bundle.index);
  if (next.homeLog !== origin) throw new Error(`logged in ${origin}, but the home log is ${next.homeLog}`);
  if (chain) chain.apply(record, bundle.index);
  return next;
}

/**
 * Finds out what the file is and verifies it. Options, all of them optional:
 * - `policy`: what `readPolicy` gave;
 * - `record`: bytes of the bundle or envelope that a tlog-proof is about, if it is not in there;
 * - `content`: `{secret, salts: {request, …}, parts: {request, response, tokens, exact}}`, bytes
 *   all of them, to open the commitments of a single record.
 */
export async function verifyFile(bytes, options = {}) {
  const { kind, reports } = await reportsOn(bytes, options);
  const worst = Math.max(...reports.map(({ verdict }) => SEVERITIES.indexOf(verdict)));
  const verdict = SEVERITIES[worst];
  return { kind, reports, verdict, exit_code: EXIT_CODES[verdict] };
}

async function reportsOn(bytes, options) {
  const kind = kindOf(bytes);
  const make = {
    bundle: verifyBundle,
    envelope: verifyEnvelope,
    checkpoint: verifyCheckpoint,
    proof: verifyProof,
    policy: verifyPolicy,
  }[kind];
  if (kind === "call") return { kind, reports: await verifyCall(bytes, options) };
  if (make) return { kind, reports: [await make(bytes, options)] };
  const why = {
    statement: "a statement without a signature proves nothing; give its bundle",
    trusted_root: "a Sigstore trusted root is for other tools; give a trust policy",
    history: "this verifier reads no histories; `longrun verify` does",
    unknown: "neither a bundle, an envelope, a checkpoint, a tlog-proof, the answer about a call nor a trust policy",
  };
  return { kind, reports: [unusable(why[kind])] };
}

function kindOf(bytes) {
  if (bytes.length > 64 * 1024 * 1024) return "unknown";
  const text = new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes); // Each kind refuses what is not UTF-8.
  if (!/^[ \t\n\r]*\{/.test(text)) {
    if (text.startsWith(PROOF_HEADER)) return "proof";
    if (text.startsWith("longrun history ")) return "history";
    return text.includes("\n\u2014 ") ? "checkpoint" : "unknown";
  }
  let json;
  try {
    json = JSON.parse(text); // Only to tell files apart; each is then read strictly.
  } catch {
    return "unknown";
  }
  if (json.mediaType === BUNDLE_TYPE) return "bundle";
  if (String(json.mediaType).includes("trustedroot")) return "trusted_root";
  if (json.payloadType === "application/vnd.in-toto+json") return "envelope";
  if (json.longrun_policy != null) return "policy";
  if (json.attempts != null) return "call";
  return json._type === "https://in-toto.io/Statement/v1" ? "statement" : "unknown";
}

/** Runs a reader; what it refuses makes the file unusable. */
function readable(read) {
  try {
    return { value: read() };
  } catch (error) {
    return { refused: unusable(error) };
  }
}

async function verifyBundle(bytes, options) {
  const { value: bundle, refused } = readable(() => readBundle(bytes));
  if (refused) return refused;
  const draft = new Draft();
  draft.passed("format", "a Sigstore bundle v0.3 with one record");
  const record = await open(draft, bundle.envelope);
  if (record === null) draft.notChecked("leaf", "there is no verified record to compare it with");
  else {
    const { refused: leaf } = readable(() => checkBundle(bundle, record));
    if (leaf) draft.failed("leaf", leaf.checks[0].reason);
    else draft.passed("leaf", "it is the leaf of this record, signature and key");
  }
  const place = await checkPlace(draft, bundle, options.policy);
  return finishRecord(draft, record, place, options);
}

async function verifyEnvelope(bytes, options) {
  const { value: envelope, refused } = readable(() => readEnvelope(bytes));
  if (refused) return refused;
  const draft = new Draft();
  draft.passed("format", "a DSSE envelope with one signature");
  const record = await open(draft, envelope);
  for (const name of ["leaf", "inclusion", "checkpoint", "quorum"]) {
    draft.notChecked(name, "the file has no proof that the record is logged");
  }
  return finishRecord(draft, record, null, options);
}

async function verifyCheckpoint(bytes, options) {
  const { value: checkpoint, refused } = readable(() => readCheckpoint(bytes));
  if (refused) return refused;
  const draft = new Draft();
  draft.passed("format", `checkpoint of ${checkpoint.origin} at size ${checkpoint.size}`);
  await checkCheckpoint(draft, checkpoint, options.policy);
  return draft.finish();
}

/** The entry is not in a tlog-proof: it follows from the record, which ours carry as `extra`. */
async function verifyProof(bytes, options) {
  const { value: proof, refused } = readable(() => readProof(bytes));
  if (refused) return refused;
  const draft = new Draft();
  draft.passed("format", "a C2SP tlog-proof");
  const given = options.record ? readable(() => envelopeIn(options.record)) : null;
  if (given?.refused) return given.refused;
  const envelope = given?.value ?? (proof.extra && readable(() => readEnvelope(proof.extra)).value);
  const record = envelope ? await open(draft, envelope) : null;
  if (!envelope) draft.notChecked("signature", "the proof does not carry the record that it is about");
  if (record === null) {
    for (const name of ["leaf", "inclusion"]) draft.notChecked(name, "there is no verified record to look for");
    await checkCheckpoint(draft, proof.checkpoint, options.policy);
    return draft.finish();
  }
  draft.passed("leaf", "it follows from the record");
  const { index, hashes, checkpoint } = proof;
  const entry = { index, hashes, leaf: await leafOf(record), size: checkpoint.size, root: checkpoint.root };
  const place = await checkPlace(draft, { ...entry, signed: checkpoint }, options.policy);
  return finishRecord(draft, record, place, options);
}

const envelopeIn = (bytes) => (kindOf(bytes) === "bundle" ? readBundle(bytes).envelope : readEnvelope(bytes));

/** A gateway's answer about one call: each of its bundles. Where there are none and none are to come, because the
 * gateway has no log or that refused them, each of its envelopes. */
async function verifyCall(bytes, options) {
  const { value: raw, refused } = readable(() => rawValues(bytes));
  if (refused) return [refused];
  const { attempts } = JSON.parse(textOf(bytes));
  const each = async (form, verify, counts) => {
    const reports = [];
    for (const [number, attempt] of (Array.isArray(attempts) ? attempts : []).entries()) {
      for (const name of ["observation", "receipt"]) {
        if ((attempt?.[form]?.[name] ?? null) === null || !counts(attempt)) continue;
        const report = await verify(raw(`attempts[${number}].${form}.${name}`), { policy: options.policy });
        reports.push({ part: `attempt ${number + 1}, ${name}`, ...report });
      }
    }
    return reports;
  };
  const published = await each("bundles", verifyBundle, () => true);
  if (published.length > 0) return published;
  const kept = await each("envelopes", verifyEnvelope, ({ state }) => (state ?? "pending") !== "pending");
  return kept.length > 0 ? kept : [unusable("the call has no published records yet; ask again later")];
}

/** A policy is read, not believed: it is what others are judged by. */
async function verifyPolicy(bytes) {
  try {
    const { logs, signers } = await readPolicy(bytes);
    const draft = new Draft();
    draft.passed("format", `a trust policy of ${logs.logs.length} logs and ${signers.size} signers`);
    draft.untrusted("policy", "a policy vouches for nothing; use it to judge others");
    return draft.finish();
  } catch (error) {
    return unusable(error);
  }
}

async function open(draft, envelope) {
  try {
    const record = await openEnvelope(envelope);
    const { statement, id, signerId } = record;
    draft.about = { record_kind: statement.kind, record: id, signer: signerId };
    draft.passed("signature", `made with the key that the statement names, ${record.keyId}`);
    return record;
  } catch (error) {
    draft.failed("signature", error);
    return null;
  }
}

/** Checks `inclusion`, `checkpoint` and `quorum`; gives the place if the record is shown to be there. */
async function checkPlace(draft, entry, policy) {
  let checkpoint;
  try {
    checkpoint = entry.signed ?? readCheckpoint(entry.checkpoint);
  } catch (error) {
    draft.notChecked("inclusion", "there is no usable checkpoint");
    draft.failed("checkpoint", error);
    draft.notChecked("quorum", "there is no usable checkpoint");
    return null;
  }
  const { origin, size, root } = checkpoint;
  const { index, hashes } = entry;
  const agrees = entry.size === size && same(entry.root, root);
  const holds = agrees && (await inclusionHolds(await leafHash(entry.leaf), index, size, hashes, root));
  if (holds) draft.passed("inclusion", `entry ${index} of ${size} in ${origin}`);
  else if (agrees) draft.failed("inclusion", "the hashes do not lead from the entry to the checkpoint's root");
  else draft.failed("inclusion", "size or root differ from those in the checkpoint");
  const facts = await checkCheckpoint(draft, checkpoint, policy);
  return holds ? { origin, index, ...facts } : null;
}

async function checkCheckpoint(draft, checkpoint, policy) {
  const { origin } = checkpoint;
  if (!policy) {
    draft.notChecked("checkpoint", `no policy was given, so the log ${origin} is not known to you`);
    draft.notChecked("quorum", "no policy was given, so no witness is known");
    return { trusted: false };
  }
  /** `null` where a signature of a known key is false, which says so. */
  const unlessForged = async (name, read) => {
    try {
      return await read();
    } catch (error) {
      if (!(error instanceof BadSignature)) throw error;
      draft.failed(name, error);
      return null;
    }
  };
  const log = await unlessForged("checkpoint", async () => ({ key: await logThatSigned(policy.logs, checkpoint) }));
  if (log?.key) draft.passed("checkpoint", `signed by ${origin}, a log of your policy`);
  else if (log) draft.untrusted("checkpoint", `no key that your policy has for the log ${origin} signed`);
  const found = await unlessForged("quorum", () => witnessing(policy.logs, checkpoint));
  if (found) {
    const names = found.cosigned.map(({ name }) => name).join(", ") || "none";
    if (found.quorum === null) draft.notAsked("quorum", "your policy asks for no witnesses");
    else if (found.quorum) draft.passed("quorum", `cosigned by ${names}`);
    else draft.untrusted("quorum", `too few witnesses of your policy: ${names}`);
  }
  const times = (found?.cosigned ?? []).map(({ time }) => time);
  const cosigned = times.reduce((least, time) => (least === null || time < least ? time : least), null);
  return { trusted: Boolean(log?.key), cosigned };
}

/** Checks `signer`, `time` and `content`. */
async function finishRecord(draft, record, place, { policy, content }) {
  checkSigner(draft, record, place, policy);
  checkTime(draft, record, place);
  await checkContent(draft, record, content);
  return draft.finish();
}

function checkSigner(draft, record, place, policy) {
  const name = "signer";
  if (!record) return draft.notChecked(name, "there is no verified record");
  if (!policy) return draft.notChecked(name, `no policy was given, so signer ${record.signerId} is unknown`);
  const signer = policy.signers.get(record.signerId);
  if (!signer) return draft.untrusted(name, `signer ${record.signerId} is not in your policy`);
  if (!place?.trusted) {
    return draft.notChecked(name, `${signer.name} is in your policy, but the record has no place in a log of yours`);
  }
  const { chain } = signer;
  const position = chain.positionOf(place.origin, place.index);
  if (!position) return draft.untrusted(name, `${place.origin} was never the home log of ${signer.name}`);
  if (record.statement.kind === "control:v1") {
    if (chain.records.includes(record.id)) return draft.passed(name, `a control record of ${signer.name} that your policy has`);
    return draft.untrusted(name, `a control record of ${signer.name} that your policy does not have`);
  }
  const had = chain.hadKey(record.key, position);
  if (had) return draft.passed(name, `${signer.name}, with its instance key ${record.keyId}`);
  if (had === false) return draft.failed(name, `${signer.name} had no valid key ${record.keyId} at this place`);
  return draft.untrusted(name, `your policy has no control record by which ${signer.name} delegates ${record.keyId}`);
}

/** A time is a claim, so this never decides. A cosigned checkpoint bounds it from above. */
function checkTime(draft, record, place) {
  const { body } = record?.statement ?? {};
  const claimed = body?.at_ms ?? body?.timing?.start_ms;
  if (claimed === undefined) return draft.notAsked("time", "the record claims no time that could be compared");
  const cosigned = place?.cosigned ?? null;
  if (cosigned === null) return draft.notAsked("time", "a time is a claim; no witness of your policy bounds it here");
  if (BigInt(Math.floor(claimed / 1000)) > cosigned + CLOCK_TOLERANCE_S) {
    return draft.notAsked("time", `the claimed time is after ${cosigned}, when witnesses had seen the record: it is false`);
  }
  return draft.passed("time", `witnesses had seen the record by ${cosigned} (POSIX seconds)`);
}

async function checkContent(draft, record, content) {
  const given = PARTS.filter((part) => content?.parts?.[part]);
  const committed = record && commitmentsOf(record.statement);
  if (given.length === 0) return draft.notAsked("content", "prompt and answer are only committed to; none were given");
  if (!committed) return draft.notAsked("content", "there is no verified record that commits to content");
  const said = [];
  let differs = false;
  for (const part of given) {
    const salt = content.salts?.[part];
    if (!salt && !content.secret) return draft.notAsked("content", `no secret and no salt was given for the ${part}`);
    const key = salt ? { salt } : { secret: content.secret };
    const reading = await openPart(record.statement, part, key, content.parts[part]);
    differs ||= reading === null;
    said.push(`${part} ${reading === null ? "differs" : `fits (${reading.replaceAll("_", " ")})`}`);
  }
  if (differs) draft.failed("content", said.join(", "));
  else draft.passed("content", said.join(", "));
}

export { commitment, salt } from "./verify/content.js";
export { toHex };
