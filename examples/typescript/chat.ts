/** Two agents that chat: each says what it has to say, and hears the other. */

import { P2PNode } from "@p2p-node/sdk";

const LINES = {
  alice: ["Hello, Bob.", "Fine weather on this network.", "Goodbye!"],
  bob: ["Hello, Alice.", "Not a packet lost.", "Goodbye!"],
};

async function chat(name: keyof typeof LINES, node: P2PNode, other: string): Promise<void> {
  const heard = node.messages();
  for (const text of LINES[name]) {
    const mail = await node.send(other, { text });
    const message = (await heard.next()).value;
    if (message === undefined) return;
    console.log(`${name} hears: ${(message.data as { text: string }).text}`);
    // Asking for the next message would acknowledge this one, too; but the other agent waits for that now.
    await node.ack(message);
    await mail.delivered();
  }
}

const alice = await P2PNode.open({ name: "alice", network: "dev" });
const bob = await P2PNode.open({ name: "bob", network: "dev", bootstrapPeers: alice.ready.addrs.slice(0, 1) });
try {
  await Promise.all([chat("alice", alice, bob.address), chat("bob", bob, alice.address)]);
} finally {
  await Promise.all([alice.close(), bob.close()]);
}
