// The explorer page in Chromium, with a simulated feed.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { hasText, launch, open, until } from "./browser.mjs";
import { FeedServer } from "./feed.mjs";
import { Network } from "./network.mjs";

const SEED = 3;
let browser;

before(async () => {
  browser = await launch();
});
after(() => browser.close());

// Shows a network, runs `body`, and then fails if the page had an error or asked another origin.
function pageTest(name, { nodes = 12, change = () => {}, feed: options = {}, page: pageOptions = {} }, body) {
  test(name, async () => {
    const network = new Network(nodes, SEED);
    change(network);
    const feed = new FeedServer(network, { intervalMs: 0, ...options });
    const url = await feed.listen();
    const opened = await open(browser, url, pageOptions);
    try {
      await body({ ...opened, feed, network, url, $: (selector) => opened.page.locator(selector) });
      assert.deepEqual(opened.problems, []);
    } finally {
      await opened.context.close();
      await feed.close();
    }
  });
}

const rows = (page) => page.locator("#nodes button");
const names = (page) => page.locator("#nodes .name bdi").allTextContents();

pageTest("a_small_network_is_degraded_and_the_page_says_why", { nodes: 5, change: allActive }, async ({ page, $ }) => {
  await hasText($("#score"), "70");
  await hasText($("#word"), "Degraded");
  await hasText($("#causes"), "Only 4 peers are active; 10 are enough (−30)");
  assert.ok(await $("svg g.degraded").first().isVisible(), "the shape of degraded");
  assert.equal(await $(".verdict g.healthy").isVisible(), false);
  assert.equal(await rows(page).count(), 5);
  assert.match(await page.title(), /^70 Degraded/);
});

pageTest("a_healthy_network_shows_its_figures_topics_and_distribution", { nodes: 50, change: allActive }, async ({ page, $, network }) => {
  await hasText($("#word"), "Healthy");
  await hasText($("#figure-active"), "49 of 49");
  await hasText($("#map-summary"), `50 nodes, ${network.edges.length} links`);
  await hasText($("#topics tr").first(), /^builds/);
  await hasText($("#by-version li").first(), /^0\.5\.0/);
  assert.equal(await rows(page).count(), 50);
});

pageTest("search_and_filters_narrow_the_list", { nodes: 50, change: allActive }, async ({ page, $, network }) => {
  await hasText($("#list-count"), "50");
  const search = $("#search");
  const target = network.nodes[7];
  for (const words of [target.name, target.address.slice(5, 20), target.peerId.slice(-12), `${target.role} ${target.address}`]) {
    await search.fill(words.toUpperCase());
    await hasText($("#list-count"), /^\d+ of 50$/);
    assert.ok((await names(page)).includes(target.name), words);
  }
  await search.fill("");
  const expect = async (what, holds) => hasText($("#list-count"), `${network.nodes.filter(holds).length} of 50`);
  await $("#filter-role").selectOption("light");
  await expect("role", (node) => node.role === "light");
  await $("#filter-role").selectOption("");
  await $("#filter-capability").selectOption("review");
  await expect("capability", (node) => node.capabilities.includes("review"));
  await $("#filter-connected").check();
  await expect("both", (node) => node.capabilities.includes("review") && (node.isConnected || node.isSelf));
  await $("#filter-connected").uncheck();
  await $("#filter-capability").selectOption("");
  await $("#filter-health").selectOption("unhealthy");
  await expect("health", (node) => node.healthScore < 50);
  await $("#filter-health").selectOption("");
  await search.fill("no such node");
  await $("#list-empty").waitFor();
  assert.equal(await rows(page).count(), 0);
});

pageTest("counters_move_by_exactly_what_was_sent", {}, async ({ $, feed, network }) => {
  await hasText($("#count-sent"), "4,120");
  Object.assign(network.counts, { sent: 4127, received: 9876, delivered: 4013, dropped: 32 });
  network.timeMs += 1000;
  feed.report();
  for (const [name, text] of [["sent", "4,127"], ["received", "9,876"], ["delivered", "4,013"], ["dropped", "32"], ["expired", "12"]]) {
    await hasText($(`#count-${name}`), text);
  }
  await hasText($('#legend-messages [data-key="sent"] b'), "7/s");
  await hasText($('#legend-messages [data-key="dropped"] b'), "1/s");
});

