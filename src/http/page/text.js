// Text of peers made harmless, and numbers as people read them.

// Longest text of a peer that the page shows, in characters. Our choice: a line of the list.
export const MAX_TEXT = 80;

// Control characters, format characters (bidi overrides, zero width), surrogates, private use, and line separators.
const INVISIBLE = /[\p{C}\p{Zl}\p{Zp}\u115f\u1160\u3164\uffa0\u{e0100}-\u{e01ef}]/gu;
// More than two marks on one letter cover the lines above and below it.
const STACKED_MARKS = /(\p{M}{2})\p{M}+/gu;

const code = (character) => `‹U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}›`;

// Returns text that a peer supplied: invisible characters as their codes, and cut to a length.
export function clean(value, longest = MAX_TEXT) {
  if (value === null || value === undefined) return "";
  const start = Array.from(String(value).slice(0, longest * 4));
  const visible = Array.from(start.slice(0, longest + 1).join("").replace(INVISIBLE, code).replace(STACKED_MARKS, "$1"));
  return visible.length > longest ? `${visible.slice(0, longest).join("")}…` : visible.join("");
}

// Returns an id with its middle left out.
export function short(id) {
  const text = clean(id, 100);
  return text.length > 14 ? `${text.slice(0, 6)}…${text.slice(-6)}` : text;
}

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const TENTHS = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const NONE = "–";

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

export const whole = (value) => (isNumber(value) ? WHOLE.format(value) : NONE);
export const rate = (value) => (isNumber(value) ? `${value < 100 ? TENTHS.format(value) : WHOLE.format(value)}/s` : NONE);
export const percent = (value) => (isNumber(value) ? `${TENTHS.format(value * 100)} %` : NONE);

export function milliseconds(value) {
  if (!isNumber(value)) return NONE;
  if (value >= 10_000) return `${TENTHS.format(value / 1000)} s`;
  return `${value < 10 ? TENTHS.format(value) : WHOLE.format(value)} ms`;
}

export function bytes(value) {
  if (!isNumber(value)) return NONE;
  const unit = Math.min(4, Math.floor(Math.log2(Math.max(1, value)) / 10));
  return `${TENTHS.format(value / 2 ** (10 * unit))} ${["B", "KiB", "MiB", "GiB", "TiB"][unit]}`;
}

export function duration(ms) {
  if (!isNumber(ms)) return NONE;
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3600)} h`;
}

export function clock(ms) {
  if (!isNumber(ms) || Math.abs(ms) > 8e15) return NONE;
  return new Date(ms).toLocaleTimeString("en-GB");
}

// Health of a score in a word. Our choice of bounds: one cause of the TOS document at its worst leaves 60 to 75.
export function level(score) {
  if (!isNumber(score)) return "unknown";
  if (score >= 80) return "healthy";
  return score >= 50 ? "degraded" : "unhealthy";
}

// Returns the element with an id.
export const byId = (id) => document.getElementById(id);

// Makes an element with text. The text is never markup.
export function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

// Sets a text if it differs, so that a report without news changes nothing on the page.
export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

// Gives a parent as many children as there are items, and fills each from its item.
export function fill(parent, items, make, update) {
  while (parent.children.length > items.length) parent.lastElementChild.remove();
  while (parent.children.length < items.length) parent.append(make());
  items.forEach((item, index) => update(parent.children[index], item));
}
