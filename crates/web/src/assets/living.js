// What happened when: history with bands, incidents and alarms, latency, forecasts against outcomes,
// concentration. Runs after page.js and others.js and uses their helpers; whatever comes from outside is set as text.
"use strict";

const ACCOUNT_EVERY_MS = 10000;
const LEFT = 48;
const BELOW = 20;

/** An SVG element with attributes, and a title where there is something to say. */
function shape(name, attributes, title) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  if (title) {
    const words = document.createElementNS(SVG, "title");
    words.textContent = title;
    made.append(words);
  }
  return made;
}

/** A field with axes, in whose units shapes are drawn. */
function field(label, width, height, [from, to], [low, high]) {
  const span = Math.max(to - from, 1e-9);
  const rise = Math.max(high - low, 1e-9);
  const x = (at) => LEFT + ((at - from) / span) * (width - LEFT - 4);
  const y = (at) => 4 + (1 - (at - low) / rise) * (height - BELOW - 8);
  const svg = shape("svg", { class: "plot", viewBox: `0 0 ${width} ${height}`, width, height,
    role: "img", "aria-label": label });
  const drawn = {
    svg,
    rect(className, x0, y0, x1, y1, title) {
      const left = x(Math.max(x0, from)), right = x(Math.min(x1, to));
      const top = y(Math.max(y0, y1)), bottom = y(Math.min(y0, y1));
      svg.append(shape("rect", { class: className, x: left, y: top,
        width: Math.max(right - left, 1), height: Math.max(bottom - top, 1) }, title));
    },
    dot(className, at, value, title) {
      svg.append(shape("circle", { class: className, cx: x(at), cy: y(value), r: 2.5 }, title));
    },
    label(anchor, left, top, text) {
      const made = shape("text", { "text-anchor": anchor, x: left, y: top });
      made.textContent = text;
      svg.append(made);
    },
    percents() {
      for (const share of [low, (low + high) / 2, high]) {
        svg.append(shape("line", { class: "grid", x1: LEFT, x2: width, y1: y(share), y2: y(share) }));
        drawn.label("end", LEFT - 5, y(share) + 4, percent(share, 0));
      }
    },
    ends(first, last) {
      drawn.label("start", LEFT, height - 5, first);
      drawn.label("end", width - 4, height - 5, last);
    },
  };
  return drawn;
}

function moment(ms, long) {
  const options = long ? { month: "short", day: "numeric" } : { hour: "2-digit", minute: "2-digit" };
  return new Date(ms).toLocaleString("en", { month: "short", day: "numeric", ...options });
}

/** Success over time: a band per bin, the share as a dot, incidents and alarms marked. */
function historyPlot(account, endpoint, width) {
  const { since_ms: from, now_ms: to, bin_ms: length } = account;
  const long = to - from > 2 * 86400000;
  const words = `Served well over time: ${endpoint.attempts.good} of ` +
    `${endpoint.attempts.good + endpoint.attempts.bad} judged attempts, ${endpoint.incidents.length} incidents, ` +
    `${endpoint.alarms.length} alarms`;
  const plot = field(words, width, 150, [from, to], [0, 1000000]);
  for (const incident of endpoint.incidents) {
    const end = incident.end_ms === null ? to : incident.end_ms;
    plot.rect("incident", incident.start_ms, 0, end, 1000000, "incident since " + moment(incident.start_ms));
  }
  plot.percents();
  for (const bin of endpoint.bins) {
    if (!bin.interval_ppm) continue;
    const judged = bin.good + bin.bad;
    const title = `${moment(bin.start_ms)}: ${count(bin.good)} of ${count(judged)} served well, ` +
      `${percent(bin.interval_ppm[0])} to ${percent(bin.interval_ppm[1])}`;
    plot.rect("band", bin.start_ms, bin.interval_ppm[0], bin.start_ms + length, bin.interval_ppm[1], title);
    const middle = Math.min(Math.max(bin.start_ms + length / 2, from), to);
    plot.dot("point", middle, (bin.good / judged) * 1000000, title);
  }
  for (const alarm of endpoint.alarms) {
    const title = "regime alarm: " + alarm.dimension;
    plot.rect("alarm", alarm.at_ms, 0, alarm.at_ms + (to - from) / 400, 1000000, title);
  }
  plot.ends(moment(from, long), moment(to, long));
  return plot.svg;
}

