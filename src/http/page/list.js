// The list of nodes with its search and filters: the accessible form of the map.

import { label, nodeState } from "./map.js";
import { byId, clean, element, fill, milliseconds, setText, short, whole } from "./text.js";

// Rows that the list shows. Our choice: a person narrows the search before reading more.
const MAX_ROWS = 300;
// Capabilities that the filter offers.
const MAX_CAPABILITIES = 64;

const rank = (node) => (node.isSelf ? 0 : node.isConnected ? 1 : node.isActive ? 2 : 3);

// The text in which the search looks.
const haystack = (node) =>
  [node.name, node.address, node.peerId, node.role, node.version, node.region, ...(node.capabilities ?? []), ...(node.addrs ?? [])]
    .filter(Boolean).join("\n").toLowerCase();

export class NodeList {
  // `select(peerId)` is called when a row is chosen, and `changed(matches)` with the set of matches, or `null` for all.
  constructor(select, changed) {
    this.list = byId("nodes");
    this.nodes = [];
    this.select = select;
    this.changed = changed;
    this.chosen = null;
    this.search = byId("search");
    this.role = byId("filter-role");
    this.health = byId("filter-health");
    this.capability = byId("filter-capability");
    this.connected = byId("filter-connected");
    for (const control of [this.search, this.role, this.health, this.capability, this.connected]) {
      control.addEventListener("input", () => this.show());
    }
    this.search.addEventListener("keydown", (event) => {
      if (event.key !== "ArrowDown") return;
      event.preventDefault();
      this.list.querySelector("button")?.focus();
    });
    this.list.addEventListener("keydown", (event) => this.walk(event));
    this.list.addEventListener("click", (event) => {
      const row = event.target.closest("button");
      if (row) this.select(row.peerId);
    });
  }

  update(nodes) {
    this.nodes = [...nodes].sort((a, b) => rank(a) - rank(b) || label(a).localeCompare(label(b)) || (a.peerId < b.peerId ? -1 : 1));
    this.offerCapabilities();
    this.show();
  }

  offerCapabilities() {
    const counts = new Map();
    for (const node of this.nodes) for (const name of node.capabilities ?? []) counts.set(name, (counts.get(name) ?? 0) + 1);
    const names = [...counts.keys()].sort((a, b) => counts.get(b) - counts.get(a) || (a < b ? -1 : 1)).slice(0, MAX_CAPABILITIES);
    const chosen = this.capability.value;
    // The one that is in use stays, so that a filter does not end by itself.
    if (chosen && !names.includes(chosen)) names.push(chosen);
    names.sort();
    if (JSON.stringify(names) === this.offered) return;
    this.offered = JSON.stringify(names);
    this.capability.replaceChildren(element("option", "", "any capability"), ...names.map((name) => {
      const option = element("option", "", clean(name, 40));
      option.value = name;
      return option;
    }));
    this.capability.firstElementChild.value = "";
    this.capability.value = chosen;
  }

  matches(node) {
    const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const text = words.length > 0 ? haystack(node) : "";
    return words.every((word) => text.includes(word))
      && (!this.role.value || node.role === this.role.value)
      && (!this.health.value || nodeState(node) === this.health.value)
      && (!this.capability.value || (node.capabilities ?? []).includes(this.capability.value))
      && (!this.connected.checked || node.isConnected || node.isSelf);
  }

  show() {
    const found = this.nodes.filter((node) => this.matches(node));
    const all = found.length === this.nodes.length;
    const rows = found.slice(0, MAX_ROWS);
    const more = found.length > rows.length ? `, the first ${MAX_ROWS} shown` : "";
    setText(byId("list-count"), all ? `${whole(found.length)}${more}` : `${whole(found.length)} of ${whole(this.nodes.length)}${more}`);
    byId("list-empty").hidden = found.length > 0 || this.nodes.length === 0;
    fill(this.list, rows, row, (item, node) => this.fillRow(item.firstElementChild, node));
    this.changed(all ? null : new Set(found.map((node) => node.peerId)));
  }

  fillRow(button, node) {
    const state = nodeState(node);
    const hadFocus = button === document.activeElement && button.peerId !== node.peerId;
    if (hadFocus) this.lost = button.peerId;
    button.peerId = node.peerId;
    if (this.lost === node.peerId) {
      button.focus({ preventScroll: true });
      this.lost = null;
    }
    const className = `row ${state} ${clean(node.role, 12)}`;
    if (button.className !== className) button.className = className;
    button.setAttribute("aria-current", String(node.peerId === this.chosen));
    const [, name, id, health, latency] = button.children;
    setText(name.firstElementChild, label(node));
    setText(name.lastElementChild, node.isSelf ? "this node" : "");
    setText(id, `${short(node.name && node.address ? node.address : node.peerId)} · ${clean(node.role, 12)}${node.isConnected ? " · connected" : ""}`);
    setText(health, state === "unknown" ? "no score" : state === "inactive" ? state : `${state} ${whole(node.healthScore)}`);
    setText(latency, node.latencyMs === undefined || node.latencyMs === null ? "" : milliseconds(node.latencyMs));
  }

  choose(peerId) {
    this.chosen = peerId;
    for (const item of this.list.children) {
      const button = item.firstElementChild;
      button.setAttribute("aria-current", String(button.peerId === peerId));
    }
  }

  // Arrow keys go from row to row.
  walk(event) {
    const item = event.target.closest("li");
    const next = {
      ArrowDown: () => item.nextElementSibling,
      ArrowUp: () => item.previousElementSibling ?? this.search,
      Home: () => this.list.firstElementChild,
      End: () => this.list.lastElementChild,
    };
    if (!item || !Object.hasOwn(next, event.key)) return;
    event.preventDefault();
    const target = next[event.key]();
    (target?.querySelector?.("button") ?? target)?.focus();
  }

  focusOn(peerId) {
    const rows = [...this.list.children].map((item) => item.firstElementChild);
    (rows.find((button) => button.peerId === peerId) ?? this.search).focus();
  }
}

function row() {
  const item = element("li");
  const button = element("button");
  button.type = "button";
  const name = element("span", "name");
  name.append(element("bdi"), element("em"));
  button.append(element("i", "shape"), name, element("span", "id"), element("span", "state"), element("span", "latency"));
  item.append(button);
  return item;
}
