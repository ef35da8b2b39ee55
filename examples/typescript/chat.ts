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
    await mail.delivered();
    const message = (await heard.next()).value;
    console.log(`${name} hears: ${(message?.data as { text: string }).text}`);
  }
}

const alice = await P2PNode.open({ name: "alice", network: "dev" });
const bob = await P2PNode.open({ name: "bob", network: "dev", bootstrapPeers: alice.ready.addrs.slice(0, 1) });
try {
  await Promise.all([chat("alice", alice, bob.address), chat("bob", bob, alice.address)]);
} finally {
  await Promise.all([alice.close(), bob.close()]);
}
