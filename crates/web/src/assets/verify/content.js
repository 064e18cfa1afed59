// What opens a record's commitments: docs/format.md, section 7.

import { LIMITS, concat, fromHex, readJson, same, sha256, toHex, utf8 } from "./bytes.js";

export const PARTS = ["request", "response", "tokens", "exact"];

/** salt(x) = HMAC-SHA-256(secret, x). */
export async function salt(secret, part) {
  const key = await crypto.subtle.importKey("raw", secret, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  return new Uint8Array(await crypto.subtle.sign("HMAC", key, utf8(part)));
}

/** commitment(x) = SHA-256(salt ‖ bytes), in hex. */
export const commitment = async (salt, bytes) => toHex(await sha256(salt, bytes));

/** What a record commits to under each name; `undefined` where it commits to nothing. */
export function commitmentsOf(statement) {
  const { body, subjects } = statement;
  if (!body.commitments) return null;
  const subject = (name) => subjects.find((one) => one.name === name)?.digest.sha256;
  return { request: subject("request"), response: subject("response"), ...body.commitments };
}

/**
 * Which reading of `bytes` fits the record: `as_is`, `without_line_end`,
 * `without_longrun_member`, `stream`, `stream_without_longrun_member`; `null` if none does.
 * `saltOrSecret` is `{salt}` or `{secret}`.
 */
export async function openPart(statement, part, saltOrSecret, bytes) {
  const wanted = commitmentsOf(statement)?.[part];
  if (wanted === undefined) return null;
  const salted = saltOrSecret.salt ?? (await salt(saltOrSecret.secret, part));
  for (const [reading, read] of readings(part, bytes)) {
    if (read !== null && (await commitment(salted, read)) === wanted) return reading;
  }
  return null;
}

export const readSecret = (hex) => fromHex(hex.trim(), 32);

function* readings(part, bytes) {
  yield ["as_is", bytes];
  const line = withoutLineEnd(bytes);
  yield ["without_line_end", line];
  if (part !== "response") return;
  yield ["without_longrun_member", withoutMember(bytes) ?? (line && withoutMember(line))];
  const payloads = streamPayloads(bytes);
  if (payloads.length === 0) return;
  yield ["stream", joined(payloads)];
  for (let at = payloads.length - 1; at >= 0; at -= 1) {
    const unmarked = withoutMember(payloads[at]);
    if (unmarked === null) continue;
    yield ["stream_without_longrun_member", joined(payloads.with(at, unmarked))];
    return;
  }
}

const LF = 0x0a;
const CR = 0x0d;

function withoutLineEnd(bytes) {
  if (bytes.at(-1) !== LF) return null;
  return bytes.subarray(0, bytes.length - (bytes.at(-2) === CR ? 2 : 1));
}

// Bytes that are not UTF-8 must survive, so text is searched as Latin-1, one character a byte.

const latin1 = (bytes) => {
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return text;
};
const fromLatin1 = (text) => Uint8Array.from(text, (char) => char.charCodeAt(0));

/** Takes out the last literal `,"longrun":{…}` if only the closing brace follows; else `null`. */
function withoutMember(bytes) {
  const text = latin1(bytes);
  const start = text.lastIndexOf(',"longrun":{');
  if (start < 0) return null;
  const object = start + ',"longrun":'.length;
  for (let end = text.indexOf("}", object); end >= 0; end = text.indexOf("}", end + 1)) {
    if (!isJson(bytes.subarray(object, end + 1))) continue;
    if (!/^[ \t\n\f\r]*\}[ \t\n\f\r]*$/.test(text.slice(end + 1))) return null;
    return concat(bytes.subarray(0, start), bytes.subarray(end + 1));
  }
  return null;
}

function isJson(bytes) {
  try {
    readJson(bytes, LIMITS.exact);
    return true;
  } catch {
    return false;
  }
}

/** The `data` of each event but Longrun's own, by the WHATWG grammar. */
function streamPayloads(bytes) {
  const text = latin1(bytes).replace(/^\u00ef\u00bb\u00bf/, "");
  const lines = text.split(/\r\n|\n|\r/);
  lines.pop(); // What is not ended does not count.
  const found = [];
  let [data, own] = [null, false];
  for (const line of lines) {
    if (line === "") {
      if (data !== null && !own) found.push(fromLatin1(data.join("\n")));
      [data, own] = [null, false];
      continue;
    }
    const [, field, value = ""] = /^([^:]*)(?:: ?([^]*))?$/.exec(line);
    if (field === "data") data = [...(data ?? []), value];
    if (field === "event") own = value.startsWith("longrun.");
  }
  return found;
}

/** bytes(response) of a stream: its payloads but `[DONE]`, joined by LF. */
function joined(payloads) {
  const done = utf8("[DONE]");
  const counted = payloads.filter((payload) => !same(payload, done));
  return concat(...counted.flatMap((payload, at) => (at === 0 ? [payload] : [Uint8Array.of(LF), payload])));
}
