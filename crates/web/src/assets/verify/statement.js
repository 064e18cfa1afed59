// What a statement may say: docs/format.md, sections 5 to 10.
//
// Every rule that a single statement can be held to, so that a signer cannot have a nonsense
// counted by one reader and refused by another. Members that are not listed are skipped: the
// signed bytes keep them.

import { LIMITS, fromBase64, fromHex, readJson, refuse, same, sha256, toHex, under, utf8 } from "./bytes.js";

const INTEGER_MAX = 2 ** 53 - 1;
const SPKI_START = fromHex("3059301306072a8648ce3d020106082a8648ce3d03010703420004", 27);

// Types. Each takes a value and its path, returns what it read, and refuses the rest.

function typed(value, type, path) {
  const is = Array.isArray(value) ? "array" : value instanceof Map ? "object" : typeof value;
  if (is !== type) refuse("wrong_type", path, `expected ${type}, found ${is}`);
  return value;
}

/** A string, refused where `test` does not hold. */
const string = (code, test) => (value, path) => {
  if (!test(typed(value, "string", path))) refuse(code, path, `not one of the values allowed: ${value}`);
  return value;
};

const whole = (min, max) => (value, path) => {
  typed(value, "number", path);
  if (value < min || value > max) refuse("bad_value", path, `not within ${min} to ${max}`);
  return value;
};

const hex = (bytes) => string("bad_hex", (text) => fromHex(text, bytes) !== null);
const digest = hex(32);
const nonce = hex(16);
const words = (...list) => string("bad_value", (text) => list.includes(text));
const name = string("bad_value", (text) => /^[a-z][a-z0-9_.-]{0,63}$/.test(text));
const text = (max) => string("bad_value", (t) => t !== "" && utf8(t).length <= max && !/\p{Cc}/u.test(t));
const boolean = (value, path) => typed(value, "boolean", path);
const integer = whole(0, INTEGER_MAX);
const number32 = whole(0, 2 ** 32 - 1);
const count = whole(0, 65_535);
const seq = whole(1, INTEGER_MAX);
const status = whole(100, 599);

function bucket(edges) {
  const set = new Set(edges);
  return (value, path) => {
    integer(value, path);
    if (!set.has(value)) refuse("bad_bucket", path, "not the lower edge of a bucket");
    return value;
  };
}

const powers = (count, make) => Array.from({ length: count }, (_, k) => make(2 ** k)).flat();
export const DURATION_EDGES_US = [0, ...powers(30, (p) => [1000, 1189, 1414, 1682].map((base) => base * p))];
export const TOKEN_EDGES = [0, 1, ...powers(31, (p) => [2 * p, 3 * p])];
const duration = bucket(DURATION_EDGES_US);
const tokens = bucket(TOKEN_EDGES);

function time(value, path) {
  if (integer(value, path) % 10_000 !== 0) refuse("bad_bucket", path, "not floored to 10,000 ms");
  return value;
}

/** A P-256 key as its SPKI; whether the point is on the curve shows when it is used. */
export function readKey(bytes, path) {
  if (bytes.length !== 91 || !same(bytes.subarray(0, 27), SPKI_START)) {
    refuse("bad_key", path, "not the SPKI of a P-256 key with the uncompressed point");
  }
  return bytes;
}

export function base64(value, path) {
  const bytes = fromBase64(typed(value, "string", path));
  if (bytes === null) refuse("base64", path, "not canonical base64");
  return bytes;
}

const key = (value, path) => readKey(base64(value, path), path);

const logOrigin = string(
  "bad_value",
  (t) => t !== "" && utf8(t).length <= 255 && !/[\p{White_Space}+\p{Cc}]/u.test(t),
);

/** A signer id, or a web origin in the one spelling of format.md section 6. */
const provider = string("bad_value", (t) => (t.includes("://") ? isOrigin(t) : fromHex(t, 32) !== null));

/** `scheme://host[:port]` in its one spelling. */
function isOrigin(t) {
  const parts = /^(https?):\/\/([a-z0-9.-]+|\[[0-9a-f:.]{2,}\])(?::([1-9][0-9]{0,4}))?$/.exec(t);
  if (!parts || utf8(t).length > 255) return false;
  const [, scheme, , port] = parts;
  return port === undefined || (Number(port) <= 65_535 && port !== { http: "80", https: "443" }[scheme]);
}

