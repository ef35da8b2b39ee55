// Counts, topics, distribution and limits of a report.

import { byId, bytes, clean, element, fill, percent, rate, setText, whole } from "./text.js";

// Rows of each table and of each distribution.
const MAX_TOPICS = 100;
const MAX_ROWS = 40;
const MAX_BARS = 8;

const cells = (count) => () => {
  const row = element("tr");
  const head = element("th");
  head.scope = "row";
  head.append(element("bdi"));
  row.append(head, ...Array.from({ length: count }, () => element("td")));
  return row;
};

function fillTable(id, rows) {
  const width = rows[0]?.length ?? 1;
  fill(byId(id), rows, cells(width - 1), (row, [name, ...values]) => {
    setText(row.firstElementChild.firstElementChild, name);
    values.forEach((value, index) => setText(row.children[index + 1], value));
  });
}

function fillBars(id, counts) {
  const all = Object.entries(counts ?? {}).sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
  const shown = all.slice(0, MAX_BARS);
  const rest = all.length - shown.length;
  if (rest > 0) shown.push([`${rest} more`, all.slice(MAX_BARS).reduce((sum, [, count]) => sum + count, 0)]);
  const most = Math.max(1, ...shown.map(([, count]) => count));
  byId(id).parentElement.hidden = shown.length === 0;
  fill(byId(id), shown, () => {
    const item = element("li");
    item.append(element("bdi"), element("b"), element("i"));
    return item;
  }, (item, [name, count]) => {
    setText(item.children[0], clean(name, 32));
    setText(item.children[1], whole(count));
    item.children[2].style.width = `${(100 * count) / most}%`;
  });
}

export function showTraffic(report) {
  const { messages, topics, bandwidth, distribution, performance } = report;
  for (const name of ["sent", "received", "delivered", "expired", "dropped", "duplicate"]) {
    setText(byId(`count-${name}`), whole(messages[name]));
  }
  setText(byId("topics-count"), topics.length > MAX_TOPICS ? `${MAX_TOPICS} of ${whole(topics.length)}` : whole(topics.length));
  byId("topics-empty").hidden = topics.length > 0;
  fillTable("topics", [...topics].sort((a, b) => b.rate - a.rate || (a.topic < b.topic ? -1 : 1)).slice(0, MAX_TOPICS).map((topic) =>
    [clean(topic.topic), rate(topic.rate), whole(topic.sent), whole(topic.received), whole(topic.subscribers), whole(topic.meshPeers)]));
  fillTable("bandwidth", Object.entries(bandwidth).sort((a, b) => b[1].inBytes + b[1].outBytes - a[1].inBytes - a[1].outBytes).slice(0, MAX_ROWS)
    .map(([name, { inBytes, outBytes }]) => [clean(name, 48), bytes(inBytes), bytes(outBytes)]));
  fillTable("priorities", ["high", "medium", "low"].map((name) => {
    const counts = messages.byPriority?.[name] ?? {};
    return [name, whole(counts.sent), whole(counts.received), whole(counts.delivered)];
  }));
  for (const [id, name] of [["by-role", "byRole"], ["by-capability", "byCapability"], ["by-version", "byVersion"], ["by-region", "byRegion"]]) {
    fillBars(id, distribution[name]);
  }
  const limits = Object.entries(report.limitsHit ?? {}).filter(([, count]) => count > 0).sort((a, b) => b[1] - a[1]).slice(0, MAX_ROWS);
  const registry = report.registry;
  const pairs = [
    ["Messages a second for each active peer", rate(performance.networkEfficiency)],
    ["Stable connections", percent(performance.connectionStability)],
    ["Consensus participation", performance.consensusHealth === null ? "no node names consensus" : percent(performance.consensusHealth)],
    ["Bans", whole(report.bans)],
    ["Registry", registry ? `${clean(registry.policy, 12)}, ${registry.isReachable ? "reachable" : "not reachable"}, ${whole(registry.agents)} agents` : "none"],
    ...limits.map(([name, count]) => [`Limit hit: ${clean(name, 48)}`, whole(count)]),
  ];
  fill(byId("indicators"), pairs, () => {
    const row = element("div");
    row.append(element("dt"), element("dd"));
    return row;
  }, (row, [name, value]) => {
    setText(row.firstElementChild, name);
    setText(row.lastElementChild, value);
  });
}
