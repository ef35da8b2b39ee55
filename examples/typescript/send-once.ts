/**
 * Sends one message: `send-once.js <bootstrap peer> <address> <text>`. Exits with 0 only if it was
 * delivered.
 */

import { P2PError, P2PNode } from "@p2p-node/sdk";

/** How long the node tries to deliver the message, in ms. The default is two minutes. */
const TTL_MS = 5000;

const [bootstrapPeer, to, text] = process.argv.slice(2);
if (bootstrapPeer === undefined || to === undefined || text === undefined) throw new Error("usage: send-once.js <bootstrap peer> <address> <text>");

const node = await P2PNode.open({ network: "dev", bootstrapPeers: [bootstrapPeer] });
try {
  const mail = await node.send(to, { text }, { ttlMs: TTL_MS });
  await mail.delivered();
} catch (error) {
  if (!(error instanceof P2PError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
} finally {
  await node.close();
}
