// The explorer page of a real node, in a network of 12 nodes on 127.0.0.1.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { hasText, launch, open, TIMEOUT, until } from "./browser.mjs";
import { Node } from "./nodes.mjs";

const NODES = 12;
const HOSTILE = '<img src=x onerror="alert(1)">';

let browser;
const nodes = [];
let observer;

before(async () => {
  browser = await launch();
  const entry = new Node(["--role", "bootstrap", "--name", "entry"]);
  nodes.push(entry);
  const { addrs } = await entry.connect();
  const start = async (args) => {
    const node = new Node([...args, "--bootstrap", addrs[0]]);
    nodes.push(node);
    await node.connect();
    return node;
  };
  observer = await start(["--name", "observer", "--http", "127.0.0.1:0", "--forget-nodes-after", "30"]);
  await start(["--name", HOSTILE]);
  await Promise.all(Array.from({ length: NODES - 3 }, (_, index) =>
    start(["--name", `agent-${index}`, ...(index === 4 ? ["--capability", "translate"] : []), ...(index === 5 ? ["--role", "light"] : [])])));
});

after(async () => {
  await browser.close();
  await Promise.all(nodes.map((node) => node.kill()));
});

test("the_page_shows_a_real_network", async (t) => {
  const { page, problems } = await open(browser, observer.ready.http);
  const $ = (selector) => page.locator(selector);
  const rows = $("#nodes button");
  const named = (name) => rows.filter({ has: page.locator("bdi", { hasText: new RegExp(`^${name}$`) }) });

  await t.test("all_nodes_appear", async () => {
    await hasText($("#list-count"), String(NODES));
    await hasText($("#link span"), "Live");
    await until("every node has its name", async () => (await $("#nodes .name bdi").allTextContents()).filter((name) => /^(entry|observer|agent-\d|<img)/.test(name)).length === NODES);
    await hasText($("#map-summary"), new RegExp(`^${NODES} nodes, [1-9]\\d* links`));
    await hasText(named("observer").locator("em"), "this node");
    await hasText($("#by-role li").filter({ hasText: "bootstrap" }).locator("b"), "1");
    await hasText($("#word"), "Healthy");
    await hasText($("#score"), "100");
  });

  await t.test("a_hostile_name_is_text", async () => {
    const hostile = nodes[2].ready;
    await $("#search").fill(hostile.address);
    await hasText($("#list-count"), `1 of ${NODES}`);
    await rows.first().click();
    const panel = await $("#panel").innerText();
    assert.ok(panel.includes(HOSTILE), panel);
    assert.ok(panel.includes(hostile.address) && panel.includes(hostile.peerId), panel);
    assert.ok(panel.includes("proven: a signature of the agent names this node"), panel);
    await $("#panel-close").click();
    assert.equal(await page.locator("body img, body script").count(), 0);
  });

  await t.test("search_and_filters_find_agents", async () => {
    await $("#search").fill("translate");
    await hasText($("#list-count"), `1 of ${NODES}`);
    await hasText(rows.first().locator("bdi"), "agent-4");
    await $("#search").fill("");
    await $("#filter-role").selectOption("light");
    await hasText($("#list-count"), `1 of ${NODES}`);
    await hasText(rows.first().locator("bdi"), "agent-5");
    await $("#filter-role").selectOption("");
    await hasText($("#list-count"), String(NODES));
  });

  await t.test("counters_move_by_exactly_what_was_sent", async () => {
    const agent = nodes[3];
    for (const name of ["sent", "received", "delivered", "dropped"]) await hasText($(`#count-${name}`), "0");
    for (let number = 1; number <= 7; number += 1) await observer.mail(agent, number);
    for (let number = 1; number <= 4; number += 1) await agent.mail(observer, number);
    await hasText($("#count-sent"), "7");
    await hasText($("#count-delivered"), "7");
    await hasText($("#count-received"), "4");
    await hasText($("#count-dropped"), "0");
    await hasText($("#count-expired"), "0");
    await until("the events of the messages", async () => (await $("#events li.delivery").count()) === 7 && (await $("#events li.message").count()) === 4);
    const sent = Number((await $("#priorities tr").locator("td:nth-child(2)").allTextContents()).reduce((sum, text) => sum + Number(text), 0));
    assert.equal(sent, 7, "the priorities add up");
  });

  await t.test("a_killed_node_turns_grey_and_leaves", async () => {
    const rowOf = (node) => rows.filter({ hasText: node.ready.address.slice(-6) });
    const idOf = (node) => rowOf(node).locator(".id").textContent();
    const gone = await until("a connected agent", async () => {
      for (const node of nodes.slice(3)) if (/full · connected$/.test(await idOf(node))) return node;
      return null;
    });
    const row = rowOf(gone);
    nodes.splice(nodes.indexOf(gone), 1);
    await gone.kill();
    await hasText(row.locator(".id"), /full$/);
    // Without a sign of it the observer would wait for 5 minutes. A dial that fails tells more, also after the
    // pause that follows a short connection.
    observer.command({ type: "send", id: "lost", peerId: gone.ready.address, route: "direct", ttlMs: TIMEOUT, data: "are you there?" });
    await hasText(row.locator(".state"), "inactive");
    assert.match(await row.getAttribute("class"), /inactive/);
    const colour = await row.locator(".shape").evaluate((shape) => getComputedStyle(shape).borderColor);
    const grey = await page.evaluate(() => getComputedStyle(document.documentElement).getPropertyValue("--inactive").trim());
    assert.equal(colour, `rgb(${[1, 3, 5].map((at) => parseInt(grey.slice(at, at + 2), 16)).join(", ")})`);

    await until("the killed node leaves", async () => (await row.count()) === 0, 2 * TIMEOUT);
    assert.equal(await named("entry").count(), 1, "the connected ones stay");
  });

  assert.deepEqual(problems, []);
});