/** A web origin, or a key with the ways to whoever holds it, in the one spelling of format.md. */
function isAddress(t) {
  if (!t.startsWith("iroh://")) return isOrigin(t);
  const parts = /^iroh:\/\/[0-9a-f]{64}\?(?:relay=([^&]*)(?:&|$))?(?:direct=([^&]*(?:&direct=[^&]*)*))?$/.exec(t);
  if (!parts || t.endsWith("&") || utf8(t).length > 600) return false;
  const [, relay, ways] = parts;
  const direct = ways === undefined ? [] : ways.split("&direct=");
  if (relay === undefined ? direct.length === 0 : !isOrigin(relay)) return false;
  return direct.length <= 4 && new Set(direct).size === direct.length && direct.every(isDirect);
}

/** `ip:port`; IPv6 in brackets and as in RFC 5952, with no IPv4 address inside. */
function isDirect(t) {
  const parts = /^([0-9.]+|\[[0-9a-f:]+\]):([1-9][0-9]{0,4})$/.exec(t);
  if (!parts || Number(parts[2]) > 65_535 || !URL.canParse(`http://${parts[1]}`)) return false;
  const mapped = /^\[::ffff:[0-9a-f]+:[0-9a-f]+\]$/.test(parts[1]);
  return new URL(`http://${parts[1]}`).hostname === parts[1] && !mapped;
}

const optional = (read) => ({ read, optional: true });

/** An object with these members; `check` sees them all and refuses what contradicts. */
const object = (members, check) => (value, path) => {
  typed(value, "object", path);
  const read = {};
  for (const [member, type] of Object.entries(members)) {
    const at = under(path, member);
    if (value.has(member)) read[member] = (type.read ?? type)(value.get(member), at);
    else if (!type.optional) refuse("missing", at, "is missing");
  }
  check?.(read, path);
  return read;
};

const list = (read) => (value, path) => typed(value, "array", path).map((item, at) => read(item, under(path, at)));

function contradiction(holds, path, member, message) {
  if (!holds) refuse("contradiction", under(path, member), message);
}

// Outcomes and the faults they may carry: section 9.

const FAULTS = {
  ok: [],
  client_error: ["client", "gateway", "unknown"],
  rate_limited: ["client", "gateway", "unknown"],
  capacity: ["provider"],
  provider_error: ["provider", "unknown"],
  timeout: ["provider", "network", "client", "gateway", "unknown"],
  truncated: ["provider", "network", "gateway", "unknown"],
  malformed: ["provider", "unknown"],
  schema_violation: ["provider", "client", "unknown"],
  refused: ["unknown", "client", "provider"],
  connection: ["unknown", "provider", "network", "gateway"],
  canceled: ["client", "gateway", "unknown"],
  gateway_error: ["gateway"],
};
const outcome = words(...Object.keys(FAULTS));

// Kinds: section 10.

const ACTIONS = {
  create: object({
    name: text(128),
    roles: (value, path) => {
      const roles = list(name)(value, path);
      if (roles.length < 1 || roles.length > 16) refuse("bad_value", path, "1 to 16 roles");
      return roles;
    },
    home_log: logOrigin,
    recovery: optional(key),
  }),
  delegate: object({ key, name: optional(text(128)) }),
  revoke: object({ key_id: digest, reason: words("retired", "lost", "compromised") }),
  rotate: object({ key, recovery: optional(key) }),
  home_log: object({ home_log: logOrigin }),
  owner: object({ name: text(128), key, recovery: optional(key) }),
};

/** Exactly one member, and a known one: what is not understood might be a revocation. */
function action(value, path) {
  const members = [...typed(value, "object", path)];
  if (members.length !== 1) refuse("bad_value", path, "exactly one action");
  const [[what, details]] = members;
  if (!Object.hasOwn(ACTIONS, what)) refuse("bad_value", under(path, what), "an unknown action");
  return { what, ...ACTIONS[what](details, under(path, what)) };
}

