// A simulated node for the explorer page: serves the page with the headers of the node, and a feed of N nodes.
//
//   node feed.mjs --nodes 50 --seed 1 --port 0 --seconds 600
//
// The first line of its output is the address. The same seed gives the same network. It ends by itself.
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname } from "node:path";
import { fileURLToPath } from "node:url";

import { Network } from "./network.mjs";

const PAGE = new URL("../../src/http/page/", import.meta.url);
const KINDS = { ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8" };
const HEADERS = {
  "cache-control": "no-store",
  "content-security-policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
  "cross-origin-resource-policy": "same-origin",
};

// Time of the network between two reports, in ms, as the node has it.
const STEP_MS = 1000;

// Serves a network. `token` is asked for if it is not empty; `intervalMs` is the time between two reports;
// with 0 the caller calls `step`.
export class FeedServer {
  constructor(network, { token = "", intervalMs = STEP_MS } = {}) {
    this.network = network;
    this.token = token;
    this.intervalMs = intervalMs;
    this.streams = new Set();
    this.requests = [];
    this.server = createServer((request, response) => this.respond(request, response));
  }

  async listen(port = 0) {
    await new Promise((resolve) => this.server.listen(port, "127.0.0.1", resolve));
    if (this.intervalMs > 0) this.timer = setInterval(() => this.step(), this.intervalMs);
    this.url = `http://127.0.0.1:${this.server.address().port}/`;
    return this.url;
  }

  // Closes all connections and stops listening.
  async close() {
    clearInterval(this.timer);
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  step() {
    for (const event of this.network.step(STEP_MS)) this.write("event", event);
    this.report();
  }

  // Sends a report of the network as it is.
  report() {
    this.write("report", this.network.report());
  }

  write(name, data) {
    for (const stream of this.streams) stream.write(`event: ${name}\ndata: ${JSON.stringify(data)}\n\n`);
  }

  async respond(request, response) {
    const { pathname } = new URL(request.url, "http://localhost");
    this.requests.push(pathname);
    const answer = (status, kind, body) => {
      response.writeHead(status, { ...HEADERS, "content-type": kind });
      response.end(body);
    };
    if (pathname.startsWith("/api/") && this.token && request.headers.authorization !== `Bearer ${this.token}`) {
      answer(401, "text/plain", "send the token\n");
    } else if (pathname === "/api/report") {
      answer(200, "application/json", JSON.stringify(this.network.report()));
    } else if (pathname === "/api/stream") {
      response.writeHead(200, { ...HEADERS, "content-type": "text/event-stream" });
      this.streams.add(response);
      response.on("close", () => this.streams.delete(response));
      response.write(`event: report\ndata: ${JSON.stringify(this.network.report())}\n\n`);
    } else if (/^\/[a-z]*(\.(js|css))?$/.test(pathname)) {
      const name = pathname === "/" ? "index.html" : pathname.slice(1);
      await readFile(new URL(name, PAGE)).then(
        (body) => answer(200, KINDS[extname(name)], body),
        () => answer(404, "text/plain", "there is no such page\n"),
      );
    } else {
      answer(404, "text/plain", "there is no such page\n");
    }
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const option = (name, fallback) => {
    const at = process.argv.indexOf(`--${name}`);
    return at < 0 ? fallback : Number(process.argv[at + 1]);
  };
  const feed = new FeedServer(new Network(option("nodes", 50), option("seed", 1)));
  console.log(await feed.listen(option("port", 0)));
  setTimeout(() => feed.close(), option("seconds", 600) * 1000);
}
