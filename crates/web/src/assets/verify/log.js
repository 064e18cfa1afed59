// Transparency logs: proofs (RFC 6962, RFC 9162), C2SP signed-note, tlog-checkpoint,
// tlog-cosignature, tlog-policy and tlog-proof. Sizes and indices are BigInts.
//
// What is no checkpoint, key, policy or proof throws `Malformed`; a signature that claims to be a
// known key's and does not verify throws `BadSignature`, because it condemns the whole note.

import { fromBase64, fromDecimal, same, sha256, textOf, toBase64, toHex, utf8 } from "./bytes.js";

export class Malformed extends Error {}
export class BadSignature extends Error {}

function need(condition, message) {
  if (!condition) throw new Malformed(message);
}

// Merkle trees.

const node = (left, right) => sha256(Uint8Array.of(1), left, right);
const EMPTY_ROOT = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="; // SHA-256 of nothing

/** Whether `proof` leads from the leaf to the root: RFC 9162, 2.1.3.2. */
export async function inclusionHolds(leafHash, index, size, proof, root) {
  if (index >= size) return false;
  let [fn, sn, hash] = [index, size - 1n, leafHash];
  for (const sibling of proof) {
    if (sn === 0n) return false;
    if (fn & 1n || fn === sn) {
      hash = await node(sibling, hash);
      while (!(fn & 1n) && fn !== 0n) [fn, sn] = [fn >> 1n, sn >> 1n];
    } else {
      hash = await node(hash, sibling);
    }
    [fn, sn] = [fn >> 1n, sn >> 1n];
  }
  return sn === 0n && same(hash, root);
}

/** Whether `proof` shows that the old tree is a prefix of the new one: RFC 9162, 2.1.4.2. */
export async function consistencyHolds(oldSize, oldRoot, size, root, proof) {
  if (oldSize > size) return false;
  if (oldSize === size) return proof.length === 0 && same(oldRoot, root);
  if (oldSize === 0n) return proof.length === 0 && toBase64(oldRoot) === EMPTY_ROOT;
  const isPower = (oldSize & (oldSize - 1n)) === 0n;
  const [first, ...rest] = isPower ? [oldRoot, ...proof] : proof;
  if (first === undefined) return false;
  let [fn, sn] = [oldSize - 1n, size - 1n];
  while (fn & 1n) [fn, sn] = [fn >> 1n, sn >> 1n];
  let [fr, sr] = [first, first];
  for (const hash of rest) {
    if (sn === 0n) return false;
    if (fn & 1n || fn === sn) {
      [fr, sr] = [await node(hash, fr), await node(hash, sr)];
      while (!(fn & 1n) && fn !== 0n) [fn, sn] = [fn >> 1n, sn >> 1n];
    } else {
      sr = await node(sr, hash);
    }
    [fn, sn] = [fn >> 1n, sn >> 1n];
  }
  return sn === 0n && same(fr, oldRoot) && same(sr, root);
}

// Ed25519 keys. WebCrypto takes any 32 bytes as a key, also points of small order, under which
// anybody can make signatures; those are refused here (RFC 8032, 5.1).

const P = 2n ** 255n - 19n;
const mod = (number) => ((number % P) + P) % P;

function power(base, exponent) {
  let result = 1n;
  for (; exponent > 0n; exponent >>= 1n, base = mod(base * base)) if (exponent & 1n) result = mod(result * base);
  return result;
}

const inverse = (number) => power(number, P - 2n);
const D = mod(-121665n * inverse(121666n));

/** Whether the bytes are a point on the curve whose order is not 1, 2, 4 or 8. */
function isUsablePoint(bytes) {
  const little = BigInt(`0x${toHex(Uint8Array.from(bytes).reverse())}`);
  let y = mod(little & (2n ** 255n - 1n));
  const xx = mod((y * y - 1n) * inverse(D * y * y + 1n));
  // Doubling needs only x² and y: x² of 2P follows from both, and its sign does not matter.
  if (xx !== 0n && power(xx, (P - 1n) / 2n) !== 1n) return false;
  let squared = xx;
  for (let doublings = 0; doublings < 3; doublings += 1) {
    const product = mod(D * squared * y * y);
    const yy = mod(y * y);
    y = mod((yy + squared) * inverse(1n - product));
    squared = mod(4n * mod(squared * yy) * power(inverse(1n + product), 2n));
  }
  return !(squared === 0n && y === 1n);
}

export const TYPE_LOG = 1;
export const TYPE_WITNESS = 4;

function isName(name) {
  return name !== "" && utf8(name).length <= 1024 && !/[\p{White_Space}+\u0000-\u001f]/u.test(name);
}

