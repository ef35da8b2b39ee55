// An agent that greets all others: `agent.mjs <entry>`. Prints its address, reads the other addresses, and prints each
// received greeting.
import { createInterface } from "node:readline/promises";

import { P2PNode } from "../../../sdk/typescript/dist/index.js";

const node = await P2PNode.open({ bootstrapPeers: [process.argv[2]], restart: false });
const messages = node.messages();
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
console.log(node.address);
const others = (await lines.next()).value.split(" ");
const sent = [];
for (const other of others) sent.push(await node.send(other, { text: "hello from typescript, é\u2028😀" }));
for (const _ of others) {
  const message = (await messages.next()).value;
  console.log("received", message.from, escape(message.data.text));
  // The program does not request another message, so it acks the last one itself.
  await node.ack(message);
}
for (const message of sent) await message.delivered();
// The other agents may still wait for messages.
await lines.next();
await node.close();

/** Escapes a text as Python does. */
function escape(text) {
  const hex = (point, width) => point.toString(16).padStart(width, "0");
  const one = (point) => (point > 0xffff ? `\\U${hex(point, 8)}` : point > 0xff ? `\\u${hex(point, 4)}` : `\\x${hex(point, 2)}`);
  return [...text].map((letter) => (letter.codePointAt(0) < 127 ? letter : one(letter.codePointAt(0)))).join("");
}
