/** Two agents that chat: each sends its lines and prints the lines of the other. */

import { P2PNode } from "@p2p-node/sdk";

const LINES = {
  alice: ["Hello, Bob.", "Fine weather on this network.", "Goodbye!"],
  bob: ["Hello, Alice.", "Not a packet lost.", "Goodbye!"],
};

/** How long the node tries to deliver a line, in ms. The default is two minutes. */
const TTL_MS = 10_000;

async function speak(name: keyof typeof LINES, node: P2PNode, other: string): Promise<void> {
  for (const text of LINES[name]) {
    try {
      const mail = await node.send(other, { text }, { ttlMs: TTL_MS });
      // Waits here and not in the loop over the messages, because the other agent may wait too.
      await mail.delivered();
    } catch (error) {
      console.log(`${name} is not heard: ${(error as Error).message}`);
    }
  }
}

async function listen(name: string, node: P2PNode): Promise<void> {
  for await (const message of node.messages()) {
    console.log(`${name} hears: ${(message.data as { text?: unknown } | null)?.text}`);
  }
}

const alice = await P2PNode.open({ name: "alice", network: "dev" });
const bob = await P2PNode.open({ name: "bob", network: "dev", bootstrapPeers: alice.ready.addrs.slice(0, 1) });
const listening = [listen("alice", alice), listen("bob", bob)];
await Promise.all([speak("alice", alice, bob.address), speak("bob", bob, alice.address)]);
await Promise.all([alice.close(), bob.close(), ...listening]);