pageTest("a_node_turns_grey_and_leaves", { change: allActive }, async ({ page, $, feed, network }) => {
  const node = network.nodes.find((other) => other.isConnected && other.name);
  const row = rows(page).filter({ hasText: node.address.slice(-6) });
  await row.waitFor();
  Object.assign(node, { isActive: false, isConnected: false });
  feed.report();
  await hasText(row.locator(".state"), "inactive");
  assert.match(await row.getAttribute("class"), /inactive/);
  network.nodes = network.nodes.filter((other) => other !== node);
  feed.report();
  await row.waitFor({ state: "detached" });
  await hasText($("#map-summary"), /^11 nodes/);
});

const HOSTILE = {
  name: `<img src=x onerror="alert(1)">\u202e\u0000\u200b${"x".repeat(5000)}`,
  version: "<script>alert(2)</script>",
  region: "\u2066<b>region</b>\nline",
  capabilities: ['"><script>alert(3)</script>', "__proto__", "constructor"],
  addrs: [`/dns4/${"a".repeat(5000)}`, "javascript:alert(4)"],
};

pageTest("hostile_text_of_peers_is_shown_as_text", { change: (network) => Object.assign(network.nodes[4], HOSTILE, { isConnected: true }) },
  async ({ page, $, feed, network }) => {
    const node = network.nodes[4];
    await $("#search").fill(node.address);
    const row = rows(page).first();
    await hasText(row.locator("bdi"), "<img src=x onerror=\"al…");
    await row.click();
    const panel = await $("#panel").innerText();
    assert.ok(panel.includes('<img src=x onerror="alert(1)">‹U+202E›‹U+0000›‹U+200B›xxx'), panel);
    assert.ok(panel.includes("<script>alert(2)</script>"), panel);
    assert.ok(panel.includes("‹U+2066›<b>region</b>‹U+000A›line"), panel);
    assert.ok(panel.length < 2000, "lengths are cut");
    feed.write("event", { timeMs: 1, kind: "log", text: "<img src=x onerror=alert(5)>\u202egnp.exe" });
    feed.write("event", { timeMs: 1, kind: "__proto__", text: "no such kind" });
    feed.write("event", { timeMs: 1, kind: "broadcast", text: "from", peerId: node.peerId, topic: "<svg onload=alert(6)>" });
    await hasText($("#events li").nth(1).locator("bdi"), "<img src=x onerror=alert(5)>‹U+202E›gnp.exe");
    await hasText($("#events li").nth(0).locator("bdi"), "<svg onload=alert(6)>: from");
    assert.equal(await $("#events li").count(), 2);
    assert.equal(await $("body img, body script, body iframe, body b region, #events svg").count(), 0);
    assert.ok((await $("#filter-capability option").allTextContents()).includes('"><script>alert(3)</script>'), "a capability");
    assert.ok(await $('#filter-capability option[value="__proto__"]').count(), "a capability that is a name of JavaScript");
    // The reader sees the harmless characters of other scripts as they are.
    const cleaned = await page.evaluate(async () => {
      const { clean } = await import("/text.js");
      return [clean("Ζωή 世界 שלום"), clean(`e${"\u0301".repeat(50)}`).length, clean("\u{e0041}\ud800"), clean(null), clean("a".repeat(81))];
    });
    assert.deepEqual(cleaned, ["Ζωή 世界 שלום", 3, "‹U+E0041›‹U+D800›", "", `${"a".repeat(80)}…`]);
  });

pageTest("the_keyboard_reaches_search_list_and_agent", { change: allActive }, async ({ page, $ }) => {
  await hasText($("#list-count"), "12");
  const focused = (selector) => until(`focus on ${selector}`, () => page.evaluate((wanted) => document.activeElement.matches(wanted), selector));
  await page.keyboard.press("Tab");
  await focused(".skip");
  await page.keyboard.press("/");
  await focused("#search");
  await page.keyboard.press("ArrowDown");
  await focused("#nodes li:nth-child(1) button");
  await page.keyboard.press("ArrowDown");
  await focused("#nodes li:nth-child(2) button");
  await page.keyboard.press("End");
  await focused("#nodes li:nth-child(12) button");
  await page.keyboard.press("Enter");
  await focused("#panel");
  await page.keyboard.press("Escape");
  await focused("#nodes li:nth-child(12) button");
  assert.equal(await $("#panel").isVisible(), false);
  await page.keyboard.press("Home");
  await page.keyboard.press("ArrowUp");
  await focused("#search");
  const picture = () => page.evaluate(() => document.getElementById("map").toDataURL());
  await $('#map[data-calm="true"]').focus();
  const start = await picture();
  await page.keyboard.press("+");
  const zoomed = await until("the map zooms", async () => ((await picture()) !== start ? picture() : null));
  await page.keyboard.press("ArrowLeft");
  await until("the map moves", async () => (await picture()) !== zoomed);
  await page.keyboard.press("0");
  await until("the map shows all", async () => (await picture()) === start);
});

