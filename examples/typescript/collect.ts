/**
 * Reads the pending mail of an agent once, for a job that runs now and then:
 * `collect.js <data directory> <bootstrap peer>`. Exits with 1 if no peer connects, so that "no
 * network" differs from "no mail".
 */

import { NotJoined, P2PNode } from "@p2p-node/sdk";

const [dataDir, bootstrapPeer] = process.argv.slice(2);
if (dataDir === undefined || bootstrapPeer === undefined) throw new Error("usage: collect.js <data directory> <bootstrap peer>");

const node = await P2PNode.open({ network: "dev", dataDir, bootstrapPeers: [bootstrapPeer] });
console.log("I am", node.address);
try {
  let count = 0;
  for await (const message of node.messages({ untilCaughtUp: true })) {
    console.log(`${message.from}: ${JSON.stringify(message.data)}`);
    count += 1;
  }
  console.log(`messages: ${count}`);
} catch (error) {
  if (!(error instanceof NotJoined)) throw error;
  console.error(error.message);
  process.exitCode = 1;
} finally {
  await node.close();
}