/** Reads a verifier key `<name>+<id>+<base64>` of one type (signed-note). */
export async function readVkey(text, type) {
  const [, name, id, encoded] = /^([^+]*)\+([^+]*)\+([^]*)$/.exec(text) ?? [];
  need(name !== undefined && isName(name), "not a verifier key <name>+<id>+<base64>");
  const bytes = fromBase64(encoded);
  need(bytes !== null && bytes.length > 0, "the key is not base64");
  const keyId = (await sha256(utf8(`${name}\n`), bytes)).subarray(0, 4);
  need(toHex(keyId) === id, "the id does not belong to name and key");
  need(bytes[0] === type, `the type of signature is not ${type}`);
  need(bytes.length === 33 && isUsablePoint(bytes.subarray(1)), "not a usable Ed25519 key");
  return { name, keyId, public: bytes.subarray(1) };
}

async function ed25519Holds(key, signature, message) {
  if (signature.length !== 64) return false;
  key.imported ??= crypto.subtle.importKey("raw", key.public, { name: "Ed25519" }, false, ["verify"]);
  return crypto.subtle.verify({ name: "Ed25519" }, await key.imported, signature, message);
}

// Notes and checkpoints.

/** Reads a signed checkpoint; verifies nothing. */
export function readCheckpoint(bytes) {
  need(bytes.length <= 512 * 1024, "too large for a note");
  const note = textOf(bytes);
  need(note !== null, "a note is UTF-8");
  need(!/[\u0000-\u0009\u000b-\u001f]/.test(note), "control characters in a note");
  const split = note.lastIndexOf("\n\n");
  need(split >= 0, "no blank line before the signatures");
  const text = note.slice(0, split + 1);
  const lines = note.slice(split + 2).split("\n");
  need(lines.pop() === "" && lines.length > 0, "the last signature line has no newline");
  need(lines.length <= 64, "more than 64 signatures");
  const signatures = lines.map((line) => {
    const [, name, encoded] = /^\u2014 ([^ ]*) ([^]*)$/.exec(line) ?? [];
    need(name !== undefined && isName(name), "not a signature line");
    const raw = fromBase64(encoded);
    need(raw !== null && raw.length > 4, "a signature is not base64 of a key id and more");
    return { name, keyId: raw.subarray(0, 4), signature: raw.subarray(4) };
  });
  const [origin, sizeText, rootText, ...more] = text.slice(0, -1).split("\n");
  need(rootText !== undefined && more.length === 0, "not the three lines origin, size and root");
  need(origin !== "", "the origin is empty");
  const [size, root] = [fromDecimal(sizeText), fromBase64(rootText)];
  need(size !== null, "the size is not a decimal number");
  need(root !== null && root.length === 32, "the root is not a hash");
  need(size !== 0n || rootText === EMPTY_ROOT, "an empty tree has another root");
  return { origin, size, root, text, signatures };
}

const linesOf = (checkpoint, key) =>
  checkpoint.signatures.filter((line) => line.name === key.name && same(line.keyId, key.keyId));

/** Whether this log key signed. */
export async function signedBy(checkpoint, key) {
  const lines = linesOf(checkpoint, key);
  for (const { signature } of lines) {
    const holds = await ed25519Holds(key, signature, utf8(checkpoint.text));
    if (!holds) throw new BadSignature(`the signature of ${key.name} does not verify`);
  }
  return lines.length > 0;
}

/** POSIX seconds of this witness's latest cosignature, or `null` if it made none. */
export async function cosignedBy(checkpoint, key) {
  let latest = null;
  for (const { signature } of linesOf(checkpoint, key)) {
    const refuse = () => {
      throw new BadSignature(`the cosignature of ${key.name} does not verify`);
    };
    if (signature.length !== 72) refuse();
    const time = new DataView(signature.buffer, signature.byteOffset).getBigUint64(0);
    if (time >= 1n << 63n) refuse();
    const message = utf8(`cosignature/v1\ntime ${time}\n${checkpoint.text}`);
    if (!(await ed25519Holds(key, signature.subarray(8), message))) refuse();
    if (latest === null || time > latest) latest = time;
  }
  return latest;
}

// Policies.

/**
 * Reads a tlog-policy: `{logs, witnesses, reached}`. `reached` tells whether a set of witness ids
 * (their names' octets) is a quorum; it is `null` for `quorum none`.
 */
