/** An agent that answers requests, and one that asks: an answer names the message that it answers in `replyTo`. */

import { P2PNode, type Message } from "@p2p-node/sdk";

/** Squares numbers for whoever asks. */
async function serve(node: P2PNode): Promise<void> {
  for await (const message of node.messages()) {
    if (message.kind !== "square") continue;
    const number = (message.data as { number?: unknown } | null)?.number;
    const answer = typeof number === "number" ? { result: number ** 2 } : { error: 'say {"number": …}' };
    await node.reply(message, answer, { kind: "answer" });
  }
}

/** Waits for the answers to what it asks. */
class Client {
  readonly #node: P2PNode;
  /** By the message that is answered. Whoever of the two comes first, the answer or the one who waits for it, makes the entry. */
  readonly #answers = new Map<string, { promise: Promise<Message>; resolve: (message: Message) => void }>();

  constructor(node: P2PNode) {
    this.#node = node;
  }

  #answer(messageId: string): { promise: Promise<Message>; resolve: (message: Message) => void } {
    let entry = this.#answers.get(messageId);
    if (entry === undefined) {
      let resolve!: (message: Message) => void;
      const promise = new Promise<Message>((take) => (resolve = take));
      this.#answers.set(messageId, (entry = { promise, resolve }));
    }
    return entry;
  }

  async listen(): Promise<void> {
    for await (const message of this.#node.messages()) {
      if (message.replyTo !== undefined) this.#answer(message.replyTo).resolve(message);
    }
  }

  async ask(server: string, number: unknown): Promise<unknown> {
    const mail = await this.#node.send(server, { number }, { kind: "square", ttlMs: 10_000 });
    try {
      await mail.delivered();
      return (await this.#answer(mail.messageId).promise).data;
    } finally {
      this.#answers.delete(mail.messageId);
    }
  }
}

const server = await P2PNode.open({ name: "server", network: "dev" });
const node = await P2PNode.open({ name: "client", network: "dev", bootstrapPeers: server.ready.addrs.slice(0, 1) });
const [serving, client] = [serve(server), new Client(node)];
const listening = client.listen();
for (const number of [7, 12, "a dozen"]) {
  console.log(`${number} squared: ${JSON.stringify(await client.ask(server.address, number))}`);
}
await Promise.all([server.close(), node.close(), serving, listening]);
