// The map: draws the layout on a canvas, and takes the pointer and the keyboard.

import { Layout } from "./layout.js";
import { byId, clean, level, setText, short, whole } from "./text.js";

// Time for layout steps in one frame, in ms: half of a frame at 60 Hz.
const FRAME_BUDGET = 8;
// Time for layout steps before the first picture, in ms: below what people notice as a delay.
const FIRST_BUDGET = 150;
// Most nodes that all have their names on the map.
const MAX_NAMED = 30;
const LONGEST_NAME = 22;
const [MIN_SCALE, MAX_SCALE] = [0.05, 6];

const reduced = matchMedia("(prefers-reduced-motion: reduce)");

// Returns the state of a node in a word: its health, or `inactive`.
export const nodeState = (node) => (node.isActive || node.isSelf ? level(node.healthScore) : "inactive");
// Returns what the page calls a node.
export const label = (node) => clean(node.name, LONGEST_NAME) || short(node.address ?? node.peerId);

function trace(context, role, x, y, size) {
  context.beginPath();
  if (role === "bootstrap") {
    const reach = size * 1.25;
    context.moveTo(x, y - reach);
    context.lineTo(x + reach, y);
    context.lineTo(x, y + reach);
    context.lineTo(x - reach, y);
    context.closePath();
  } else if (role === "light") {
    const reach = size * 1.2;
    context.moveTo(x, y - reach);
    context.lineTo(x + reach, y + reach * 0.8);
    context.lineTo(x - reach, y + reach * 0.8);
    context.closePath();
  } else {
    context.arc(x, y, size, 0, 2 * Math.PI);
  }
}

export class NetworkMap {
  // `select(peerId)` is called when a node is chosen; `null` when the ground is.
  constructor(select) {
    this.canvas = byId("map");
    this.context = this.canvas.getContext("2d");
    this.tip = byId("tip");
    this.select = select;
    this.layout = new Layout();
    this.nodes = new Map();
    this.matches = null;
    this.chosen = null;
    this.hovered = null;
    this.view = { x: 0, y: 0, scale: 1 };
    this.follows = true;
    this.frame = 0;
    this.pointers = new Map();
    this.readColours();
    new ResizeObserver(() => this.resize()).observe(this.canvas.parentElement);
    this.listen();
  }

  readColours() {
    const style = getComputedStyle(document.documentElement);
    const names = ["healthy", "degraded", "unhealthy", "unknown", "inactive", "surface", "text", "muted", "edge", "accent"];
    this.colours = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
    this.font = `12px ${style.getPropertyValue("--sans")}`;
    this.draw();
  }