const control = object(
  { seq, previous: optional(digest), at_ms: time, action },
  ({ seq, previous, action }, path) => {
    const first = action.what === "create";
    contradiction(first === (seq === 1), path, "action", "`create` is the first record and no other");
    contradiction(first === (previous === undefined), path, "previous", "all but the first name the one before");
  },
);

const basis = words("computed", "declared");
const artifact = object(
  { name: optional(text(256)), sha256: optional(digest), bytes: optional(integer), basis },
  ({ sha256, basis }, path) =>
    contradiction(basis !== "computed" || sha256 !== undefined, path, "sha256", "what is computed has a digest"),
);
const property = object({ value: text(64), basis });
const manifest = object({
  at_ms: time,
  model: text(256),
  weights: artifact,
  tokenizer: artifact,
  chat_template: artifact,
  precision: property,
  kv_precision: property,
  engine: object({ name: text(64), version: text(128), basis }),
  sampler: text(1024),
  batch_size: optional(number32),
  context_tokens: optional(integer),
});

const endpoint = object({ provider, model: text(256) });
const place = object({ endpoint, seq });
const usage = object({ prompt_tokens: tokens, completion_tokens: tokens });

const receipt = object(
  {
    stream: place,
    manifest: digest,
    caller: optional(object({ nonce, observer: digest, seq })),
    executed: object({
      temperature_ppm: optional(whole(0, 100_000_000)),
      top_p_ppm: optional(whole(0, 1_000_000)),
      seed: optional(hex(8)),
      max_tokens: optional(integer),
      n: whole(1, 65_535),
      stop: count,
      logprobs: optional(count),
      tools: count,
      response_format: words("text", "json_object", "json_schema"),
    }),
    commitments: object({ tokens: optional(digest), exact: digest }),
    usage: optional(usage),
    finish: optional(words("stop", "length", "tool_calls", "content_filter", "canceled", "error", "other")),
    outcome,
    http_status: status,
    streamed: boolean,
    timing: object(
      { start_ms: time, queue_us: duration, ttft_us: optional(duration), total_us: duration },
      ({ queue_us, ttft_us, total_us }, path) => {
        contradiction(queue_us <= total_us, path, "queue_us", "longer than all of it");
        contradiction((ttft_us ?? 0) <= total_us, path, "ttft_us", "longer than all of it");
      },
    ),
    price_micro_credits: optional(integer),
  },
  ({ outcome, finish, http_status }, path) => {
    contradiction(outcome !== "gateway_error", path, "outcome", "a provider is no gateway");
    if (outcome !== "ok") return;
    contradiction(finish !== undefined, path, "finish", "a good answer ended somehow");
    contradiction(http_status >= 200 && http_status < 300, path, "http_status", "a good answer is 2xx");
  },
);

const verdict = words("passed", "failed", "not_checked");
const conditions = object({
  prompt: words("le_512", "le_4k", "le_32k", "gt_32k"),
  load: words("solo", "light", "busy", "heavy"),
  region: name,
  week: words("weekday", "weekend"),
  purpose: optional(words("check")),
});
const observation = object(
  {
    stream: place,
    call: nonce,
    attempt: whole(1, 1000),
    nonce,
    receipt: optional(digest),
    receipt_check: words("verified", "missing", "invalid", "not_joined"),
    outcome,
    fault: optional(words("client", "gateway", "network", "provider", "unknown")),
    http_status: optional(status),
    streamed: boolean,
    timing: object(
      {
        start_ms: time,
        ttft_us: optional(duration),
        inter_token: optional(
          object({ p50_us: duration, p90_us: duration, p99_us: duration }, ({ p50_us, p90_us, p99_us }, path) => {
            contradiction(p50_us <= p90_us, path, "p50_us", "quantiles do not decrease");
            contradiction(p90_us <= p99_us, path, "p90_us", "quantiles do not decrease");
          }),
        ),
        total_us: duration,
      },
      ({ ttft_us, total_us }, path) =>
        contradiction((ttft_us ?? 0) <= total_us, path, "ttft_us", "longer than all of it"),
    ),
    usage: optional(usage),
    schema: verdict,
    tools: verdict,
    conditions,
    client: digest,
    tls_key: optional(digest),
    commitments: object({ exact: digest }),
  },
  (seen, path) => {
    const { receipt_check, outcome, fault, timing } = seen;
    const outside = seen.stream.endpoint.provider.includes("://");
    contradiction(outside === (receipt_check === "not_joined"), path, "receipt_check", "joined or not");
    if (receipt_check === "verified") contradiction(seen.receipt, path, "receipt", "what was verified has an id");
    if (["missing", "not_joined"].includes(receipt_check)) {
      contradiction(!seen.receipt, path, "receipt", "there was none");
    }
    const fits = outcome === "ok" ? fault === undefined : FAULTS[outcome].includes(fault);
    contradiction(fits, path, "fault", `not a fault of ${outcome}`);
    const broke = seen.schema === "failed" || seen.tools === "failed";
    contradiction(outcome !== "schema_violation" || broke, path, "outcome", "no schema or tool check failed");
    contradiction(seen.streamed || !timing.inter_token, path, "timing.inter_token", "not streamed");
    contradiction(outcome !== "ok" || seen.http_status, path, "http_status", "a good answer has a status");
  },
);