pageTest("a_click_on_the_map_opens_the_agent", { nodes: 1, change: allActive }, async ({ $, network }) => {
  await $('#map[data-calm="true"]').waitFor();
  await $("#map").click();
  await hasText($("#panel-title"), network.nodes[0].name);
  await $("#map").click({ position: { x: 5, y: 5 } });
  await $("#panel").waitFor({ state: "hidden" });
});

pageTest("a_tap_on_the_map_of_a_phone_brings_the_agent_into_view", { nodes: 1, change: allActive, page: { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true } },
  async ({ $, network }) => {
    await $('#map[data-calm="true"]').waitFor();
    await $("#map").tap();
    await hasText($("#panel-title"), network.nodes[0].name);
    await until("the agent is on the screen", async () => {
      const { y } = await $("#panel-title").boundingBox();
      return y >= 0 && y < 740;
    });
  });

pageTest("the_theme_follows_the_system_or_the_reader", { page: { colorScheme: "dark" } }, async ({ page, $ }) => {
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const [dark, light] = ["rgb(15, 18, 20)", "rgb(244, 245, 246)"];
  await hasText($("#list-count"), "12");
  assert.equal(await ground(), dark);
  await page.emulateMedia({ colorScheme: "light" });
  assert.equal(await ground(), light);
  for (const [text, colour] of [["Theme: light", light], ["Theme: dark", dark]]) {
    await $("#theme").click();
    await hasText($("#theme"), text);
    assert.equal(await ground(), colour);
  }
  await page.reload();
  await hasText($("#theme"), "Theme: dark");
  assert.equal(await ground(), dark);
});