/** How long answers took: a bar per bucket; each is a fifth wider than the last. */
function latencyPlot(name, times, width) {
  const step = (us) => Math.round(Math.log2(Math.max(us, 841) / 1000) * 4);
  const first = times.buckets[0][0];
  const last = times.buckets[times.buckets.length - 1][0];
  const most = Math.max(...times.buckets.map(([, n]) => n));
  const words = `${name}: median ${duration(times.p50_us)}, p95 ${duration(times.p95_us)}, ${times.count} measured`;
  const plot = field(words, width, 100, [step(first), Math.max(step(last) + 1, step(first) + 8)], [0, most]);
  plot.label("end", LEFT - 5, 14, count(most));
  for (const [us, n] of times.buckets) {
    plot.rect("bar", step(us), 0, step(us) + 0.9, n, `from ${duration(us)}: ${count(n)}`);
  }
  plot.ends(duration(first), duration(last) + " and more");
  return plot.svg;
}

/** What was foretold, as a band, beside what came, as a dot. */
function forecastPlot(forecast, window, width) {
  const ended = window.ended;
  const across = Math.max(ended.length, 8);
  const breached = ended.filter((it) => it.breached).length;
  const words = `Forecast against outcome by ${window.length}: ${ended.length} windows, ${breached} breached`;
  const plot = field(words, width, 130, [0, across], [0, 1000000]);
  plot.percents();
  plot.rect("target", 0, forecast.target_ppm, across, forecast.target_ppm, "objective " + percent(forecast.target_ppm));
  ended.forEach((it, at) => {
    const title = `${moment(it.start_ms)}: breach foretold with ${percent(it.breach_ppm)}; ` +
      `${percent(it.share_ppm)} came good${it.breached ? ", breached" : ""}`;
    if (it.interval_ppm) plot.rect("band", at + 0.1, it.interval_ppm[0], at + 0.9, it.interval_ppm[1], title);
    plot.dot(it.breached ? "miss" : "point", at + 0.5, it.share_ppm, title);
  });
  plot.ends(moment(ended[0].start_ms), moment(ended[ended.length - 1].start_ms));
  return plot.svg;
}

function figure(plot, caption) {
  const made = element("figure", plot);
  made.append(element("figcaption", caption));
  return made;
}

function troubles(endpoint) {
  const rows = endpoint.incidents.map((it) => element("li", it.end_ms === null
    ? `Incident since ${moment(it.start_ms)}, it lasts: ${count(it.failed)} failed`
    : `Incident from ${moment(it.start_ms)} to ${moment(it.end_ms)}: ${count(it.failed)} failed`, "bad"));
  rows.push(...endpoint.alarms.map((it) =>
    element("li", `Regime alarm at ${moment(it.at_ms)}: ${it.dimension} is no longer what it was; ` +
      (it.verdict ? it.verdict.in_words : "what came of it is told no longer"), "bad")));
  if (!rows.length) rows.push(element("li", "No incident and no alarm in this span."));
  for (const objective of endpoint.objectives) {
    const left = objective.budget_left_thousandths;
    const burning = objective.alarms.some((alarm) => alarm.raised);
    const words = left === null ? "nothing known" : `${(left / 10).toFixed(0)} % of the error budget of 30 days left`;
    rows.push(element("li", `Objective ${objective.objective} (${percent(objective.target_ppm)}): ${words}` +
      (burning ? ", and it burns too fast" : ""), burning || left < 0 ? "bad" : ""));
  }
  return element("ul", rows, "plain");
}

/** Whether answers followed their schema, were right, and agreed: over the whole history. */
function judgements(endpoint) {
  const apart = ["availability", "first_token", "inter_token"];
  const judged = endpoint.dimensions.filter((it) => it.judged && !apart.includes(it.dimension));
  if (!judged.length) return element("p", "Schema, tools and correctness: nothing was checked or reported.", "soft");
  return element("ul", judged.map((dimension) => {
    const detector = dimension.detector;
    const how = dimension.bad === null ? `${count(dimension.judged)} batches of repeats`
      : `${count(dimension.judged - dimension.bad)} of ${count(dimension.judged)} good`;
    const watch = detector.state === "learning" ? "the detector learns what is usual" : "the detector watches";
    const alarms = detector.alarms ? `, ${count(detector.alarms)} alarms` : ", no alarm";
    return element("li", `${DIMENSIONS[dimension.dimension] || dimension.dimension}: ${how}, ${range(dimension.lifetime_ppm)} ` +
      `over the whole history, ${range(dimension.current_ppm)} in epoch ${count(dimension.epoch.number)}; ${watch}${alarms}`);
  }), "plain");
}

/** How good the intervals were that were issued beforehand: coverage and width belong together. */
function predicted(window) {
  const { ended, covered, mean_width_ppm: width } = window.scores.predictability;
  const wide = width === null ? "" : `, ${percent(width)} of the share wide on average`;
  return `${count(covered)} of ${count(ended)} intervals covered${wide}.`;
}