function outcomes(value, path) {
  const counts = [...typed(value, "object", path)];
  return counts.map(([what, number]) => {
    if (!Object.hasOwn(FAULTS, what)) refuse("bad_value", under(path, what), "an unknown outcome");
    return [what, whole(1, INTEGER_MAX)(number, under(path, what))];
  });
}

const voided = object(
  {
    stream: object({ endpoint, kind: words("receipt", "observation") }),
    at_ms: time,
    ranges: list(object({ first: seq, last: seq })),
    reason: words("crash", "spool_full", "unused"),
    outcomes,
  },
  ({ ranges, reason, outcomes }, path) => {
    const at = under(path, "ranges");
    if (ranges.length < 1 || ranges.length > 256) refuse("bad_value", at, "1 to 256 ranges");
    let numbers = 0n;
    ranges.forEach(({ first, last }, index) => {
      const before = ranges[index - 1];
      contradiction(first <= last, under(at, index), "first", "a range that runs backwards");
      contradiction(!before || first > before.last + 1, under(at, index), "first", "not apart from the one before");
      numbers += BigInt(last) - BigInt(first) + 1n;
    });
    const known = outcomes.reduce((sum, [, number]) => sum + BigInt(number), 0n);
    contradiction(known <= numbers, path, "outcomes", "more outcomes than numbers");
    contradiction(reason !== "unused" || known === 0n, path, "outcomes", "unused numbers have no outcomes");
  },
);

const ppm = whole(0, 1_000_000);
const forecast = object(
  {
    at_ms: time,
    endpoint,
    objective: object(
      { dimension: words("availability", "first_token", "total"), target_ppm: ppm, within_us: optional(duration) },
      ({ dimension, within_us }, path) =>
        contradiction((dimension === "availability") === (within_us === undefined), path, "within_us", "of times only"),
    ),
    window: object({ start_ms: time, length: words("hour", "day", "week") }),
    breach_ppm: ppm,
    interval: optional(
      object({ miss_ppm: ppm, lower_ppm: ppm, upper_ppm: ppm }, ({ lower_ppm, upper_ppm }, path) =>
        contradiction(lower_ppm <= upper_ppm, path, "lower_ppm", "above the upper end"),
      ),
    ),
    forecaster: name,
    basis: object({ log: optional(logOrigin), size: integer, root: optional(digest) }, ({ log, root }, path) =>
      contradiction(root === undefined || log !== undefined, path, "root", "the root of no log"),
    ),
  },
  ({ at_ms, window }, path) => contradiction(at_ms <= window.start_ms, path, "at_ms", "made after its window began"),
);

/** What `groups` of `count` repeats may not be; `undefined` if they hold. */
function wrongGroups(groups, count, source) {
  if (source !== "check") return "only a check repeats a prompt";
  if (count < 2) return "one answer agrees with itself";
  if (groups.some((size, at) => size < 1 || size > (groups[at - 1] ?? Infinity))) return "the largest first, none empty";
  if (groups.reduce((sum, size) => sum + size, 0) !== count) return "they do not add up";
  return undefined;
}

