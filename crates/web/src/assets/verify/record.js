// Records: envelope, leaf, bundle, and a signer's chain of keys.
// Written from docs/format.md, sections 3, 4, 10, 11 and 13.

import {
  LIMITS, concat, fromDecimal, fromHex, readJson, refuse, same, sha256, toBase64, toHex, under, utf8,
} from "./bytes.js";
import { base64, readKey, readStatement } from "./statement.js";

const PAYLOAD_TYPE = "application/vnd.in-toto+json";
export const BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json";

function members(value, path, allowed) {
  if (!(value instanceof Map)) refuse("wrong_type", path, "expected an object");
  for (const name of allowed === null ? [] : value.keys()) {
    if (!allowed.includes(name)) refuse("unknown_member", under(path, name), "nobody signed this member");
  }
  return value;
}

function member(object, path, name, type = "string") {
  const at = under(path, name);
  if (!object.has(name)) refuse("missing", at, "is missing");
  const value = object.get(name);
  const is = type === "array" ? Array.isArray(value) : type === "object" ? value instanceof Map : typeof value === type;
  if (!is) refuse("wrong_type", at, `expected ${type}`);
  return value;
}

function must(object, path, name, wanted, code = "bad_value") {
  if (member(object, path, name) !== wanted) refuse(code, under(path, name), `must be ${wanted}`);
}

// Envelope: section 4.

export function readEnvelope(bytes) {
  return envelopeOf(readJson(bytes, LIMITS.envelope), "");
}

function envelopeOf(value, path) {
  const object = members(value, path, ["payloadType", "payload", "signatures"]);
  must(object, path, "payloadType", PAYLOAD_TYPE, "payload_type");
  const signatures = member(object, path, "signatures", "array");
  const at = under(path, "signatures");
  if (signatures.length !== 1) refuse("signature_count", at, "exactly one signature");
  const first = under(at, 0);
  const line = members(signatures[0], first, ["sig", "keyid"]);
  if (line.has("keyid") && utf8(member(line, first, "keyid")).length > 256) {
    refuse("string_too_long", under(first, "keyid"), "more than 256 bytes");
  }
  const signature = base64(member(line, first, "sig"), under(first, "sig"));
  const payload = base64(member(object, path, "payload"), under(path, "payload"));
  if (payload.length > LIMITS.statement.bytes) refuse("too_large", under(path, "payload"), "a statement that large");
  if (signature.length < 1 || signature.length > 72) refuse("bad_signature", under(first, "sig"), "1 to 72 bytes");
  return { payload, signature };
}

export const pae = (payload) => concat(utf8(`DSSEv1 28 ${PAYLOAD_TYPE} ${payload.length} `), payload);

/** Verifies an envelope under the key that its payload names. Throws a `Refusal`. */
export async function openEnvelope(envelope) {
  const statement = await readStatement(envelope.payload);
  const { key, id } = statement.signer;
  const signed = pae(envelope.payload);
  if (!(await ecdsaHolds(key, envelope.signature, signed))) {
    refuse("bad_signature", "", "not made with the key that the statement names");
  }
  const recordId = toHex(await sha256(signed));
  return { id: recordId, signerId: id ?? recordId, key, keyId: toHex(await sha256(key)), statement, envelope };
}

async function ecdsaHolds(spki, der, signed) {
  const signature = rawSignature(der);
  if (signature === null) return false;
  const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
  try {
    const key = await crypto.subtle.importKey("spki", spki, algorithm, false, ["verify"]);
    return await crypto.subtle.verify(algorithm, key, signature, signed);
  } catch {
    return false; // The point is not on the curve.
  }
}

