/** An agent that answers requests, and a client: a reply names its request in `replyTo`. */

import { pathToFileURL } from "node:url";

import { P2PNode, type Message } from "@p2p-node/sdk";

/** How long the node tries to deliver a request or a reply, in ms. The default is two minutes. */
const TTL_MS = 10_000;

/**
 * Squares the numbers of requests. The server never answers a reply, so two servers do not answer
 * each other forever.
 */
export async function serve(node: P2PNode): Promise<void> {
  for await (const message of node.messages()) {
    if (message.kind !== "square" || message.replyTo !== undefined) continue;
    const number = (message.data as { number?: unknown } | null)?.number;
    const answer = typeof number === "number" ? { result: number ** 2 } : { error: 'say {"number": …}' };
    try {
      // Does not wait for the delivery, so an unreachable client does not delay the others.
      await node.reply(message, answer, { kind: "answer", ttlMs: TTL_MS });
    } catch (error) {
      console.error(`no answer to ${message.from}: ${(error as Error).message}`);
    }
  }
}

/** Sends requests and waits for their replies. */
class Client {
  readonly #node: P2PNode;
  /** By the id of the request. The reply or the wait for it creates the entry, whichever is first. */
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

  /** Rejects without a reply in time: the server may be unreachable, or exit after the request. */
  async ask(server: string, number: unknown): Promise<unknown> {
    const mail = await this.#node.send(server, { number }, { kind: "square", ttlMs: TTL_MS });
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => reject(new Error(`no answer within ${2 * TTL_MS} ms`)), 2 * TTL_MS);
    });
    try {
      // A request that was not delivered gets no reply.
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
