// The explorer: reads the stream of the node and shows it. It changes nothing.

import { EventFeed } from "./events.js";
import { follow } from "./feed.js";
import { NodeList } from "./list.js";
import { label, NetworkMap } from "./map.js";
import { Panel } from "./panel.js";
import { Plot } from "./plots.js";
import { byId, clean, clock, element, fill, level, milliseconds, percent, rate, setText, whole } from "./text.js";
import { showTraffic } from "./traffic.js";

// Nodes and links that the page shows. Our choice: twice what it is made for; a report itself is bounded.
const MAX_NODES = 1000;
const MAX_EDGES = 20_000;
const MAX_CAUSES = 8;
// Reports over which the plot takes the mean: with one, each message would be a spike.
const MEAN_OF = 6;
const WORDS = { healthy: "Healthy", degraded: "Degraded", unhealthy: "Unhealthy", unknown: "Not known" };

let report = null;
let recent = [];
let chosen = null;
let state = "connecting";

const oneColumn = matchMedia("(max-width: 1100px)");
const map = new NetworkMap((peerId) => {
  choose(peerId, false);
  // In one column the agent is below the map.
  if (oneColumn.matches && !byId("panel").hidden) byId("panel").scrollIntoView({ block: "nearest" });
});
const list = new NodeList((peerId) => choose(peerId, true), (matches) => map.setMatches(matches));
const panel = new Panel((peerId) => choose(peerId, true), () => {
  const left = chosen;
  choose(null, false);
  list.focusOn(left);
});
const events = new EventFeed((peerId) => choose(peerId, true), (peerId) => {
  const node = report?.topology.nodes.find((other) => other.peerId === peerId);
  return node ? label(node) : "";
});
const latencies = [["p50", "p50", "sent"], ["p95", "p95", "received"], ["p99", "p99", "dropped"]];
const plots = {
  messages: new Plot("messages", [
    ["sent", "sent", "sent"], ["received", "received", "received"],
    ["delivered", "delivered", "delivered"], ["dropped", "dropped", "dropped"],
  ], rate, 1),
  acks: new Plot("acks", latencies, milliseconds, 10),
  pings: new Plot("pings", latencies, milliseconds, 10),
};

function choose(peerId, withFocus) {
  chosen = peerId;
  map.choose(peerId);
  list.choose(peerId);
  showPanel();
  if (withFocus && !byId("panel").hidden) byId("panel").focus();
}

function showPanel() {
  const node = chosen && report?.topology.nodes.find((other) => other.peerId === chosen);
  if (node) panel.show(node, report);
  else panel.hide();
}

// Pushes the mean change of each counter in the last reports, per second.
function plot(now) {
  const names = ["sent", "received", "delivered", "dropped"];
  const last = recent.at(-1);
  // A node that starts anew counts from zero.
  if (last && names.some((name) => now.messages[name] < last.messages[name])) {
    recent = [];
    Object.values(plots).forEach((one) => one.clear());
  }
  recent = [...recent, { timeMs: now.timeMs, messages: now.messages }].slice(-MEAN_OF);
  const seconds = (now.timeMs - recent[0].timeMs) / 1000;
  if (seconds > 0) {
    const change = (name) => (now.messages[name] - recent[0].messages[name]) / seconds;
    plots.messages.push(now.timeMs, Object.fromEntries(names.map((name) => [name, change(name)])));
  }
  plots.acks.push(now.timeMs, now.latency.ackMs);
  plots.pings.push(now.timeMs, now.latency.pingMs);
}

function showHealth() {
  const root = byId("health");
  const isLive = state === "live";
  const { metrics, topology, load, performance } = report;
  const score = level(metrics.healthScore);
  root.dataset.level = isLive ? score : "waiting";
  setText(byId("score"), whole(metrics.healthScore));
  setText(byId("word"), isLive ? WORDS[score] : "No connection to the node");
  const causes = metrics.causes.slice(0, MAX_CAUSES).map(({ text, penalty }) => `${clean(text, 200).replace(/\.$/, "")} (−${whole(penalty)})`);
  const well = metrics.totalPeers === 0 ? "This node has no peers." : "Nothing lowers the score.";
  const lines = causes.length > 0 || !isLive ? causes : [well];
  if (!isLive) lines.unshift(`All that you see is from ${clock(report.timeMs)}.`);
  fill(byId("causes"), lines, () => element("li"), setText);
  const connected = topology.nodes.filter((node) => node.isConnected && !node.isSelf).length;
  setText(byId("figure-active"), `${whole(metrics.activePeers)} of ${whole(metrics.totalPeers)}`);
  setText(byId("figure-connected"), whole(connected));
  setText(byId("figure-latency"), milliseconds(metrics.latencyMs));
  setText(byId("figure-rate"), rate(metrics.messageRate));
  setText(byId("figure-success"), percent(performance.messageSuccessRate));
  setText(byId("figure-load"), percent(load));
  document.title = isLive ? `${whole(metrics.healthScore)} ${WORDS[score]} – p2p-node explorer` : "Disconnected – p2p-node explorer";
}

function onReport(next) {
  const { topology } = next;
  topology.nodes = topology.nodes.slice(0, MAX_NODES);
  topology.edges = topology.edges.slice(0, MAX_EDGES);
  report = next;
  plot(report);
  map.update(topology);
  list.update(topology.nodes);
  showTraffic(report);
  showHealth();
  showPanel();
}

function onState(name, text, wait) {
  if (name === "live" && state === "live") return;
  state = name;
  const link = byId("link");
  link.dataset.state = name;
  document.body.classList.toggle("stale", name !== "live" && report !== null);
  const words = { live: "Live", disconnected: "Disconnected", refused: "No access" };
  const again = wait ? `: ${clean(text, 160)}. Next try in ${Math.ceil(wait / 1000)} s` : "";
  setText(link.lastElementChild, `${words[name]}${again}`);
  if (report) {
    showHealth();
  } else if (name !== "live") {
    setText(byId("word"), "No connection to the node");
    fill(byId("causes"), [`${clean(text, 160)}.`], () => element("li"), setText);
  }
}

const THEMES = ["auto", "light", "dark"];

function storedTheme() {
  try {
    return THEMES.includes(localStorage.getItem("p2p-node.theme")) ? localStorage.getItem("p2p-node.theme") : "auto";
  } catch {
    return "auto";
  }
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  setText(byId("theme"), `Theme: ${theme}`);
  map.readColours();
  Object.values(plots).forEach((one) => one.readColours());
}

byId("theme").addEventListener("click", () => {
  const next = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length];
  try {
    localStorage.setItem("p2p-node.theme", next);
  } catch {
    // Without storage the theme lasts as long as the page.
  }
  setTheme(next);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => setTheme(document.documentElement.dataset.theme));
document.addEventListener("keydown", (event) => {
  const isTyping = event.target.matches("input, select, textarea");
  if (event.key === "/" && !isTyping) {
    event.preventDefault();
    byId("search").focus();
  } else if (event.key === "Escape" && chosen && !isTyping) {
    choose(null, false);
  }
});

setTheme(storedTheme());
follow((name, data) => {
  if (name === "report") onReport(data);
  else if (name === "event") events.push(data);
}, onState);
