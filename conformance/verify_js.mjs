// The independent verifier (crates/web/src/assets/verify.js) over every file of vectors/: each
// case has to come out as the index says, or it is a disagreement between two implementations.
// Usage: node verify_js.mjs. Prints how many cases ran; exits 1 on a disagreement.
import { readFileSync } from "node:fs";
import { fromHex, sha256, textOf, toHex, utf8 } from "../crates/web/src/assets/verify/bytes.js";
import { PARTS, openPart, readSecret, salt } from "../crates/web/src/assets/verify/content.js";
import * as log from "../crates/web/src/assets/verify/log.js";
import * as records from "../crates/web/src/assets/verify/record.js";
import { DURATION_EDGES_US, TOKEN_EDGES, readStatement, streamId } from "../crates/web/src/assets/verify/statement.js";
import { readPolicy, verifyFile } from "../crates/web/src/assets/verify.js";

const folder = (name) => (path) => new Uint8Array(readFileSync(new URL(`../vectors/${name}/${path}`, import.meta.url)));
const record = folder("record");
const tlog = folder("tlog");
const json = (read, path) => JSON.parse(textOf(read(path)));

const counts = new Map();
let disagreements = 0;

/** One case: `found` must be `wanted`, compared as JSON. */
async function check(group, name, wanted, found) {
  counts.set(group, (counts.get(group) ?? 0) + 1);
  let said;
  try {
    said = await found();
  } catch (error) {
    said = `threw ${error.stack}`;
  }
  if (JSON.stringify(said) === JSON.stringify(wanted)) return;
  disagreements += 1;
  console.log(`DISAGREES ${group}: ${name}\n  vectors  ${JSON.stringify(wanted)}\n  verifier ${JSON.stringify(said)}`);
}

/** What a reader refuses, as `code at path`; `accepted` if it refuses nothing. */
async function refusal(read) {
  try {
    await read();
    return "accepted";
  } catch (error) {
    if (!error.code) throw error;
    return `${error.code} at ${error.path}`;
  }
}

async function accepts(read) {
  try {
    await read();
    return true;
  } catch (error) {
    if (error instanceof log.Malformed) return false;
    throw error;
  }
}

// vectors/record

const index = json(record, "index.json");
const opened = new Map();
for (const one of index.golden) {
  await check("golden", one.name, true, async () => {
    const envelope = records.readEnvelope(record(one.envelope));
    opened.set(one.name, await records.openEnvelope(envelope));
    return true;
  });
  const { id, signerId, keyId, statement, envelope } = opened.get(one.name);
  const leaf = await records.leafOf(opened.get(one.name));
  const { stream } = statement.body;
  const wanted = [one.kind, one.record_id, one.signer_id, one.key_id, one.leaf_hash, one.stream_id, one.seq];
  await check("golden", `${one.name}, what it says`, wanted, async () => {
    const kind = statement.kind.split(":")[0];
    const numbered = stream?.seq && (await streamId(statement.signer.key, stream.endpoint, kind));
    const hash = toHex(await records.leafHash(leaf));
    return [statement.kind, id, signerId, keyId, hash, numbered, stream?.seq];
  });
  await check("golden", `${one.name}, its bytes`, [one.payload, one.pae, one.leaf].map((file) => toHex(record(file))), () =>
    [envelope.payload, records.pae(envelope.payload), leaf].map(toHex),
  );
}

const readers = {
  statement: (bytes) => readStatement(bytes),
  envelope: (bytes) => records.openEnvelope(records.readEnvelope(bytes)),
  leaf: (bytes) => records.readLeaf(bytes),
  bundle: async (bytes) => {
    const bundle = records.readBundle(bytes);
    let opened;
    try {
      opened = await records.openEnvelope(bundle.envelope);
    } catch (error) {
      error.path = ["dsseEnvelope", error.path].filter((part) => part).join(".");
      throw error;
    }
    records.checkBundle(bundle, opened);
  },
  chain: (bytes) => records.Chain.of(JSON.parse(textOf(bytes)).map((name) => opened.get(name))),
};
for (const one of index.broken) {
  if (one.read_as === "private_key") continue; // A verifier reads none.
  await check("broken", one.file, `${one.code} at ${one.path}`, () => refusal(() => readers[one.read_as](record(one.file))));
}

const chain = index.chain.records.map((name) => opened.get(name));
await check("chain", "in order", chain.length, () => records.Chain.of(chain).records.length);
for (let out = 0; out < chain.length; out += 1) {
  const last = out === chain.length - 1;
  await check("chain", `without record ${out + 1}`, last, async () => {
    const said = await refusal(() => records.Chain.of(chain.toSpliced(out, 1)));
    return said === "accepted";
  });
}

const secret = readSecret(index.content.secret);
for (const { part, salt: wanted, opening, commitment } of index.content.parts) {
  await check("content", `salt of ${part}`, wanted, async () => toHex(await salt(secret, part)));
  await check("content", `opening of ${part}`, commitment, async () => toHex(await sha256(record(opening))));
}
for (const one of index.content.disclose) {
  await check("content", `${one.file} for ${one.record}`, one.matches, () =>
    openPart(opened.get(one.record).statement, one.part, { secret: readSecret(one.secret) }, record(one.file)),
  );
}

await check("buckets", "durations", index.buckets.durations_us, () => DURATION_EDGES_US);
await check("buckets", "tokens", index.buckets.tokens, () => TOKEN_EDGES);

