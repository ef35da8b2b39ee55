// Plots of the last minutes.

import { byId, element, fill, setText } from "./text.js";

// Points that a plot remembers: five minutes of one report each second.
const MAX_POINTS = 300;
const SPAN_MS = MAX_POINTS * 1000;

// Rounds up to 1, 2 or 5 times a power of ten.
function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].find((step) => step * power >= value * 0.999) * power;
}

export class Plot {
  // `series` lists [key, label, class]; `format` writes a value; `least` is the smallest top of the axis.
  constructor(name, series, format, least) {
    this.canvas = byId(`plot-${name}`);
    this.context = this.canvas.getContext("2d");
    this.legend = byId(`legend-${name}`);
    this.series = series.map(([key, label, style]) => ({ key, label, style }));
    Object.assign(this, { name, format, least, points: [], at: null, colours: {}, caption: "" });
    fill(this.legend, this.series, () => {
      const item = element("li");
      item.append(element("i"), element("span"), element("b"));
      return item;
    }, (item, { label, style, key }) => {
      item.className = style;
      item.dataset.key = key;
      setText(item.children[1], label);
    });
    new ResizeObserver(() => this.resize()).observe(this.canvas);
    this.canvas.addEventListener("pointermove", (event) => this.look(event.offsetX));
    this.canvas.addEventListener("pointerleave", () => this.look(null));
  }

  clear() {
    this.points = [];
  }

  push(timeMs, values) {
    this.points.push({ timeMs, ...values });
    if (this.points.length > MAX_POINTS) this.points.splice(0, this.points.length - MAX_POINTS);
    this.paint();
  }

  readColours() {
    const style = getComputedStyle(document.documentElement);
    const names = ["sent", "received", "delivered", "dropped", "grid", "muted", "text"];
    this.colours = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
    this.font = `11px ${style.getPropertyValue("--sans")}`;
    this.paint();
  }

  resize() {
    const ratio = devicePixelRatio || 1;
    [this.width, this.height] = [this.canvas.clientWidth, this.canvas.clientHeight];
    [this.canvas.width, this.canvas.height] = [Math.round(this.width * ratio), Math.round(this.height * ratio)];
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.paint();
  }

  look(x) {
    this.at = x;
    this.paint();
  }

  shown() {
    const end = this.points.at(-1)?.timeMs;
    if (this.at === null || end === undefined) return this.points.at(-1);
    const time = end - (1 - (this.at - this.left) / (this.width - this.left - 6)) * SPAN_MS;
    return this.points.reduce((best, point) => (Math.abs(point.timeMs - time) < Math.abs(best.timeMs - time) ? point : best));
  }

  paint() {
    const { context, points } = this;
    const shown = this.shown();
    this.series.forEach(({ key }, index) => {
      setText(this.legend.children[index].lastElementChild, this.format(shown?.[key]));
    });
    if (!this.width || !this.font) return;
    const values = points.flatMap((point) => this.series.map(({ key }) => point[key] ?? 0));
    const top = nice(Math.max(this.least, ...values));
    const [left, right, upper, lower] = [this.left = 46, this.width - 6, 8, this.height - 20];
    context.clearRect(0, 0, this.width, this.height);
    context.font = this.font;
    context.lineWidth = 1;
    for (const share of [0, 0.5, 1]) {
      const y = Math.round(lower - share * (lower - upper)) + 0.5;
      context.strokeStyle = this.colours.grid;
      context.beginPath();
      context.moveTo(left, y);
      context.lineTo(right, y);
      context.stroke();
      context.fillStyle = this.colours.muted;
      context.textAlign = "right";
      context.fillText(this.format(top * share).replace("/s", ""), left - 6, y + 4);
    }
    context.textAlign = "left";
    context.fillText("5 min ago", left, this.height - 5);
    context.textAlign = "right";
    context.fillText("now", right, this.height - 5);
    if (points.length === 0) return;
    const end = points.at(-1).timeMs;
    const place = (time) => right - ((end - time) / SPAN_MS) * (right - left);
    for (const { key, style } of this.series) {
      context.strokeStyle = this.colours[style];
      context.lineWidth = 1.75;
      context.setLineDash({ dropped: [4, 3], delivered: [1.5, 2.5] }[style] ?? []);
      context.beginPath();
      let pen = false;
      for (const point of points) {
        const [x, value] = [place(point.timeMs), point[key]];
        if (x < left || value === null || value === undefined) {
          pen = false;
          continue;
        }
        const y = lower - (value / top) * (lower - upper);
        if (pen) context.lineTo(x, y);
        else context.moveTo(x, y);
        pen = true;
      }
      context.stroke();
    }
    context.setLineDash([]);
    if (this.at !== null && shown) {
      context.strokeStyle = this.colours.muted;
      context.lineWidth = 1;
      context.beginPath();
      context.moveTo(Math.round(place(shown.timeMs)) + 0.5, upper);
      context.lineTo(Math.round(place(shown.timeMs)) + 0.5, lower);
      context.stroke();
    }
    const words = this.series.map(({ key, label }) => `${label} ${this.format(points.at(-1)[key])}`).join(", ");
    this.canvas.setAttribute("aria-label", `Now: ${words}`);
  }
}