export async function readLogPolicy(bytes) {
  // The format is octets; Latin-1 keeps each of them apart, names are decoded where they are shown.
  const octets = Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
  const lines = octets.replace(/\n$/, "").split("\n");
  const policy = { logs: [], witnesses: [], groups: 0 };
  const defined = new Map(); // name → (set of witnesses) → reached?
  const used = new Set();
  let quorum;
  for (const [number, line] of lines.entries()) {
    const at = (message) => `policy line ${number + 1}: ${message}`;
    need(!/[\u0000-\u0008\u000b-\u001f\u007f]/.test(line), at("control characters"));
    const [what, ...items] = line.split(/[ \t]+/).filter((item) => item !== "");
    if (what === undefined || what.startsWith("#")) continue;
    const decode = (item) => textOf(Uint8Array.from(item, (char) => char.charCodeAt(0))) ?? item;
    const lookUp = (name) => {
      need(defined.has(name), at(`${name} is not defined before this line`));
      return defined.get(name);
    };
    const define = (name, reached) => {
      need(name !== "none" && !defined.has(name), at(`${name} is reserved or already defined`));
      defined.set(name, reached);
    };
    const add = async (list, vkey, type, more) => {
      const key = await readVkey(decode(vkey), type).catch((error) => need(false, at(error.message)));
      need(list.length < 256, at("more than 256"));
      need(!list.some((known) => same(known.key.public, key.public)), at("the same public key again"));
      list.push({ key, ...more });
    };
    if (what === "log" && [1, 2].includes(items.length)) {
      await add(policy.logs, items[0], TYPE_LOG, {});
    } else if (what === "witness" && [2, 3].includes(items.length)) {
      const [id, vkey] = items;
      await add(policy.witnesses, vkey, TYPE_WITNESS, { id, name: decode(id) });
      define(id, (signed) => signed.has(id));
    } else if (what === "group" && items.length >= 3) {
      const [name, threshold, ...names] = items;
      const k = threshold === "any" ? 1n : threshold === "all" ? BigInt(names.length) : fromDecimal(threshold);
      need(k !== null && k >= 1n && k <= names.length, at("expected all, any or a number of the members"));
      need((policy.groups += 1) <= 256, at("more than 256 groups"));
      const members = names.map((member) => {
        const reached = lookUp(member);
        need(!used.has(member), at(`${member} is already a member of a group`));
        used.add(member);
        return reached;
      });
      define(name, (signed) => members.filter((reached) => reached(signed)).length >= k);
    } else if (what === "quorum" && items.length === 1) {
      need(quorum === undefined, at("there is already a quorum line"));
      quorum = items[0] === "none" ? null : lookUp(items[0]);
    } else {
      need(false, at("not a log, witness, group or quorum line"));
    }
  }
  need(quorum !== undefined, "there is no quorum line");
  return { ...policy, reached: quorum };
}

/** Whether a log of the policy signed under its own name. */
export async function logThatSigned(policy, checkpoint) {
  for (const { key } of policy.logs.filter((log) => log.key.name === checkpoint.origin)) {
    if (await signedBy(checkpoint, key)) return key;
  }
  return null;
}

/** The known witnesses that cosigned, and whether they are enough: `null` if none are asked for. */
export async function witnessing(policy, checkpoint) {
  const cosigned = [];
  for (const { id, name, key } of policy.witnesses) {
    const time = await cosignedBy(checkpoint, key);
    if (time !== null) cosigned.push({ id, name, time });
  }
  const signed = new Set(cosigned.map(({ id }) => id));
  return { cosigned, quorum: policy.reached === null ? null : policy.reached(signed) };
}

// Proof files.

export const PROOF_HEADER = "c2sp.org/tlog-proof@v1";

/** Reads a tlog-proof: `{extra, index, hashes, checkpoint}`; verifies nothing. */
export function readProof(bytes) {
  need(bytes.length <= 1024 * 1024, "too large for a proof");
  const text = textOf(bytes);
  need(text !== null, "a proof is UTF-8");
  const split = text.indexOf("\n\n");
  need(split >= 0, "no empty line before the checkpoint");
  const lines = text.slice(0, split).split("\n");
  need(lines.shift() === PROOF_HEADER, "another first line");
  const after = (prefix) => (lines[0]?.startsWith(prefix) ? lines.shift().slice(prefix.length) : null);
  const encoded = after("extra ");
  const extra = encoded === null ? null : fromBase64(encoded);
  need(encoded === null || extra !== null, "`extra` is not base64");
  const index = fromDecimal(after("index ") ?? "");
  need(index !== null, "no index line");
  const hashes = lines.map(fromBase64);
  need(hashes.every((hash) => hash?.length === 32) && hashes.length <= 63, "not a list of at most 63 hashes");
  return { extra, index, hashes, checkpoint: readCheckpoint(utf8(text.slice(split + 2))) };
}
