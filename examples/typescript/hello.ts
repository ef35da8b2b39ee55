/**
 * Two agents on this machine find each other without any option: alice sends bob a message. The
 * first example of the README.
 */

import { P2PNode, type Message } from "@p2p-node/sdk";

await using alice = await P2PNode.open();
await using bob = await P2PNode.open();
const mail = await alice.send(bob.address, "hello bob");
const message = (await bob.messages().next()).value as Message;
console.log(message.from, "says", message.data);
await bob.ack(message);
console.log("alice knows that it is", (await mail.delivered()).state);
