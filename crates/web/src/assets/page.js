// Polls the gateway and puts its figures on the page. Whatever comes from outside is set as text.
"use strict";

const EVERY_MS = 2000;
const SVG = "http://www.w3.org/2000/svg";

/** An element with text or children; never markup. */
function element(name, content, className) {
  const made = document.createElement(name);
  if (className) made.className = className;
  for (const part of Array.isArray(content) ? content : [content]) {
    if (part instanceof Node) made.append(part);
    else if (part !== undefined && part !== null) made.append(String(part));
  }
  return made;
}

const count = (n) => Number(n).toLocaleString("en");
const percent = (ppm, digits = 1) => (Number(ppm) / 10000).toFixed(digits) + " %";
const shorten = (text, n = 8) => (text.length > n + 4 ? text.slice(0, n) + "…" : text);

function duration(us) {
  if (us === null || us === undefined) return "–";
  if (us < 1000) return "under 1 ms";
  if (us < 1000000) return Math.round(us / 1000) + " ms";
  return (us / 1000000).toFixed(us < 10000000 ? 2 : 1) + " s";
}

/** A bar from 0 to 100 %: a band from `low` to `high`, or a filled share; words stand beside it. */
function meter(low, high, label, point) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "meter");
  svg.setAttribute("viewBox", "0 0 1000 60");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
  const part = (className, from, width) => {
    const rect = document.createElementNS(SVG, "rect");
    rect.setAttribute("class", className);
    rect.setAttribute("x", String(from));
    rect.setAttribute("y", "0");
    rect.setAttribute("width", String(Math.max(width, 0)));
    rect.setAttribute("height", "60");
    svg.append(rect);
  };
  part("track", 0, 1000);
  part("band", low / 1000, Math.max((high - low) / 1000, 4));
  if (point !== undefined) part("mark", Math.min(point / 1000, 994), 6);
  return svg;
}

function summary(status, history) {
  const log = status.log;
  const attempts = history.endpoints.reduce((sum, e) => sum + e.calls, 0);
  const rows = [
    ["Attempts on record", count(attempts), count(history.records) + " records folded"],
    [log ? "Records waiting for the log" : "Records kept here", count(status.spool.waiting),
      status.spool.unrecorded ? count(status.spool.unrecorded) + " attempts went unrecorded" : "none unrecorded"],
  ];
  if (log) {
    rows.push(["Records in the log", log.size === null ? "–" : count(log.size), log.origin || log.url]);
    rows.push(["Checkpoint", log.root ? shorten(log.root, 16) : "none yet",
      log.error ? log.error : "checked against every record below it"]);
  } else {
    rows.push(["Log", "none", "histories come from this gateway’s own records"
      + (status.spool.let_go ? "; " + count(status.spool.let_go) + " older ones were let go of" : "")]);
  }
  if (status.history_read) {
    const { read, of } = status.history_read;
    rows.push(["History", "being read", count(read) + (of === null ? "" : " of " + count(of)) + " records"]);
  }
  rows.push(["History digest", shorten(history.digest, 16), "equal on any machine that folds the same records"]);
  document.getElementById("summary").replaceChildren(...rows.map(([term, value, note]) =>
    element("div", [element("dt", term), element("dd", [value, element("small", note)])])));
}

function nameOf(endpoint) {
  const lines = [element("span", endpoint.name || endpoint.model || "not known yet")];
  lines.push(element("small", (endpoint.name && endpoint.model ? endpoint.model + " at " : "") + endpoint.url));
  if (endpoint.domain) lines.push(element("small", endpoint.domain + " vouches for it"));
  if (endpoint.owner_changes) lines.push(element("small", "changed its owner " + (endpoint.owner_changes === 1 ? "once" : count(endpoint.owner_changes) + " times")));
  if (endpoint.state !== "ready") lines.push(element("small", endpoint.state + ": " + (endpoint.why || ""), "bad"));
  else if (endpoint.resting) lines.push(element("small", "resting: asked when nothing else is left", "bad"));
  const head = element("th", lines);
  head.scope = "row";
  head.title = endpoint.provider ? endpoint.provider + " / " + (endpoint.model || "") : "";
  return head;
}

function recordKeepers(known) {
  if (known.calls === 0 && known.receipts.logged === 0) return element("td", "–");
  if (known.unilateral) return element("td", known.calls ? "only this gateway" : "only the provider");
  const notes = [count(known.receipts.verified) + " receipts verified"];
  if (known.receipts.missing) notes.push(count(known.receipts.missing) + " missing");
  if (known.receipts.invalid) notes.push(count(known.receipts.invalid) + " invalid");
  return element("td", ["both sides", element("small", notes.join(", "),
    known.receipts.invalid ? "bad" : "")]);
}

