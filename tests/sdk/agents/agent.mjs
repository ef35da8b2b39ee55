// An agent that greets and asks all others: `agent.mjs <entry>`. Prints its address, reads the other addresses, and prints each
// received greeting and each answer.
import { createInterface } from "node:readline/promises";

import { P2PNode } from "../../../sdk/typescript/dist/index.js";

const node = await P2PNode.open({ bootstrapPeers: [process.argv[2]], restart: false });
const messages = node.messages();
await node.handle("language", ({ data }) => ({ language: "typescript", question: data.text }));
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
for (const other of others) {
  const text = "who, é\u2028😀";
  const { language, question } = await node.ask(other, { text }, { kind: "language" });
  if (question !== text) throw new Error(`${other} understood ${question}`);
  console.log("answer", other, language);
}
// The other agents may still wait for messages and answers.
await lines.next();
await node.close();

/** Escapes a text as Python does. */
function escape(text) {
  const hex = (point, width) => point.toString(16).padStart(width, "0");
  const one = (point) => (point > 0xffff ? `\\U${hex(point, 8)}` : point > 0xff ? `\\u${hex(point, 4)}` : `\\x${hex(point, 2)}`);
  return [...text].map((letter) => (letter.codePointAt(0) < 127 ? letter : one(letter.codePointAt(0)))).join("");
}
