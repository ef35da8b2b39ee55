// Starts Chromium for the tests and screenshots. `node browser.mjs` fails if it is not installed.
import { accessSync, constants } from "node:fs";
import { fileURLToPath } from "node:url";

import { chromium } from "playwright-core";

// Longest wait for a condition, in ms. CI machines are slow.
export const TIMEOUT = 30_000;

const candidates = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser"].filter(Boolean);

// Returns the path of Chromium, or `undefined` if it is not installed.
export function findChromium() {
  return candidates.find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

// Root may not use the sandbox of Chromium.
export const launch = () =>
  chromium.launch({ executablePath: findChromium(), args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"] });

// Opens a page and remembers what must not happen in it: errors, dialogs, and requests to other origins.
// `expected` is a pattern of console errors that the test causes itself.
export async function open(browser, url, { expected = /^$/, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1360, height: 900 }, timezoneId: "UTC", ...options });
  context.setDefaultTimeout(TIMEOUT);
  const page = await context.newPage();
  const problems = [];
  page.on("console", (message) => {
    if (message.type() === "error" && !expected.test(message.text())) problems.push(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => problems.push(`error: ${error}`));
  page.on("dialog", (dialog) => {
    problems.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  const { origin } = new URL(url);
  page.on("request", (request) => {
    const isOwn = request.url().startsWith(`${origin}/`) || request.url().startsWith("data:");
    if (!isOwn) problems.push(`request: ${request.url()}`);
  });
  await page.goto(url);
  return { page, problems, context };
}

// Waits until a locator has a text or matches a pattern.
export async function hasText(locator, expected) {
  const matches = (text) => (expected instanceof RegExp ? expected.test(text) : text === expected);
  const end = Date.now() + TIMEOUT;
  let last = "";
  while (Date.now() < end) {
    last = (await locator.textContent()).trim();
    if (matches(last)) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`the text is ${JSON.stringify(last)}, not ${expected}`);
}

// Waits until a condition holds, and returns what it returned.
export async function until(what, condition, timeout = TIMEOUT) {
  const end = Date.now() + timeout;
  while (Date.now() < end) {
    const found = await condition();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`this did not happen in ${timeout} ms: ${what}`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  if (!findChromium()) throw new Error("Chromium is not installed: apt-get install chromium, or set CHROMIUM to its path");
}