const judgement = object(
  {
    at_ms: time,
    endpoint,
    observer: digest,
    answers: list(object({ record: digest, seq })),
    conditions,
    source: words("reported", "check"),
    correct: optional(boolean),
    groups: optional(list(number32)),
    check: optional(object({ case: digest, assertions: digest })),
  },
  ({ answers, source, correct, groups, check }, path) => {
    const at = under(path, "answers");
    if (answers.length < 1 || answers.length > 64) refuse("bad_value", at, "1 to 64 answers");
    answers.forEach(({ seq }, index) => {
      contradiction(index === 0 || seq > answers[index - 1].seq, under(at, index), "seq", "numbers ascend");
    });
    contradiction((source === "check") === (check !== undefined), path, "check", "of checks, and of them only");
    contradiction((correct === undefined) !== (groups === undefined), path, "correct", "either this or `groups`");
    if (groups === undefined) return contradiction(answers.length === 1, path, "correct", "answers are right one by one");
    const wrong = wrongGroups(groups, answers.length, source);
    contradiction(wrong === undefined, path, "groups", wrong);
  },
);

const address = string("bad_value", isAddress);
const price = whole(0, 10_000_000_000);
const offer = object(
  {
    seq,
    from_ms: time,
    until_ms: time,
    withdrawn: boolean,
    addresses: list(address),
    models: list(
      object({ model: text(256), manifest: digest, price: object({ prompt: price, completion: price }) }),
    ),
    region: optional(name),
    in_flight_max: optional(number32),
  },
  ({ from_ms, until_ms, withdrawn, addresses, models }, path) => {
    contradiction(from_ms < until_ms && until_ms - from_ms <= 604_800_000, path, "until_ms", "at most seven days");
    for (const [member, { length }, most] of [["addresses", addresses, 4], ["models", models, 64]]) {
      const holds = withdrawn ? length === 0 : length >= 1 && length <= most;
      if (!holds) refuse("bad_value", under(path, member), `1 to ${most}, or none if withdrawn`);
    }
    const once = new Set(models.map(({ model }) => model)).size === models.length;
    contradiction(once, path, "models", "a model is offered once");
  },
);

const tally = object(
  { bundle: integer, calls: number32, good: number32, bad: number32, rate_limited: number32 },
  ({ calls, good, bad, rate_limited }, path) => {
    if (calls < 1 || calls > 256) refuse("bad_value", under(path, "calls"), "1 to 256");
    contradiction(good + bad + rate_limited <= calls, path, "calls", "more of them ended than there are");
  },
);
const streamNumbers = object(
  { key: digest, highest: integer, records: integer, voided: integer, unused: integer, missing: integer },
  ({ highest, ...parts }, path) => {
    const each = [parts.records, parts.voided, parts.unused, parts.missing];
    const settled = each.reduce((sum, part) => sum + BigInt(part), 0n);
    const holds = settled >= BigInt(highest) && each.every((part) => part <= highest);
    contradiction(holds, path, "highest", "each number up to it is in one of the parts at least");
  },
);
const summary = object(
  {
    at_ms: time,
    log: logOrigin,
    endpoint,
    observer: digest,
    seq,
    previous: optional(digest),
    from: integer,
    to: integer,
    bundles: list(tally),
    streams: list(streamNumbers),
  },
  (read, path) => {
    const { from, to, bundles, streams } = read;
    for (const member of ["from", "to"]) {
      if (read[member] % 256 !== 0) refuse("bad_value", under(path, member), "whole bundles of 256 entries");
    }
    contradiction(to > from && to - from <= 65_536, path, "to", "1 to 65,536 entries after `from`");
    contradiction((read.seq === 1) === (from === 0), path, "from", "the first of a chain begins at 0");
    contradiction((read.seq === 1) === (read.previous === undefined), path, "previous", "all but the first name it");
    contradiction(read.endpoint.provider !== read.observer, path, "observer", "nobody observes itself");
    let next = from / 256;
    bundles.forEach(({ bundle }, index) => {
      const at = under(under(path, "bundles"), index);
      contradiction(bundle >= next && bundle < to / 256, at, "bundle", "of the stretch, in order, each once");
      next = bundle + 1;
    });
    if (streams.length > 64) refuse("bad_value", under(path, "streams"), "at most 64");
    streams.forEach(({ key }, index) => {
      const at = under(under(path, "streams"), index);
      contradiction(index === 0 || key > streams[index - 1].key, at, "key", "keys ascend, each once");
    });
  },
);

