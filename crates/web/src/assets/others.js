// Above and beside the endpoints: models and providers as a whole, networks in which nodes are found, and
// what others saw. Runs after page.js and uses its helpers; whatever comes from outside is set as text.
"use strict";

const OTHERS_EVERY_MS = 10000;

/** The name of a dimension as people say it. */
const DIMENSIONS = {
  availability: "Served well",
  first_token: "First token",
  inter_token: "Between tokens",
  schema: "Follows its schema",
  tools: "Tool calls fit",
  correctness_checks: "Right, by checks",
  correctness_reports: "Right, as reported",
  consistency: "Repeats agree",
};

const range = ([low, high]) => percent(low) + " to " + percent(high);

/** A row for each; one that cannot be told says so in its place, and the others stand. */
function rowsOf(all, columns, row) {
  return all.map((one) => {
    try {
      return row(one);
    } catch (error) {
      console.error(error);
      const cell = element("td", "This row cannot be shown: " + error.message, "bad");
      cell.colSpan = columns;
      return element("tr", [cell]);
    }
  });
}

/** How a dimension reads in a cell: its interval, or its latency bands. */
function ofDimension(dimension) {
  if (dimension.lifetime_ppm) {
    const how = dimension.bad === null ? " batches" : " judged";
    return [range(dimension.lifetime_ppm), element("small", count(dimension.judged) + how)];
  }
  return [median(dimension.lifetime_bands.p50_us),
    element("small", count(dimension.judged) + " measured")];
}

/** Where a median lies, as far as so many durations say. */
function median([from, below]) {
  if (below === null) return from ? `median at least ${duration(from)}` : "median: too few to say";
  return from ? `median ${duration(from)} to ${duration(below)}` : `median at most ${duration(below)}`;
}

function groupRow(group, of) {
  const head = element("th", [shorten(group.name, 40), element("small", `${of}, ${count(group.endpoints)} endpoints`)]);
  head.scope = "row";
  head.title = group.name;
  const more = group.dimensions
    .filter((dimension) => dimension.judged && dimension.dimension !== "availability")
    .map((dimension) => element("li", [(DIMENSIONS[dimension.dimension] || dimension.dimension) + ": ", ...ofDimension(dimension)]));
  const [availability] = group.dimensions.filter((dimension) => dimension.dimension === "availability");
  const standard = availability.standardised_unknown_ppm < 1000000
    ? `with standard conditions ${range(availability.standardised_ppm)}, ${percent(availability.standardised_unknown_ppm, 0)} of them never tried`
    : "";
  return element("tr", [
    head,
    element("td", count(group.calls), "number"),
    element("td", [range(group.interval_ppm), meter(...group.interval_ppm, "interval: " + range(group.interval_ppm)),
      element("small", standard)]),
    element("td", more.length ? element("ul", more, "plain") : "nothing judged"),
    element("td", group.incidents
      ? [count(group.incidents), element("small", group.incidents_open ? count(group.incidents_open) + " last" : "all over")]
      : "none", group.incidents_open ? "bad" : ""),
    element("td", group.unknown ? [count(group.unknown), element("small", range(group.worst_case_ppm) + " whatever they were")] : "none"),
  ]);
}

function groups(history) {
  // One of one endpoint says what its endpoint says.
  const several = (all, of) => rowsOf(all.filter((group) => group.endpoints > 1), 6, (group) => groupRow(group, of));
  const rows = [...several(history.models, "model"), ...several(history.providers, "provider")];
  fill("groups", rows, 6, "No model has two providers here, and no provider two models.");
}

function networks(status) {
  const rows = rowsOf(status.networks, 7, (network) => {
    const head = element("th", network.log);
    head.scope = "row";
    const state = network.error || (network.known ? "read" : "not read yet");
    const why = network.refused.map((refused) =>
      element("li", `${shorten(refused.provider || refused.key, 12)} at ${refused.address}: ${refused.why}`));
    return element("tr", [
      head,
      element("td", [state, element("small", count(network.size) + " records")], network.error ? "bad" : ""),
      element("td", count(network.waiting), "number"),
      element("td", count(network.trying), "number"),
      element("td", count(network.ordinary), "number"),
      element("td", count(network.dropped), "number"),
      element("td", why.length ? element("ul", why, "plain") : "none"),
    ]);
  });
  document.getElementById("networks-part").hidden = !rows.length;
  fill("networks", rows, 7, "No network is configured.");
}

/** Names of observers, from the histories that they are in. */
function namesOf(imported) {
  return new Map(imported.histories.flatMap((source) => source.observers).map((observer) => [observer.id, observer.name]));
}

function told(names, other) {
  const head = element("th", [other.model, element("small", "at " + other.provider)]);
  head.scope = "row";
  const together = other.together;
  const words = together.state === "averaged"
    ? [range(together.interval_ppm), element("small", `the mean of ${count(together.observers)} observers who count alike`)]
    : [`too few independent observers: ${count(together.observers)}, and ${count(together.needed)} are needed`];
  const whose = Object.entries(other.observers).map(([id, seen]) => element("li",
    `${names.get(id) || shorten(id, 12)}: ${count(seen.successes)} good, ${count(seen.failures)} failed` +
    (seen.summed_up_by ? `, summed up by ${names.get(seen.summed_up_by) || shorten(seen.summed_up_by, 12)}` : "")));
  return element("tr", [head, element("td", words), element("td", element("ul", whose, "plain"))]);
}

function evidence(history, merged) {
  const imported = history.imported;
  document.getElementById("evidence-part").hidden = !imported;
  if (!imported) return;
  const names = namesOf(imported);
  const rows = rowsOf(imported.endpoints, 3, (other) => told(names, other));
  fill("evidence", rows, 3, "Nobody whom the policy names has seen anything.");
  const lines = imported.histories.map((it) => element("li",
    `Imported: ${count(it.records)} ${it.of_summaries ? "summaries" : "records"} of ${it.origin} at ${count(it.size)}` +
    (it.not_in_policy ? `; ${count(it.not_in_policy)} of its observers are not in the policy and do not count` : "")));
  if (imported.error) lines.push(element("li", "Imported histories cannot be read: " + imported.error, "bad"));
  lines.push(...merged.logs.map((log) => element("li",
    `Merged: ${log.origin}, ${count(log.size)} entries read` + (log.refused ? "; refused: " + log.refused : "") +
    (log.error ? "; " + log.error : ""), log.refused || log.error ? "bad" : "")));
  if (merged.error) lines.push(element("li", "Logs are not merged: " + merged.error, "bad"));
  if (merged.waiting) lines.push(element("li", count(merged.waiting) + " records wait for logs that are behind."));
  document.getElementById("evidence-sources").replaceChildren(...lines);
}

async function retellOthers() {
  try {
    const [status, history, merged] = await Promise.all(
      [ask("/longrun/v1/status"), ask("/longrun/v1/history"), ask("/longrun/v1/history/merged")]);
    // Each by itself: what one of them cannot tell keeps nobody from the others.
    for (const part of [() => groups(history), () => networks(status), () => evidence(history, merged)]) {
      try {
        part();
      } catch (error) {
        console.error(error);
      }
    }
  } catch (error) {
    // page.js says that the gateway does not answer; anything else is for whoever looks.
    console.error(error);
  }
  setTimeout(retellOthers, document.hidden ? 6 * OTHERS_EVERY_MS : OTHERS_EVERY_MS);
}

retellOthers();
