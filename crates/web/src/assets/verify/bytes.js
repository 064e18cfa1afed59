// Bytes, their spellings, and the one JSON that signed statements are read with.
//
// Written from docs/format.md, sections 1, 2 and 16. A statement must mean one thing to every
// reader, so `JSON.parse` will not do: it takes duplicate members, fractions and nulls, and it
// rounds large numbers without a word.

/** What is refused, by the codes of format.md section 17 and the path of the member. */
export class Refusal extends Error {
  constructor(code, path, message) {
    super(`${path ? `${path}: ` : ""}${message} (${code})`);
    this.code = code;
    this.path = path;
  }
}

export function refuse(code, path, message) {
  throw new Refusal(code, path, message);
}

/** `a` and `b` make `a.b`; an index makes `a[0]`. */
export function under(path, step) {
  if (typeof step === "number") return `${path}[${step}]`;
  return path === "" ? step : `${path}.${step}`;
}

const encoder = new TextEncoder();
export const utf8 = (text) => encoder.encode(text);

/** Text of UTF-8 bytes, or `null`. A byte order mark is kept, so that grammars refuse it. */
export function textOf(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return null;
  }
}

export function concat(...parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

export const same = (a, b) => a.length === b.length && a.every((byte, at) => byte === b[at]);

export const toHex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

/** Bytes of lower-case hex with exactly `count` bytes, or `null`. */
export function fromHex(text, count) {
  if (text.length !== 2 * count || !/^[0-9a-f]*$/.test(text)) return null;
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

export function toBase64(bytes) {
  let binary = "";
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary);
}

/** Bytes of RFC 4648 base64 with padding and zero unused bits, or `null`. `atob` alone is laxer. */
export function fromBase64(text) {
  if (text.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(text)) return null;
  let bytes;
  try {
    bytes = Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
  } catch {
    return null;
  }
  return toBase64(bytes) === text ? bytes : null;
}

/** A number in decimal without signs or leading zeros, at most 2^63-1, as a BigInt, or `null`. */
export function fromDecimal(text) {
  if (!/^(0|[1-9][0-9]{0,18})$/.test(text)) return null;
  const number = BigInt(text);
  return number < 1n << 63n ? number : null;
}

export async function sha256(...parts) {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", concat(...parts)));
}

/** Format.md section 16: bytes, depth, bytes of one string, items of one array or object. */
export const LIMITS = {
  statement: { bytes: 48_000, depth: 16, string: 4096, items: 1024 },
  envelope: { bytes: 65_535, depth: 4, string: 64_000, items: 16 },
  leaf: { bytes: 1024, depth: 8, string: 256, items: 8 },
  bundle: { bytes: 262_144, depth: 10, string: 64_000, items: 64 },
  exact: { bytes: 4096, depth: 4, string: 256, items: 64 },
  policy: { bytes: 16_777_216, depth: 13, string: 64_000, items: 10_000 },
};

/** An answer about a call says null and is nobody's signed word; the bundles in it are read strictly. */
const CALL = { bytes: 67_108_864, depth: 128, string: Infinity, items: Infinity, lax: true };
const CALL_ONCE = ["attempts", "bundles", "observation", "receipt"];

/** The bytes of each value of a file that is JSON but for nulls and fractions, by its path. */
export function rawValues(bytes) {
  const text = textOf(bytes);
  if (text === null) refuse("utf8", "", "not UTF-8");
  const reader = new Reader(text, CALL);
  reader.value("", 1);
  if (reader.space() < text.length) refuse("trailing_bytes", "", "something follows the value");
  return (path) => {
    const [start, end] = reader.places.get(path) ?? [0, 0];
    return utf8(text.slice(start, end));
  };
}

/**
 * Reads strict JSON. Objects become `Map`s, so that a member called `__proto__` is a member.
 * Throws a `Refusal`.
 */
export function readJson(bytes, limits) {
  if (bytes.length > limits.bytes) refuse("too_large", "", `more than ${limits.bytes} bytes`);
  const text = textOf(bytes);
  if (text === null) refuse("utf8", "", "not UTF-8");
  const reader = new Reader(text, limits);
  const value = reader.value("", 1);
  if (reader.space() < text.length) refuse("trailing_bytes", "", "something follows the value");
  return value;
}

class Reader {
  constructor(text, limits) {
    this.text = text;
    this.limits = limits;
    this.at = 0;
    this.places = new Map();
  }

  space() {
    while (" \t\n\r".includes(this.text[this.at] ?? "x")) this.at += 1;
    return this.at;
  }

  /** What the sticky pattern matches here, which is then behind us. */
  take(pattern) {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text);
    if (found) this.at = pattern.lastIndex;
    return found;
  }

  value(path, depth) {
    const start = this.space();
    const value = this.bareValue(path, depth);
    if (this.limits.lax) this.places.set(path, [start, this.at]);
    return value;
  }

  bareValue(path, depth) {
    const first = this.text[this.at];
    if (first === "{") return this.object(path, depth);
    if (first === "[") return this.array(path, depth);
    if (first === '"') return this.string(path);
    const word = this.take(/true|false|null/y)?.[0];
    if (word === "null" && this.limits.lax) return null;
    if (this.limits.lax && !word) return this.take(/-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?/y) ?? refuse("syntax", path, "no value");
    if (word === "null") refuse("null", path, "leave the member out instead");
    return word ? word === "true" : this.integer(path);
  }

  integer(path) {
    const found = this.take(/(-?)(0|[1-9][0-9]*)/y);
    if (!found || /[0-9]/.test(this.text[this.at] ?? "")) refuse("syntax", path, "expected a JSON value");
    if (/[.eE]/.test(this.text[this.at] ?? "") || found[0] === "-0") {
      refuse("not_integer", path, "only integers");
    }
    const number = Number(found[0]);
    if (!Number.isSafeInteger(number)) refuse("integer_range", path, "beyond 2^53-1");
    return number;
  }

  string(path) {
    let out = "";
    this.at += 1;
    for (;;) {
      out += this.take(/[^"\\\u0000-\u001f]*/y)[0];
      if (out.length > this.limits.string || utf8(out).length > this.limits.string) {
        refuse("string_too_long", path, `a string of more than ${this.limits.string} bytes`);
      }
      if (this.take(/"/y)) break;
      const escape = this.take(/\\(?:u([0-9a-fA-F]{4})|(["\\/bfnrt]))/y);
      if (!escape) refuse("syntax", path, "a string that JSON does not have");
      const short = { b: "\b", f: "\f", n: "\n", r: "\r", t: "\t" };
      out += escape[1] ? String.fromCharCode(parseInt(escape[1], 16)) : (short[escape[2]] ?? escape[2]);
    }
    // The text itself is well-formed; only escapes can have left half a pair.
    if (/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/.test(out)) {
      refuse("syntax", path, "half a surrogate pair");
    }
    return out;
  }

  object(path, depth) {
    const members = new Map();
    this.items(path, depth, /\}/y, () => {
      if (this.text[this.at] !== '"') refuse("syntax", path, "expected a member name");
      const name = this.string(path);
      const once = !this.limits.lax || CALL_ONCE.includes(name);
      if (once && members.has(name)) refuse("duplicate_key", under(path, name), "it is there twice");
      this.space();
      if (!this.take(/:/y)) refuse("syntax", path, "expected a colon");
      members.set(name, this.value(under(path, this.step(name)), depth + 1));
    });
    return members;
  }

  /** Places are looked up by path, so no other member's name of a lax file may spell one. */
  step(name) {
    return this.limits.lax ? name.replace(/[\\.[]|^$/g, "\\$&") : name;
  }

  array(path, depth) {
    const items = [];
    this.items(path, depth, /\]/y, () => items.push(this.value(under(path, items.length), depth + 1)));
    return items;
  }

  /** What objects and arrays have in common: brackets, commas, depth and count. */
  items(path, depth, close, read) {
    if (depth > this.limits.depth) refuse("too_deep", path, `deeper than ${this.limits.depth}`);
    this.at += 1;
    this.space();
    if (this.take(close)) return;
    for (let count = 0; ; ) {
      read();
      count += 1;
      this.space();
      if (this.take(close)) return;
      if (!this.take(/,/y)) refuse("syntax", path, "expected a comma or the end");
      if (count >= this.limits.items) refuse("too_many_items", path, `more than ${this.limits.items}`);
      this.space();
    }
  }
}
