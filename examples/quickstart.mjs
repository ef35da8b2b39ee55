// Two agents on this machine: alice sends bob a message by his Ethereum address. Needs only
// Node.js; in TypeScript, add the types of the three parameters.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

const node = process.env.P2P_NODE_BIN ?? "target/release/p2p-node";

function agent(name) {
  const child = spawn(node, ["--name", name, "--parent-pid", String(process.pid)], { stdio: ["pipe", "pipe", "inherit"] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    say: (command) => child.stdin.write(JSON.stringify(command) + "\n"),
    async waitFor(type) {
      for (;;) {
        const { value, done } = await lines.next();
        if (done) throw new Error(`the node exited before its event ${type}; see its stderr above`);
        const event = JSON.parse(value);
        if (event.type === type) return event;
        if (event.type === "error") throw new Error(value);
      }
    },
    async close() {
      child.stdin.end(); // the node exits at the end of stdin
      if (child.exitCode === null) await once(child, "exit");
    },
  };
}

const bob = agent("bob");
bob.say({ type: "connect", port: 0, protocol: 1 });
const bobReady = await bob.waitFor("ready");

const alice = agent("alice");
alice.say({ type: "connect", port: 0, protocol: 1, bootstrapPeers: bobReady.addrs });
const aliceReady = await alice.waitFor("ready");

alice.say({ type: "send", id: 1, peerId: bobReady.address, ttlMs: 20_000, data: { text: "hello bob" } });
const { state } = await alice.waitFor("delivery");
console.log("alice knows that it is", state);
if (state !== "delivered") throw new Error(`the message was not delivered: ${state}`);
const message = await bob.waitFor("message");
console.log("bob received", message.data, "from", message.from);
if (message.from !== aliceReady.address) throw new Error(`the sender is ${message.from}, not alice`);

await alice.close();
await bob.close();