const KINDS = {
  "control:v1": control,
  "manifest:v1": manifest,
  "receipt:v1": receipt,
  "observation:v1": observation,
  "void:v1": voided,
  "forecast:v1": forecast,
  "judgement:v1": judgement,
  "offer:v1": offer,
  "summary:v1": summary,
};

const signer = object({ id: optional(digest), key });
const subject = object({ digest: object({ sha256: digest }), name: text(128) });

/**
 * Reads a payload: `{kind, known, subjects, signer, body}`; `body` holds the members of a known
 * kind. Throws a `Refusal`.
 */
export async function readStatement(payload) {
  const value = readJson(payload, LIMITS.statement);
  const { _type, predicateType } = object({
    _type: string("bad_value", (t) => t === "https://in-toto.io/Statement/v1"),
    predicateType: string("bad_value", (t) => {
      const parts = /^urn:longrun:[a-z_]{1,32}:v([1-9][0-9]{0,4})$/.exec(t);
      return parts !== null && Number(parts[1]) <= 65_535;
    }),
  })(value, "");
  const kind = predicateType.slice("urn:longrun:".length);
  const known = Object.hasOwn(KINDS, kind);
  const read = object({
    subject: list(subject),
    predicate: (body, path) => ({
      signer: object({ signer })(body, path).signer,
      ...(known ? KINDS[kind](body, path) : {}),
    }),
  })(value, "");
  const { signer: by, ...body } = read.predicate;
  const first = kind === "control:v1" && body.action.what === "create";
  if (!by.id && !first) refuse("missing", "predicate.signer.id", "all but a signer's first record name it");
  if (by.id && first) refuse("contradiction", "predicate.signer.id", "the first record has no id yet");
  const receipts = kind === "receipt:v1" || (kind === "void:v1" && body.stream.kind === "receipt");
  if (receipts && body.stream.endpoint.provider !== by.id) {
    refuse("contradiction", "predicate.stream.endpoint.provider", "receipts are of the signer's own");
  }
  const statement = { _type, kind, known, subjects: read.subject, signer: by, body };
  await checkSubjects(statement);
  return statement;
}

/** The table of section 5. */
async function checkSubjects({ kind, known, subjects, signer, body }) {
  const wanted = async () => {
    if (kind === "control:v1") {
      const { action } = body;
      const changed = ["delegate", "rotate", "owner"].includes(action.what) ? action.key : signer.key;
      return [["key", action.what === "revoke" ? action.key_id : toHex(await sha256(changed))]];
    }
    if (kind === "offer:v1") return [["key", toHex(await sha256(signer.key))]];
    if (kind === "manifest:v1") {
      const { sha256: weights } = body.weights;
      return [weights ? ["weights", weights] : ["model", toHex(await sha256(utf8(body.model)))]];
    }
    if (kind === "forecast:v1" || kind === "summary:v1") {
      const { provider, model } = body.endpoint;
      return [["endpoint", toHex(await sha256(utf8(`longrun endpoint v1\n${provider}\n${model}\n`)))]];
    }
    if (kind === "judgement:v1") return [["observation", body.answers[0].record]];
    return [["stream", await streamId(signer.key, body.stream.endpoint, body.stream.kind)]];
  };
  const names = subjects.map((subject) => subject.name).join(" ");
  let holds;
  if (!known) holds = subjects.length >= 1 && subjects.length <= 16;
  else if (["receipt:v1", "observation:v1"].includes(kind)) {
    holds = names === "request response" || (names === "request" && body.outcome !== "ok");
  } else {
    const have = subjects.map((subject) => [subject.name, subject.digest.sha256]);
    holds = JSON.stringify(have) === JSON.stringify(await wanted());
  }
  if (!holds) refuse("bad_subject", "subject", "not the subjects that this kind has");
}

/** Section 6. */
export async function streamId(key, endpoint, kind) {
  const lines = ["longrun stream v1", toHex(await sha256(key)), endpoint.provider, endpoint.model, kind, ""];
  return toHex(await sha256(utf8(lines.join("\n"))));
}