for (const colorScheme of ["light", "dark"]) {
  pageTest(`contrast_is_enough_in_the_${colorScheme}_theme`, { page: { colorScheme } }, async ({ page }) => {
    const colours = await page.evaluate(() => {
      const style = getComputedStyle(document.documentElement);
      const names = ["surface", "ground", "hover", "text", "muted", "accent", "healthy", "degraded", "unhealthy", "unknown", "inactive", "control",
        "sent", "received", "delivered", "dropped"];
      return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
    });
    const luminance = (hex) => {
      const parts = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255);
      const [red, green, blue] = parts.map((part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
      return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    const contrast = (a, b) => {
      const [low, high] = [luminance(colours[a]), luminance(colours[b])].sort((x, y) => x - y);
      return (high + 0.05) / (low + 0.05);
    };
    // WCAG 2.2 AA: 4.5 for text, 3 for controls and pictures.
    for (const name of ["text", "muted", "accent", "healthy", "degraded", "unhealthy"]) {
      for (const ground of ["surface", "hover"]) assert.ok(contrast(name, ground) >= 4.5, `${name} on ${ground}: ${contrast(name, ground)}`);
    }
    for (const name of ["text", "muted", "unhealthy"]) assert.ok(contrast(name, "ground") >= 4.5, `${name} on ground`);
    for (const name of ["unknown", "inactive", "control", "sent", "received", "delivered", "dropped"]) {
      assert.ok(contrast(name, "surface") >= 3, `${name}: ${contrast(name, "surface")}`);
    }
  });
}

pageTest("a_phone_needs_no_sideways_scrolling", { nodes: 50, page: { viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true } },
  async ({ page, $ }) => {
    await hasText($("#list-count"), "50");
    await rows(page).nth(1).tap();
    await $("#panel").waitFor();
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360);
    const word = await $("#word").boundingBox();
    assert.ok(word.y + word.height < 740, "the verdict is on the first screen");
    const small = await page.evaluate(() => [...document.querySelectorAll("button, select, input")]
      .map((control) => [control.id || control.className, control.getBoundingClientRect()])
      .filter(([, { width, height }]) => width > 0 && (height < 24 || width < 24)).map(([name]) => name)
      .filter((name) => name !== "filter-connected"));
    assert.deepEqual(small, [], "WCAG 2.2: targets are at least 24 pixels large");
  });

pageTest("the_page_says_that_it_is_disconnected_and_comes_back", { page: { expected: /net::ERR_/ } }, async ({ $, feed, network }) => {
  await hasText($("#link span"), "Live");
  const port = Number(new URL(feed.url).port);
  await feed.close();
  await hasText($("#link span"), /^Disconnected: .*Next try in \d+ s$/);
  await hasText($("#word"), "No connection to the node");
  await hasText($("#causes li").first(), "All that you see is from 12:00:00.");
  assert.equal(await $(".verdict g.healthy").isVisible(), false);
  Object.assign(network.counts, { sent: 1, received: 0, delivered: 0, dropped: 0 });
  await feed.listen(port);
  await hasText($("#link span"), "Live");
  await hasText($("#count-sent"), "1");
  // A node that starts anew counts from zero; that is no negative rate.
  network.counts.sent = 4;
  network.timeMs += 1000;
  feed.report();
  await hasText($('#legend-messages [data-key="sent"] b'), "3/s");
});

const TOKEN = "a&token=with+signs%16";

pageTest("a_token_opens_the_page_and_leaves_the_address_bar", { feed: { token: TOKEN }, page: { expected: /status of 401/ } },
  async ({ page, $, url }) => {
    await hasText($("#link span"), /^No access: the node asks for its token/);
    await hasText($("#word"), "No connection to the node");
    await page.evaluate((token) => {
      location.hash = `#token=${encodeURIComponent(token)}`;
    }, TOKEN);
    await hasText($("#link span"), "Live");
    assert.equal(page.url(), url);
    await page.reload();
    await hasText($("#link span"), "Live");
  });

pageTest("the_page_says_that_it_cannot_show_what_the_node_sent", {}, async ({ $, feed }) => {
  await hasText($("#link span"), "Live");
  feed.write("report", { timeMs: 1 });
  await hasText($("#link span"), /^Disconnected: the page cannot show what the node sent/);
  await hasText($("#link span"), "Live");
});

pageTest("a_silent_node_is_left", { feed: { intervalMs: 0 } }, async ({ $, feed }) => {
  await hasText($("#link span"), "Live");
  const opened = feed.requests.filter((path) => path === "/api/stream").length;
  await hasText($("#link span"), /^Disconnected: the node is silent/);
  await hasText($("#link span"), "Live");
  assert.equal(feed.requests.filter((path) => path === "/api/stream").length, opened + 1);
});

pageTest("what_the_page_remembers_is_bounded", { nodes: 1200 }, async ({ page, $, feed }) => {
  await hasText($("#list-count"), /1,000, the first 300 shown/);
  assert.equal(await rows(page).count(), 300);
  for (let number = 0; number < 1500; number += 1) feed.write("event", { timeMs: number, kind: "log", text: `event ${number}` });
  await hasText($("#events li").first().locator("bdi"), "event 1499");
  assert.equal(await $("#events li").count(), 200);
});

pageTest("five_hundred_nodes_come_to_rest", { nodes: 500, feed: { intervalMs: 1000 } }, async ({ page, $ }) => {
  await $('#map[data-calm="true"]').waitFor();
  // A report without news does not move the map.
  const picture = () => page.evaluate(() => document.getElementById("map").toDataURL());
  const start = await picture();
  const seen = await $("#count-sent").textContent();
  await until("another report", async () => (await $("#count-sent").textContent()) !== seen);
  assert.equal(await picture(), start);
});

pageTest("without_motion_the_map_is_drawn_when_it_is_at_rest", { nodes: 500, page: { reducedMotion: "reduce" } }, async ({ page, $ }) => {
  await $('#map[data-calm="false"]').waitFor({ state: "attached" });
  const isEmpty = () => page.evaluate(() => {
    const canvas = document.getElementById("map");
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return { calm: canvas.dataset.calm, empty: data.every((value) => value === 0) };
  });
  const early = await isEmpty();
  assert.ok(early.calm === "true" || early.empty, "nothing moves before");
  await $('#map[data-calm="true"]').waitFor();
  assert.equal((await isEmpty()).empty, false);
});

pageTest("the_parser_joins_pieces_and_refuses_an_endless_event", { nodes: 1 }, async ({ page }) => {
  const result = await page.evaluate(async () => {
    const { parser } = await import("/feed.js");
    const seen = [];
    const push = parser((name, data) => seen.push([name, data]));
    for (const piece of ["eve", "nt: a\nda", "ta: 1\ndata: 2\n", "\n: comment\n\nevent: b\r\ndata:3\r\n\r\n"]) push(piece);
    let refused = "";
    try {
      for (let size = 0; size < 20; size += 1) push("x".repeat(1024 * 1024));
    } catch (error) {
      refused = error.message;
    }
    return { seen, refused };
  });
  assert.deepEqual(result, { seen: [["a", "1\n2"], ["b", "3"]], refused: "the node sent an event that is too long" });
});

function allActive(network) {
  for (const node of network.nodes) {
    node.isActive = true;
    node.name ??= `node-${node.peerId.slice(-4)}`;
  }
}
