// An agent that greets all others: `agent.mjs <entry>`. Says its address, reads those of the others, says whom it heard.
import { createInterface } from "node:readline/promises";

import { P2PNode } from "../../../sdk/typescript/dist/index.js";

const node = await P2PNode.open({ bootstrapPeers: [process.argv[2]], restart: false });
const messages = node.messages();
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
console.log(node.address);
const others = (await lines.next()).value.split(" ");
const mails = [];
for (const other of others) mails.push(await node.send(other, { text: "hello from typescript, é\u2028😀" }));
for (const _ of others) {
  const message = (await messages.next()).value;
  console.log("heard", message.from, escape(message.data.text));
  // After the last one this program asks for no other.
  await node.ack(message);
}
for (const mail of mails) await mail.delivered();
// The others may still wait for theirs.
await lines.next();
await node.close();

/** As Python escapes. */
function escape(text) {
  const hex = (point, width) => point.toString(16).padStart(width, "0");
  const one = (point) => (point > 0xffff ? `\\U${hex(point, 8)}` : point > 0xff ? `\\u${hex(point, 4)}` : `\\x${hex(point, 2)}`);
  return [...text].map((letter) => (letter.codePointAt(0) < 127 ? letter : one(letter.codePointAt(0)))).join("");
}