const { log_vkey, witness_vkey } = index.bundle;
for (const one of [...index.bundle.bundles, index.bundle.rewritten]) {
  const lines = `log ${log_vkey}\nwitness w ${witness_vkey}\nquorum w`;
  const policy = { longrun_policy: 1, log_policy: lines.split("\n"), signers: [] };
  const wanted = ["format", "signature", "leaf", "inclusion", "checkpoint", "quorum"];
  await check("bundle", one.bundle, { passed: wanted, exit: 3, record: opened.get(one.record).id }, async () => {
    const options = { policy: await readPolicy(utf8(JSON.stringify(policy))) };
    const { reports, exit_code } = await verifyFile(record(one.bundle), options);
    const passed = reports[0].checks.filter(({ status }) => status === "passed").map(({ name }) => name);
    return { passed: passed.filter((name) => name !== "time"), exit: exit_code, record: reports[0].record };
  });
}

// vectors/tlog

const proofs = json(tlog, "proofs.json");
const hash = (hex) => fromHex(hex, 32);
for (const one of proofs.inclusion) {
  const name = `inclusion of ${one.index} in ${one.size} ${one.why ?? ""}`;
  await check("proofs", name, one.holds, () =>
    log.inclusionHolds(hash(one.leaf_hash), BigInt(one.index), BigInt(one.size), one.proof.map(hash), hash(one.root)),
  );
}
for (const one of proofs.consistency) {
  const name = `consistency of ${one.old_size} and ${one.size} ${one.why ?? ""}`;
  await check("proofs", name, one.holds, () =>
    log.consistencyHolds(BigInt(one.old_size), hash(one.old_root), BigInt(one.size), hash(one.root), one.proof.map(hash)),
  );
}

const keys = json(tlog, "keys.json");
const logKey = await log.readVkey(keys.log.vkey, log.TYPE_LOG);
const witnessKeys = await Promise.all(keys.witnesses.map(({ vkey }) => log.readVkey(vkey, log.TYPE_WITNESS)));
const held = (promise) => promise.catch((error) => (error instanceof log.BadSignature ? null : Promise.reject(error)));
for (const one of json(tlog, "checkpoints.json")) {
  await check("checkpoints", `${one.file} parses`, one.parses, () => accepts(() => log.readCheckpoint(tlog(one.file))));
  if (!one.parses) continue;
  const checkpoint = log.readCheckpoint(tlog(one.file));
  await check("checkpoints", `${one.file} signed`, one.signed_by_log, async () =>
    Boolean(await held(log.signedBy(checkpoint, logKey))),
  );
  await check("checkpoints", `${one.file} cosigned`, one.cosigned_by, async () => {
    const times = await Promise.all(witnessKeys.map((key) => held(log.cosignedBy(checkpoint, key))));
    return times.flatMap((time, number) => (time === null ? [] : [number + 1]));
  });
}

const policies = json(tlog, "policies.json");
for (const one of policies.good) {
  const policy = await log.readLogPolicy(tlog(one.file));
  for (let set = 0; set < 8; set += 1) {
    const signed = [1, 2, 3].filter((number) => set & (1 << (number - 1)));
    const wanted = one.reached_by.some((reached) => reached.join() === signed.join());
    await check("policies", `${one.file} with ${signed}`, wanted, () =>
      policy.reached === null || policy.reached(new Set(signed.map((number) => `w${number}`))),
    );
  }
}
for (const one of policies.refused) {
  await check("policies", one.why, false, () => accepts(() => log.readLogPolicy(utf8(one.policy))));
}

for (const one of json(tlog, "proof_files.json")) {
  await check("proof files", `${one.file} parses`, one.parses, () => accepts(() => log.readProof(tlog(one.file))));
  if (!one.parses) continue;
  const { index, extra, hashes, checkpoint } = log.readProof(tlog(one.file));
  const { size, root } = checkpoint;
  await check("proof files", one.file, [one.index, one.size, one.extra, one.holds], async () => {
    const leaf = await records.leafHash(utf8(`entry ${index}`));
    const holds = await log.inclusionHolds(leaf, index, size, hashes, root);
    return [Number(index), Number(size), extra && textOf(extra), holds];
  });
}

for (const one of json(tlog, "verify.json")) {
  const name = [one.file, "under", one.policy ?? "no policy", one.record ?? ""].join(" ");
  await check("verify", name, [one.kind, one.exit, one.reports.map(inOrder)], async () => {
    const policy = one.policy === null ? undefined : await readPolicy(tlog(one.policy));
    const given = one.record === null ? undefined : tlog(one.record);
    const { kind, exit_code, reports } = await verifyFile(tlog(one.file), { policy, record: given });
    return [kind, exit_code, reports.map(inOrder)];
  });
}

/** A report of the vectors or of the verifier, its checks by name. */
function inOrder({ verdict, record, checks }) {
  const states = Array.isArray(checks) ? checks.map(({ name, status }) => [name, status]) : Object.entries(checks);
  return { verdict, record: record ?? null, checks: states.sort() };
}

const total = [...counts.values()].reduce((sum, count) => sum + count, 0);
const groups = [...counts].map(([group, count]) => `${group} ${count}`).join(", ");
console.log(`${total} cases on Node.js ${process.version} (${groups}): ${disagreements} disagreements`);
process.exit(disagreements === 0 && total > 0 ? 0 : 1);
