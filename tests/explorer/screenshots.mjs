// Takes the screenshots of docs/explorer: `node screenshots.mjs [directory]`.
import { FeedServer } from "./feed.mjs";
import { launch, TIMEOUT } from "./browser.mjs";
import { Network } from "./network.mjs";

const directory = process.argv[2] ?? new URL("../../docs/explorer", import.meta.url).pathname;
// Reports that fill the plots: four minutes.
const REPORTS = 240;

async function shot(browser, name, { nodes, colorScheme, width = 1360, height = 900, chosen = false, seed = 7 }) {
  const feed = new FeedServer(new Network(nodes, seed), { intervalMs: 12 });
  const url = await feed.listen();
  const context = await browser.newContext({ viewport: { width, height }, colorScheme, deviceScaleFactor: 1, timezoneId: "UTC" });
  const page = await context.newPage();
  await page.goto(url);
  await page.locator('#link[data-state="live"]').waitFor({ timeout: TIMEOUT });
  while (feed.network.phase < REPORTS) await new Promise((resolve) => setTimeout(resolve, 50));
  clearInterval(feed.timer);
  await page.locator('#map[data-calm="true"]').waitFor({ timeout: TIMEOUT });
  if (chosen) await page.locator("#nodes button").nth(2).click();
  await page.screenshot({ path: `${directory}/${name}.png` });
  await context.close();
  await feed.close();
}

const browser = await launch();
for (const colorScheme of ["light", "dark"]) {
  for (const nodes of [5, 50, 500]) await shot(browser, `${nodes}-${colorScheme}`, { nodes, colorScheme, height: nodes === 50 ? 1300 : 900 });
}
await shot(browser, "agent", { nodes: 50, colorScheme: "light", chosen: true });
await shot(browser, "phone", { nodes: 50, colorScheme: "dark", width: 360, height: 780 });
await browser.close();
