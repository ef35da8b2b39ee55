// What the node knows of one agent.

import { label, nodeState } from "./map.js";
import { byId, clean, clock, duration, element, fill, milliseconds, setText, short, whole } from "./text.js";

// Neighbours, capabilities and addresses that the panel lists.
const MAX_NEIGHBOURS = 40;
const MAX_ITEMS = 64;
const LONGEST_ADDR = 160;

const bindings = { proven: "proven: a signature of the agent names this node", unproven: "not proven: this node has no record of the agent" };

export class Panel {
  // `select(peerId)` is called for a neighbour, and `close()` when the reader leaves.
  constructor(select, close) {
    this.root = byId("panel");
    this.close = close;
    this.select = select;
    const head = element("header");
    this.title = element("h3");
    this.title.id = "panel-title";
    const button = element("button", "quiet", "Close");
    button.type = "button";
    button.id = "panel-close";
    button.addEventListener("click", () => close());
    head.append(this.title, button);
    this.notice = element("p", "muted");
    this.facts = element("dl", "facts");
    this.heading = element("h4", "", "Links");
    this.neighbours = element("ul", "neighbours");
    this.neighbours.addEventListener("click", (event) => {
      const target = event.target.closest("button");
      if (target) select(target.peerId);
    });
    this.root.append(head, this.notice, this.facts, this.heading, this.neighbours);
    this.root.addEventListener("keydown", (event) => {
      if (event.key === "Escape") close();
    });
  }

  hide() {
    this.root.hidden = true;
  }

  show(node, report) {
    this.root.hidden = false;
    setText(this.title, label(node));
    setText(this.notice, node.isSelf ? "This is the node that you look at." : "Name, version, capabilities, score and uptime are claims of the agent.");
    const ago = (ms) => (ms ? `${duration(report.timeMs - ms)} ago, ${clock(ms)}` : "–");
    const some = (value, format) => (value === undefined || value === null ? "–" : format(value));
    const list = (values) => (values ?? []).slice(0, MAX_ITEMS).map((value) => clean(value, LONGEST_ADDR)).join("\n") || "–";
    const binding = Object.hasOwn(bindings, node.binding) ? bindings[node.binding] : "not known";
    const state = nodeState(node);
    const rows = [
      ["Agent address", some(node.address, (value) => clean(value)), "mono"],
      ["Binding", node.isSelf ? "proven: this is the agent of this node" : binding],
      ["Name", some(node.name, (value) => clean(value))],
      ["PeerId", clean(node.peerId, 100), "mono"],
      ["Role", clean(node.role, 20)],
      ["State", `${state === "unknown" ? "no score" : state}, ${node.isSelf ? "this node" : node.isConnected ? "connected" : "not connected"}`],
      ["Health score", some(node.healthScore, (value) => `${whole(value)} of 100`)],
      ["Latency", some(node.latencyMs, milliseconds)],
      ["Reputation", some(node.reputation, (value) => Number(value).toFixed(2))],
      ["Last seen", ago(node.lastSeenMs)],
      ["First seen", ago(node.firstSeenMs)],
      ["Uptime", some(node.uptimeMs, duration)],
      ["Peers", some(node.peers, whole)],
      ["Version", some(node.version, (value) => clean(value))],
      ["Region", some(node.region, (value) => clean(value))],
      ["Capabilities", list(node.capabilities)],
      ["Addresses", list(node.addrs), "mono"],
    ];
    fill(this.facts, rows, () => {
      const row = element("div");
      row.append(element("dt"), element("dd"));
      return row;
    }, (row, [name, value, style]) => {
      setText(row.firstElementChild, name);
      setText(row.lastElementChild, value);
      row.lastElementChild.className = style ?? "";
    });
    this.showNeighbours(node, report.topology);
  }

  showNeighbours(node, { nodes, edges }) {
    const ids = new Set();
    for (const { source, target } of edges) {
      if (source === node.peerId) ids.add(target);
      else if (target === node.peerId) ids.add(source);
    }
    const known = nodes.filter((other) => ids.has(other.peerId)).slice(0, MAX_NEIGHBOURS);
    const more = ids.size > known.length ? `, ${known.length} shown` : "";
    setText(this.heading, `Links to ${whole(ids.size)} nodes${more}`);
    fill(this.neighbours, known, () => {
      const item = element("li");
      const button = element("button", "quiet");
      button.type = "button";
      item.append(button);
      return item;
    }, (item, other) => {
      const button = item.firstElementChild;
      button.peerId = other.peerId;
      setText(button, other.name ? label(other) : short(other.address ?? other.peerId));
    });
  }
}