/** ASN.1 DER `SEQUENCE { INTEGER r, INTEGER s }` to the 64 bytes that WebCrypto wants, or `null`. */
function rawSignature(der) {
  const raw = new Uint8Array(64);
  if (der.length < 8 || der[0] !== 0x30 || der[1] !== der.length - 2) return null;
  let at = 2;
  for (const end of [32, 64]) {
    const length = der[at + 1];
    let number = der.subarray(at + 2, at + 2 + length);
    if (der[at] !== 0x02 || length < 1 || number.length !== length || number[0] >= 0x80) return null;
    if (number[0] === 0 && (length === 1 || number[1] < 0x80)) return null; // zero, or not the shortest form
    if (number[0] === 0) number = number.subarray(1);
    if (number.length > 32) return null;
    raw.set(number, end - number.length);
    at += 2 + length;
  }
  return at === der.length ? raw : null;
}

// Leaf: section 11.

export function leafBytes(recordIdBytes, signature, key) {
  const [digest, content, raw] = [recordIdBytes, signature, key].map(toBase64);
  return utf8(
    `{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{"hashedRekordV002":{"data":{"algorithm":"SHA2_256",` +
      `"digest":"${digest}"},"signature":{"content":"${content}","verifier":{` +
      `"keyDetails":"PKIX_ECDSA_P256_SHA_256","publicKey":{"rawBytes":"${raw}"}}}}}}`,
  );
}

/** The one leaf that a record has. */
export const leafOf = async ({ id, envelope, key }) => leafBytes(fromHex(id, 32), envelope.signature, key);

export const leafHash = (leaf) => sha256(Uint8Array.of(0), leaf);

export function readLeaf(bytes) {
  const leaf = members(readJson(bytes, LIMITS.leaf), "", null);
  const [spec, hashed] = ["spec", "spec.hashedRekordV002"];
  must(leaf, "", "apiVersion", "0.0.2");
  must(leaf, "", "kind", "hashedrekord");
  const body = member(member(leaf, "", "spec", "object"), spec, "hashedRekordV002", "object");
  const [data, signature] = ["data", "signature"].map((name) => member(body, hashed, name, "object"));
  const verifier = member(signature, `${hashed}.signature`, "verifier", "object");
  const [inData, inVerifier] = [`${hashed}.data`, `${hashed}.signature.verifier`];
  must(data, inData, "algorithm", "SHA2_256");
  must(verifier, inVerifier, "keyDetails", "PKIX_ECDSA_P256_SHA_256");
  const bytesAt = (object, path, name) => base64(member(object, path, name), under(path, name));
  const digest = bytesAt(data, inData, "digest");
  if (digest.length !== 32) refuse("bad_value", `${inData}.digest`, "a SHA-256 has 32 bytes");
  const publicKey = member(verifier, inVerifier, "publicKey", "object");
  const key = readKey(bytesAt(publicKey, `${inVerifier}.publicKey`, "rawBytes"), `${inVerifier}.publicKey.rawBytes`);
  const content = bytesAt(signature, `${hashed}.signature`, "content");
  if (!same(leafBytes(digest, content, key), bytes)) refuse("not_canonical", "", "another spelling");
  return { recordId: toHex(digest), signature: content, key };
}

function checkLeaf(leaf, record) {
  if (leaf.recordId !== record.id) refuse("digest_mismatch", "", "the leaf of another record");
  if (!same(leaf.signature, record.envelope.signature)) refuse("digest_mismatch", "", "another signature");
  if (!same(leaf.key, record.key)) refuse("key_mismatch", "", "the leaf names another key than the statement");
}

// Bundle: section 13.

export const readBundle = (bytes) => bundleOf(readJson(bytes, LIMITS.bundle));