function unknowns(known) {
  const parts = [];
  if (known.gaps) parts.push(count(known.gaps) + " missing");
  if (known.voids) parts.push(count(known.voids) + " voided");
  if (known.contradictions) parts.push(count(known.contradictions) + " voided and recorded");
  if (known.equivocations) parts.push(count(known.equivocations) + " numbers used twice");
  const note = known.unknown_counts ? element("small", count(known.unknown) + " count as failures", "bad") : "";
  return element("td", [parts.length ? parts.join(", ") : "none", note]);
}

const NOTHING = { calls: 0, successes: 0, failures: 0, interval_ppm: [0, 1000000], unilateral: false, unknown: 0, unknown_counts: false,
  gaps: 0, voids: 0, contradictions: 0, equivocations: 0, receipts: { logged: 0, verified: 0, missing: 0, invalid: 0 } };

function endpoints(status, history) {
  const known = new Map(history.endpoints.map((e) => [e.provider + " " + e.model, e]));
  const pastOf = (endpoint) => known.get(endpoint.provider + " " + endpoint.model) || NOTHING;
  const total = status.endpoints.reduce((sum, endpoint) => sum + pastOf(endpoint).calls, 0);
  const minute = status.endpoints.reduce((sum, e) => sum + e.calls_last_minute, 0);
  const rows = status.endpoints.map((endpoint) => {
    const past = pastOf(endpoint);
    const share = minute ? (endpoint.calls_last_minute / minute) * 1000000 : 0;
    const [low, high] = past.interval_ppm;
    const judged = past.successes + past.failures;
    const words = judged ? percent(low) + " to " + percent(high) : "nothing known yet";
    return element("tr", [
      nameOf(endpoint),
      element("td", [minute ? percent(share, 0) : "–", meter(0, share, "share of the last minute: " + percent(share, 0))]),
      element("td", total ? percent((past.calls / total) * 1000000, 0) : "–", "number"),
      element("td", count(past.calls), "number"),
      element("td", count(past.failures), past.failures ? "number bad" : "number"),
      element("td", [words, meter(low, high, "interval: " + words,
        judged ? (past.successes / judged) * 1000000 : undefined)]),
      element("td", percent(endpoint.lower_ppm), "number"),
      recordKeepers(past),
      unknowns(past),
    ]);
  });
  fill("endpoints", rows, 9, "No endpoint is configured, or none answers yet.");
}

const RECORD_WORDS = { published: "in the log", recorded: "waiting for the log", unrecorded: "not recorded" };

function recent(status) {
  const rows = status.recent.map((attempt) => {
    const link = element("a", [element("code", shorten(attempt.call))]);
    link.href = "/longrun/v1/calls/" + encodeURIComponent(attempt.call);
    link.title = "the record of call " + attempt.call;
    const failed = attempt.outcome !== "ok";
    const fault = failed && attempt.fault ? " (" + attempt.fault + ")" : "";
    return element("tr", [
      element("td", new Date(attempt.at_ms).toLocaleTimeString()),
      element("td", [link]),
      element("td", attempt.name || attempt.model),
      element("td", attempt.outcome.replaceAll("_", " ") + fault, failed ? "bad" : "good"),
      element("td", duration(attempt.first_token_us), "number"),
      element("td", duration(attempt.total_us), "number"),
      element("td", attempt.receipt || "–", attempt.receipt === "invalid" ? "bad" : ""),
      element("td", RECORD_WORDS[attempt.record] || attempt.record),
    ]);
  });
  fill("recent", rows, 8, "No calls yet.");
}

function fill(id, rows, columns, otherwise) {
  const body = document.getElementById(id);
  if (rows.length) return body.replaceChildren(...rows);
  const cell = element("td", otherwise);
  cell.colSpan = columns;
  return body.replaceChildren(element("tr", [cell]));
}

async function ask(path) {
  const answer = await fetch(path, { headers: { accept: "application/json" }, cache: "no-store" });
  if (!answer.ok) throw new Error(path + " answered " + answer.status);
  return answer.json();
}

function say(text, bad) {
  const state = document.getElementById("state");
  if (state.textContent !== text) state.textContent = text;
  state.className = bad ? "bad" : "";
}

async function refresh() {
  try {
    const [status, history] = await Promise.all([ask("/longrun/v1/status"), ask("/longrun/v1/history")]);
    summary(status, history);
    endpoints(status, history);
    recent(status);
    say(status.endpoints.some((e) => e.state === "ready") ? "Live." : "No endpoint is ready.", false);
  } catch (error) {
    say("The gateway does not answer (" + error.message + "); what you see is the last known state.", true);
  }
  setTimeout(refresh, document.hidden ? 5 * EVERY_MS : EVERY_MS);
}

refresh();