function chapter(account, endpoint, name, width) {
  const parts = [element("h3", name)];
  if (endpoint.bins.length) {
    parts.push(figure(historyPlot(account, endpoint, width),
      "Served well, with the 95 % interval of each stretch. Where nothing is drawn, nobody called: unknown, not good."));
  } else {
    parts.push(element("p", "Nobody called in this span, so it says nothing.", "soft"));
  }
  parts.push(troubles(endpoint), judgements(endpoint));
  const half = width > 700 ? Math.floor(width / 2) - 10 : width;
  const pairs = [["First token", endpoint.first_token], ["Whole answer", endpoint.total]];
  const latency = pairs.filter(([, times]) => times.buckets.length).map(([words, times]) =>
    figure(latencyPlot(words, times, half),
      `${words}: median ${duration(times.p50_us)}, p95 ${duration(times.p95_us)} (${count(times.count)} measured)`));
  if (latency.length) parts.push(element("div", latency, "pair"));
  const foretold = endpoint.forecasts.flatMap((forecast) => forecast.windows
    .filter((window) => window.ended.length)
    .map((window) => figure(forecastPlot(forecast, window, half),
      `${forecast.objective}, by ${window.length}: where the share was expected, and what came. The line is the objective. ` +
      predicted(window))));
  if (foretold.length) parts.push(element("div", foretold, "pair"));
  else parts.push(element("p", "No forecast has been scored yet: the first hour has to end first.", "soft"));
  return element("article", parts);
}

function nameIn(status, endpoint) {
  const found = status.endpoints.find((it) => it.provider === endpoint.provider && it.model === endpoint.model);
  const where = shorten(endpoint.provider.replace(/^https?:\/\//, ""), 24);
  return found && found.name ? `${found.name} (${endpoint.model})` : `${endpoint.model} at ${where}`;
}

/** A party by the name that its operator gave it, if it has one. */
function partyName(status, name) {
  const found = status.endpoints.find((it) => it.provider === name && it.name);
  return found ? found.name : shorten(name, 20);
}

const BY = { provider: "Provider", owner: "Owner", origin: "Network origin" };

function concentration(status) {
  const rows = [];
  for (const window of status.concentration.windows) {
    for (const [by, words] of Object.entries(BY)) {
      const told = window[by];
      if (!told.attempts) continue;
      const largest = told.parties[0];
      const label = `${words}: ${told.parties.length} parties, the largest has ${percent(largest.share_ppm)}`;
      const head = element("th", `${words}, last ${window.window}`);
      head.scope = "row";
      rows.push(element("tr", [head,
        element("td", [partyName(status, largest.name) + ": " + percent(largest.share_ppm), shares(told.parties, label)]),
        element("td", (told.effective_thousandths / 1000).toFixed(2), "number"),
        element("td", (told.hhi_ppm / 1000000).toFixed(3), "number")]));
    }
  }
  fill("concentration", rows, 4, "Nobody called in the last week, so nothing is concentrated.");
}

/** Shares of a whole as one bar. */
function shares(parties, label) {
  const svg = shape("svg", { class: "meter", viewBox: "0 0 1000 60", preserveAspectRatio: "none",
    role: "img", "aria-label": label });
  let from = 0;
  parties.forEach((party, at) => {
    svg.append(shape("rect", { class: at % 2 ? "share other" : "share", x: from / 1000, y: 0,
      width: Math.max(party.share_ppm / 1000, 1), height: 60 }, `${party.name}: ${percent(party.share_ppm)}`));
    from += party.share_ppm;
  });
  return svg;
}

let shown = null;

function draw() {
  if (!shown) return;
  const [account, status] = shown;
  const place = document.getElementById("past");
  const width = Math.max(place.clientWidth - 32, 240);
  const left = account.endpoints_left_out;
  const chapters = account.endpoints.map((it) => chapter(account, it, nameIn(status, it), width));
  if (!chapters.length) chapters.push(element("p", "No call is on record yet. The first one begins a history."));
  if (left) chapters.push(element("p", `${count(left)} endpoints with fewer attempts are left out.`, "soft"));
  place.replaceChildren(...chapters);
  concentration(status);
}

let waiting = 0;

async function retell() {
  clearTimeout(waiting);
  const since = document.getElementById("span").value;
  const note = document.getElementById("past-state");
  try {
    shown = await Promise.all([ask("/longrun/v1/account?since_s=" + encodeURIComponent(since)), ask("/longrun/v1/status")]);
    draw();
    note.textContent = "";
  } catch (error) {
    note.textContent = "The history cannot be told at the moment (" + error.message + ").";
  }
  waiting = setTimeout(retell, document.hidden ? 6 * ACCOUNT_EVERY_MS : ACCOUNT_EVERY_MS);
}

document.getElementById("span").addEventListener("change", retell);
let resized = 0;
addEventListener("resize", () => {
  clearTimeout(resized);
  resized = setTimeout(draw, 150);
});
retell();
