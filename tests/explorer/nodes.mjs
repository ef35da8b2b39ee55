// Real nodes on 127.0.0.1 for the tests: starts the binary in P2P_NODE_BIN and talks to it.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { TIMEOUT } from "./browser.mjs";

// Lines of a node that wait to be read.
const MAX_LINES = 10_000;

export class Node {
  // Starts a node with arguments.
  constructor(args) {
    this.home = mkdtempSync(join(tmpdir(), "explorer-"));
    this.events = [];
    this.waiting = [];
    this.stderr = "";
    this.child = spawn(process.env.P2P_NODE_BIN, ["--parent-pid", String(process.pid), ...args], {
      cwd: this.home,
      // The nodes of the tests meet no other nodes of this machine, and send nothing into its network.
      env: { P2P_NODE_NETWORK: "dev", P2P_NODE_RENDEZVOUS: "off", P2P_NODE_MDNS: "false", P2P_NODE_UPNP: "false", P2P_NODE_LOCK_SCOPE: this.home },
      stdio: ["pipe", "pipe", "pipe"],
    });
    this.exited = once(this.child, "exit");
    this.child.stdin.on("error", () => {});
    this.child.stderr.on("data", (text) => {
      this.stderr = (this.stderr + text).slice(-4000);
    });
    createInterface({ input: this.child.stdout }).on("line", (line) => this.take(JSON.parse(line)));
  }

  take(event) {
    const at = this.waiting.findIndex(({ matches }) => matches(event));
    if (at >= 0) this.waiting.splice(at, 1)[0].resolve(event);
    else if (this.events.push(event) > MAX_LINES) this.events.shift();
  }

  command(command) {
    this.child.stdin.write(`${JSON.stringify(command)}\n`);
  }

  // Returns the first event that matches, and removes it.
  expect(what, matches) {
    const at = this.events.findIndex(matches);
    if (at >= 0) return Promise.resolve(this.events.splice(at, 1)[0]);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no ${what}; the node wrote: ${this.stderr}`)), TIMEOUT);
      this.waiting.push({ matches, resolve: (event) => (clearTimeout(timer), resolve(event)) });
    });
  }

  async connect(options = {}) {
    this.command({ type: "connect", port: 0, protocol: 1, ...options });
    this.ready = await this.expect("ready", (event) => event.type === "ready");
    return this.ready;
  }

  // Sends mail and waits until it is delivered.
  async mail(to, id) {
    this.command({ type: "send", id, peerId: to.ready.address, ttlMs: TIMEOUT, data: { number: id } });
    await this.expect(`delivery of ${id}`, (event) => event.type === "delivery" && event.requestId === id && event.state === "delivered");
  }

  // Ends the process without a goodbye.
  async kill() {
    this.child.kill("SIGKILL");
    await this.exited;
    rmSync(this.home, { recursive: true, force: true });
  }
}