  resize() {
    const { width, height } = this.canvas.parentElement.getBoundingClientRect();
    const ratio = devicePixelRatio || 1;
    [this.width, this.height] = [width, height];
    [this.canvas.width, this.canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
    this.ratio = ratio;
    this.layout.aspect = Math.max(0.5, Math.min(2.5, width / (height + 1)));
    this.draw();
  }

  update(topology) {
    const isFirst = this.nodes.size === 0;
    this.nodes = new Map(topology.nodes.map((node) => [node.peerId, node]));
    if (this.hovered && !this.nodes.has(this.hovered)) this.hover(null);
    this.layout.update([...this.nodes.keys()], topology.edges);
    const links = this.layout.links.length;
    const part = topology.complete ? "" : " · only a part fits into a report";
    setText(byId("map-summary"), `${whole(this.nodes.size)} nodes, ${whole(links)} links${part}`);
    if (isFirst) this.advance(FIRST_BUDGET);
    this.draw();
  }

  // Marks the nodes that the search found; `null` marks all.
  setMatches(matches) {
    this.matches = matches;
    this.draw();
  }

  choose(peerId) {
    this.chosen = peerId;
    this.draw();
  }

  advance(budget) {
    const end = performance.now() + budget;
    do this.layout.step();
    while (!this.layout.isCalm() && performance.now() < end);
  }

  // Draws in the next frame, and goes on until the layout is calm.
  draw() {
    if (this.frame || !this.width) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      const moves = !this.layout.isCalm();
      if (moves) this.advance(FRAME_BUDGET);
      // Who wants no motion sees the layout when it is calm.
      if (!moves || !reduced.matches || this.layout.isCalm()) {
        if (this.follows) this.fit();
        this.paint();
      }
      this.canvas.dataset.calm = String(this.layout.isCalm());
      if (moves) this.draw();
    });
  }

  fit() {
    let [left, right, top, bottom] = [Infinity, -Infinity, Infinity, -Infinity];
    for (const { x, y } of this.layout.bodies) {
      [left, right, top, bottom] = [Math.min(left, x), Math.max(right, x), Math.min(top, y), Math.max(bottom, y)];
    }
    if (left > right) return;
    const scale = Math.min((this.width - 90) / (right - left + 1), (this.height - 70) / (bottom - top + 1), 3);
    this.view = { x: (left + right) / 2, y: (top + bottom) / 2, scale: Math.max(MIN_SCALE, scale) };
  }

  toScreen({ x, y }) {
    return [(x - this.view.x) * this.view.scale + this.width / 2, (y - this.view.y) * this.view.scale + this.height / 2];
  }

  size() {
    const least = this.nodes.size > 200 ? 3.6 : this.nodes.size > 60 ? 4.5 : 6;
    return Math.max(least, Math.min(14, 7 * Math.sqrt(Math.min(3, this.view.scale))));
  }

  paint() {
    const { context, colours } = this;
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    this.paintLinks();
    const size = this.size();
    const last = [];
    for (const body of this.layout.bodies) {
      const node = this.nodes.get(body.id);
      if (node.isSelf || body.id === this.chosen || body.id === this.hovered) last.push(body);
      else this.paintNode(body, node, size);
    }
    for (const body of last) this.paintNode(body, this.nodes.get(body.id), size);
    context.font = this.font;
    context.textAlign = "center";
    context.fillStyle = colours.text;
    const names = this.nodes.size <= MAX_NAMED ? this.layout.bodies : last;
    for (const body of names) this.paintName(body, size);
    context.globalAlpha = 1;
  }

  paintLinks() {
    const { context, colours } = this;
    const focus = this.hovered ?? this.chosen;
    context.lineWidth = 1;
    context.strokeStyle = colours.edge;
    context.globalAlpha = Math.max(0.28, Math.min(0.9, 160 / (this.layout.links.length + 1)));
    context.beginPath();
    const bright = [];
    for (const link of this.layout.links) {
      if (focus && (link[0].id === focus || link[1].id === focus)) bright.push(link);
      else this.line(link);
    }
    context.stroke();
    context.globalAlpha = 1;
    context.strokeStyle = colours.accent;
    context.lineWidth = 1.5;
    context.beginPath();
    for (const link of bright) this.line(link);
    context.stroke();
  }

  line([a, b]) {
    this.context.moveTo(...this.toScreen(a));
    this.context.lineTo(...this.toScreen(b));
  }

  isDim(id) {
    return this.matches !== null && !this.matches.has(id);
  }

  paintNode(body, node, size) {
    const { context, colours } = this;
    const [x, y] = this.toScreen(body);
    const state = nodeState(node);
    context.globalAlpha = this.isDim(body.id) ? 0.18 : 1;
    trace(context, node.role, x, y, size);
    context.fillStyle = state === "inactive" ? colours.surface : colours[state];
    context.fill();
    context.lineWidth = state === "inactive" ? 1.5 : 1;
    context.strokeStyle = state === "inactive" ? colours.inactive : colours.surface;
    context.stroke();
    context.fillStyle = colours.surface;
    if (state === "degraded") {
      context.beginPath();
      context.arc(x, y, size * 0.36, 0, 2 * Math.PI);
      context.fill();
    } else if (state === "unhealthy") {
      context.fillRect(x - size * 0.6, y - size * 0.18, size * 1.2, size * 0.36);
    }
    if (node.isSelf || body.id === this.chosen || body.id === this.hovered) {
      context.beginPath();
      context.arc(x, y, size * 1.3 + 4, 0, 2 * Math.PI);
      context.lineWidth = 2;
      context.strokeStyle = body.id === this.chosen || body.id === this.hovered ? colours.accent : colours.text;
      context.stroke();
    }
  }

  paintName(body, size) {
    const node = this.nodes.get(body.id);
    const [x, y] = this.toScreen(body);
    this.context.globalAlpha = this.isDim(body.id) ? 0.25 : 1;
    this.context.lineWidth = 4;
    this.context.lineJoin = "round";
    this.context.strokeStyle = this.colours.surface;
    const name = node.isSelf ? `${label(node)} (this node)` : label(node);
    const below = y + size * 1.3 + (node.isSelf || body.id === this.chosen ? 19 : 15);
    this.context.strokeText(name, x, below);
    this.context.fillText(name, x, below);
  }

  at(x, y) {
    const reach = Math.max(14, this.size() * 1.6) ** 2;
    let [best, nearest] = [null, reach];
    for (const body of this.layout.bodies) {
      const [bodyX, bodyY] = this.toScreen(body);
      const square = (bodyX - x) ** 2 + (bodyY - y) ** 2;
      if (square < nearest) [best, nearest] = [body, square];
    }
    return best?.id ?? null;
  }

  hover(id) {
    if (id === this.hovered) return;
    this.hovered = id;
    const node = id && this.nodes.get(id);
    this.tip.hidden = !node;
    this.canvas.style.cursor = node ? "pointer" : "grab";
    if (node) {
      const [x, y] = this.toScreen(this.layout.index.get(id));
      setText(this.tip, `${label(node)} · ${node.role} · ${nodeState(node)}`);
      this.tip.style.left = `${Math.max(80, Math.min(this.width - 80, x))}px`;
      this.tip.style.top = `${Math.max(30, y - 14)}px`;
    }
    this.draw();
  }

  zoom(factor, x = this.width / 2, y = this.height / 2) {
    this.follows = false;
    const scale = Math.max(MIN_SCALE, Math.min(MAX_SCALE, this.view.scale * factor));
    const [offsetX, offsetY] = [x - this.width / 2, y - this.height / 2];
    this.view.x += offsetX / this.view.scale - offsetX / scale;
    this.view.y += offsetY / this.view.scale - offsetY / scale;
    this.view.scale = scale;
    this.draw();
  }

  pan(x, y) {
    this.follows = false;
    this.view.x -= x / this.view.scale;
    this.view.y -= y / this.view.scale;
    this.draw();
  }

  showAll() {
    this.follows = true;
    this.draw();
  }

  listen() {
    const { canvas } = this;
    byId("zoom-in").addEventListener("click", () => this.zoom(1.4));
    byId("zoom-out").addEventListener("click", () => this.zoom(1 / 1.4));
    byId("zoom-fit").addEventListener("click", () => this.showAll());
    const keys = {
      ArrowLeft: () => this.pan(40, 0),
      ArrowRight: () => this.pan(-40, 0),
      ArrowUp: () => this.pan(0, 40),
      ArrowDown: () => this.pan(0, -40),
      "+": () => this.zoom(1.4),
      "=": () => this.zoom(1.4),
      "-": () => this.zoom(1 / 1.4),
      0: () => this.showAll(),
    };
    canvas.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(keys, event.key)) return;
      event.preventDefault();
      keys[event.key]();
    });
    canvas.addEventListener("wheel", (event) => {
      // Without a key the wheel scrolls the page, as people expect it to.
      if (!event.ctrlKey && !event.metaKey && document.activeElement !== canvas) return;
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY / 300), event.offsetX, event.offsetY);
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => this.release(event));
    canvas.addEventListener("pointerleave", () => this.hover(null));
  }

  press(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
    if (this.pointers.size === 1) this.travelled = 0;
  }

  move(event) {
    const last = this.pointers.get(event.pointerId);
    const now = { x: event.offsetX, y: event.offsetY };
    if (!last) {
      this.hover(this.at(now.x, now.y));
      return;
    }
    this.pointers.set(event.pointerId, now);
    this.travelled += Math.abs(now.x - last.x) + Math.abs(now.y - last.y);
    if (this.pointers.size === 1) {
      if (this.travelled > 4) this.pan(now.x - last.x, now.y - last.y);
      return;
    }
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)[1];
    const distance = (point) => Math.hypot(point.x - other.x, point.y - other.y) || 1;
    this.zoom(distance(now) / distance(last), (now.x + other.x) / 2, (now.y + other.y) / 2);
  }

  release(event) {
    const isClick = event.type === "pointerup" && this.pointers.size === 1 && this.travelled <= 4;
    this.pointers.delete(event.pointerId);
    if (isClick) this.select(this.at(event.offsetX, event.offsetY));
  }
}
