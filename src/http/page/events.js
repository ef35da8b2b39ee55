// The event feed: the newest events, and no more of them than fit.

import { byId, clean, clock, element, fill, setText, short } from "./text.js";

// Events that the page remembers. Our choice: several screens, and below 100 kB.
const MAX_EVENTS = 200;
const LONGEST_TEXT = 200;

const words = {
  peer_connected: "connected",
  peer_disconnected: "disconnected",
  peer_discovered: "discovered",
  peer_banned: "banned",
  message: "message",
  broadcast: "broadcast",
  delivery: "delivery",
  log: "log",
};
const groups = { message: ["message", "broadcast", "delivery"], log: ["log"] };

const isIn = (group, kind) => (group === "peer" ? kind.startsWith("peer_") : !group || groups[group].includes(kind));

export class EventFeed {
  // `select(peerId)` is called when the reader chooses the peer of an event.
  constructor(select, name) {
    this.events = [];
    this.list = byId("events");
    this.kind = byId("events-kind");
    this.name = name;
    this.frame = 0;
    this.kind.addEventListener("input", () => this.show());
    this.list.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button) select(button.peerId);
    });
  }

  push(event) {
    if (!Object.hasOwn(words, event.kind)) return;
    this.events.unshift({
      kind: event.kind,
      timeMs: event.timeMs,
      text: clean(event.text, LONGEST_TEXT),
      peerId: event.peerId ? clean(event.peerId, 100) : "",
      topic: clean(event.topic),
    });
    this.events.length = Math.min(this.events.length, MAX_EVENTS);
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.show();
    });
  }

  show() {
    const shown = this.events.filter((event) => isIn(this.kind.value, event.kind));
    byId("events-empty").hidden = shown.length > 0;
    this.list.hidden = shown.length === 0;
    fill(this.list, shown, () => {
      const item = element("li");
      const button = element("button", "quiet");
      button.type = "button";
      item.append(element("time"), element("b"), button, element("bdi"));
      return item;
    }, (item, event) => {
      const [time, kind, peer, text] = item.children;
      item.className = event.kind;
      setText(time, clock(event.timeMs));
      setText(kind, words[event.kind]);
      peer.hidden = !event.peerId;
      peer.peerId = event.peerId;
      setText(peer, event.peerId ? this.name(event.peerId) || short(event.peerId) : "");
      setText(text, event.topic ? `${event.topic}: ${event.text}` : event.text);
    });
  }
}