/** The bundle in JSON that was read already. */
export function bundleOf(value) {
  const bundle = members(value, "", ["mediaType", "verificationMaterial", "dsseEnvelope"]);
  must(bundle, "", "mediaType", BUNDLE_TYPE);
  const envelope = envelopeOf(member(bundle, "", "dsseEnvelope", "object"), "dsseEnvelope");
  const vm = "verificationMaterial";
  const material = members(member(bundle, "", vm, "object"), vm, ["publicKey", "tlogEntries"]);
  const keyAt = under(vm, "publicKey");
  const hint = member(members(member(material, vm, "publicKey", "object"), keyAt, ["hint"]), keyAt, "hint");
  if (fromHex(hint, 32) === null) refuse("bad_hex", under(keyAt, "hint"), "not a key id");
  const entries = member(material, vm, "tlogEntries", "array");
  if (entries.length !== 1) refuse("bad_value", under(vm, "tlogEntries"), "exactly one entry");
  return { envelope, hint, ...readEntry(entries[0], under(under(vm, "tlogEntries"), 0)) };
}

/** Protobuf writes 64-bit numbers as strings and may leave out a zero. */
function decimal(object, path, name, fallback) {
  if (fallback !== undefined && !object.has(name)) return fallback;
  const number = fromDecimal(member(object, path, name));
  if (number === null) refuse("bad_value", under(path, name), "not 0 to 2^63-1 in decimal");
  return number;
}

function hash(object, path, name) {
  const bytes = base64(member(object, path, name), under(path, name));
  if (bytes.length !== 32) refuse("bad_value", under(path, name), "not 32 bytes");
  return bytes;
}

function readEntry(value, at) {
  const entry = members(value, at, [
    "logIndex", "logId", "kindVersion", "integratedTime", "inclusionProof", "canonicalizedBody",
  ]);
  if (decimal(entry, at, "integratedTime", 0n) !== 0n) refuse("bad_value", under(at, "integratedTime"), "must be 0");
  const kind = member(entry, at, "kindVersion", "object");
  const named = ["kind", "version"].map((name) => member(kind, under(at, "kindVersion"), name));
  if (named.join(" ") !== "hashedrekord 0.0.2") refuse("bad_value", under(at, "kindVersion"), "another kind of entry");
  const index = decimal(entry, at, "logIndex", 0n);
  hash(member(entry, at, "logId", "object"), under(at, "logId"), "keyId");
  const leaf = base64(member(entry, at, "canonicalizedBody"), under(at, "canonicalizedBody"));
  const inProof = under(at, "inclusionProof");
  const proof = members(member(entry, at, "inclusionProof", "object"), inProof, [
    "logIndex", "rootHash", "treeSize", "hashes", "checkpoint",
  ]);
  if (decimal(proof, inProof, "logIndex", 0n) !== index) {
    refuse("contradiction", under(inProof, "logIndex"), "not the entry's own index");
  }
  const size = decimal(proof, inProof, "treeSize");
  if (index >= size) refuse("contradiction", under(inProof, "treeSize"), "the entry lies outside the tree");
  const list = proof.has("hashes") ? member(proof, inProof, "hashes", "array") : [];
  if (list.length > 63) refuse("too_many_items", under(inProof, "hashes"), "more than 63");
  const hashes = list.map((item, number) => {
    const path = under(under(inProof, "hashes"), number);
    const bytes = base64(item, path);
    if (bytes.length !== 32) refuse("bad_value", path, "not 32 bytes");
    return bytes;
  });
  const inCheckpoint = under(inProof, "checkpoint");
  const checkpoint = member(member(proof, inProof, "checkpoint", "object"), inCheckpoint, "envelope");
  if (utf8(checkpoint).length > 60_000) {
    refuse("string_too_long", under(inCheckpoint, "envelope"), "more than 60,000 bytes");
  }
  return { index, size, root: hash(proof, inProof, "rootHash"), hashes, checkpoint: utf8(checkpoint), leaf };
}

/** Leaf, hint, signature and statement of a bundle must name one key and one record. */
export function checkBundle(bundle, record) {
  const within = "canonicalizedBody";
  try {
    checkLeaf(readLeaf(bundle.leaf), record);
  } catch (error) {
    if (error.code) refuse(error.code, under(within, error.path).replace(/\.$/, ""), error.message);
    throw error;
  }
  if (bundle.hint !== record.keyId) {
    refuse("key_mismatch", "verificationMaterial.publicKey.hint", "the hint is another key than the statement's");
  }
}

