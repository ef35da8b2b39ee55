/** An agent that answers requests, and one that asks: an answer names the message that it answers in `replyTo`. */

import { pathToFileURL } from "node:url";

import { P2PNode, type Message } from "@p2p-node/sdk";

/** How long a request, or an answer, is of use. Mail is tried for two minutes otherwise. */
const TTL_MS = 10_000;

/** Squares numbers for every agent that asks. It answers requests alone, never an answer, so two servers do not answer each other for ever. */
export async function serve(node: P2PNode): Promise<void> {
  for await (const message of node.messages()) {
    if (message.kind !== "square" || message.replyTo !== undefined) continue;
    const number = (message.data as { number?: unknown } | null)?.number;
    const answer = typeof number === "number" ? { result: number ** 2 } : { error: 'say {"number": …}' };
    try {
      // Accepted by this node, and no more: a client that is gone must not hold up the others.
      await node.reply(message, answer, { kind: "answer", ttlMs: TTL_MS });
    } catch (error) {
      console.error(`no answer to ${message.from}: ${(error as Error).message}`);
    }
  }
}

/** Waits for the answers to what it asks. */
class Client {
  readonly #node: P2PNode;
  /** By the message that is answered. The answer and the wait for it both make the entry, the first of them does. */
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

  /** Fails when there is no answer in time: the server may be gone, or end after it has the request. */
  async ask(server: string, number: unknown): Promise<unknown> {
    const mail = await this.#node.send(server, { number }, { kind: "square", ttlMs: TTL_MS });
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => reject(new Error(`no answer within ${2 * TTL_MS} ms`)), 2 * TTL_MS);
    });
    try {
      // Without a delivery there is no answer to wait for.
      await Promise.race([mail.delivered(), late]);
      return (await Promise.race([this.#answer(mail.messageId).promise, late])).data;
    } finally {
      clearTimeout(timer);
      this.#answers.delete(mail.messageId);
    }
  }
}

async function main(): Promise<void> {
  const server = await P2PNode.open({ name: "server", network: "dev" });
  const node = await P2PNode.open({ name: "client", network: "dev", bootstrapPeers: server.ready.addrs.slice(0, 1) });
  const [serving, client] = [serve(server), new Client(node)];
  const listening = client.listen();
  for (const number of [7, 12, "a dozen"]) {
    try {
      console.log(`${number} squared: ${JSON.stringify(await client.ask(server.address, number))}`);
    } catch (error) {
      console.log(`${number} squared: ${(error as Error).message}`);
    }
  }
  await Promise.all([server.close(), node.close(), serving, listening]);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) await main();
