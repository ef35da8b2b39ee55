// Starts Chromium for the tests and screenshots.
import { accessSync, constants } from "node:fs";

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