// A signer's chain of control records: section 10.

/** Folds control records in the order of the home log. Positions are `[home log, index]`. */
export class Chain {
  static start(record, index) {
    const { kind, body } = record.statement;
    if (kind !== "control:v1" || body.action.what !== "create") refuse("chain_gap", "", "it starts with a `create`");
    const chain = new Chain();
    chain.signerId = record.id;
    chain.root = record.key;
    chain.recovery = body.action.recovery;
    chain.homeLogs = [body.action.home_log];
    chain.spans = [];
    chain.records = [record.id];
    chain.position = [0, index];
    return chain;
  }

  /** The fold of records without a log, numbered as they come. */
  static of(records) {
    if (records.length === 0) refuse("chain_gap", "", "no control records");
    const chain = Chain.start(records[0], 0n);
    for (const record of records.slice(1)) chain.apply(record, chain.position[1] + 1n);
    return chain;
  }

  get homeLog() {
    return this.homeLogs.at(-1);
  }

  apply(record, index) {
    const { kind, body } = record.statement;
    if (kind !== "control:v1") refuse("chain_gap", "", "not a control record");
    const { seq, previous, action } = body;
    if (record.signerId !== this.signerId) refuse("other_signer", "", "another signer's record");
    if (seq <= this.records.length) {
      if (this.records[seq - 1] === record.id) return;
      refuse("chain_fork", "", `there is already another record ${seq}`);
    }
    if (seq !== this.records.length + 1) refuse("chain_gap", "", "records before it are missing");
    if (previous !== this.records.at(-1)) refuse("chain_fork", "", "it follows another record");
    const position = [this.homeLogs.length - 1, index];
    if (!before(this.position, position)) refuse("chain_gap", "", "not at a later position");
    const byRoot = same(record.key, this.root);
    const byRecovery = this.recovery !== undefined && same(record.key, this.recovery);
    if (!byRoot && !(byRecovery && action.what === "rotate")) {
      refuse("not_authorised", "", "signed by a key that may not do this");
    }
    // A control record's subject is the id of the key that it introduces or revokes.
    this.change(action, record.statement.subjects[0].digest.sha256, position, byRoot);
    this.records.push(record.id);
    this.position = position;
  }

  change(action, keyId, position, byRoot) {
    const open = this.spans.filter((span) => !span.until);
    const closeAll = () => open.forEach((span) => (span.until = position));
    const span = open.find((span) => span.keyId === keyId);
    if (action.what === "delegate") {
      if (span || same(action.key, this.root)) refuse("not_authorised", "", "that key signs already");
      this.spans.push({ key: action.key, keyId, from: position });
    } else if (action.what === "revoke") {
      if (!span) refuse("not_authorised", "", "that is no open instance key");
      span.until = position;
    } else if (action.what === "rotate") {
      if (!byRoot) closeAll();
      this.root = action.key;
      this.recovery = action.recovery ?? this.recovery;
    } else if (action.what === "home_log") {
      this.homeLogs.push(action.home_log);
    } else if (action.what === "owner") {
      closeAll();
      this.root = action.key;
      this.recovery = action.recovery;
    } else {
      refuse("chain_fork", "", "a signer is created once");
    }
  }

  /** The position of an entry among the home logs, or `null` if that log never was one. */
  positionOf(origin, index) {
    const home = this.homeLogs.lastIndexOf(origin);
    return home < 0 ? null : [home, index];
  }

  /** Whether the key was an instance key at this position: `true`, `false` or never: `null`. */
  hadKey(key, position) {
    const spans = this.spans.filter((span) => same(span.key, key));
    if (spans.length === 0) return null;
    return spans.some((span) => before(span.from, position) && (!span.until || before(position, span.until)));
  }
}

const before = (a, b) => a[0] < b[0] || (a[0] === b[0] && a[1] < b[1]);
