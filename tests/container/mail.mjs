/** Two agents mail each other and end; the exit code is 0 only if both nodes ended with 0. */

import { P2PNode } from "../../sdk/typescript/dist/index.js";

const alice = await P2PNode.open({ name: "alice", network: "dev" });
const bob = await P2PNode.open({ name: "bob", network: "dev", bootstrapPeers: alice.ready.addrs.slice(0, 1) });
const nodes = [alice, bob];
await bob.joined();
const sent = [await alice.send(bob.address, "hello", { ttlMs: 20_000 }), await bob.send(alice.address, "hello", { ttlMs: 20_000 })];
for (const node of nodes) {
  const messages = node.messages();
  const { value } = await messages.next();
  await node.ack(value);
  console.log(node.ready.name, "received", value.data);
  await messages.return();
}
for (const message of sent) await message.delivered();
await Promise.all(nodes.map((node) => node.close()));
console.log(...nodes.map((node) => node.exit));
process.exitCode = nodes.every((node) => node.exit?.code === 0) ? 0 : 1;
