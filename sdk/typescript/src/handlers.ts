/** Handlers of requests of other agents: runs them, and sends their answers. */

import { checkData } from "./arguments.js";
import { CommandRefused, HandlerError } from "./errors.js";
import { content } from "./decode.js";
import { after } from "./timer.js";
import { ErrorCode, FIELD_LIMITS, SDK_LIMITS, type Command, type Event, type IncomingRequest } from "./types.js";

/** Delay in ms before the SDK repeats an answer for which the node had no room. */
const BUSY_RETRY_MS = 50;
/**
 * Requests of one kind that a handler works on at the same time, unless the program says otherwise. Our
 * choice: a handler that waits for others costs a few KiB.
 */
export const CONCURRENCY = 256;
/** The kind of a handler for all requests that no other handler takes. */
export const ANY_KIND = "*";

/** A request of another agent, with its question in `data`: a `Buffer` if the asker passed bytes. */
export type HandledRequest = Omit<IncomingRequest, "encoding"> & {
  /** Aborts when the asker cancels, at the deadline, and when the node is lost. */
  readonly signal: AbortSignal;
};

/**
 * Answers requests. Returns the answer, or a promise of it; an async generator yields the parts of an
 * answer. `HandlerError` gives the asker its code and text. Of another error, the asker gets the name as
 * code and no text.
 */
export type RequestHandler = (request: HandledRequest) => unknown;

interface Handler {
  run: RequestHandler;
  concurrency: number;
  running: number;
  waiting: IncomingRequest[];
}

/** A request that a handler works on. */
interface Running {
  request: IncomingRequest;
  credit: number;
  sent: number;
  abort: AbortController;
  /** Resumes a generator that waits for credit. */
  resume: (() => void) | undefined;
}

/** Nobody waits for the answer any more. */
class Void extends Error {}

/** The handlers of one node, and the requests that they work on. */
export class Handlers {
  readonly #send: (command: Command) => Promise<unknown>;
  readonly #failed: (kind: string, error: unknown) => void;
  readonly #handlers = new Map<string, Handler>();
  readonly #running = new Map<string, Running>();
  #waiting = 0;

  /** `send` sends a command and resolves with its answer; `failed` reports a defect of a handler. */
  constructor(send: (command: Command) => Promise<unknown>, failed: (kind: string, error: unknown) => void) {
    this.#send = send;
    this.#failed = failed;
  }

  add(kind: string, run: RequestHandler, concurrency: number): void {
    this.#handlers.set(kind, { run, concurrency, running: 0, waiting: [] });
  }

  /** Removes the handler of a kind. Requests that it works on go on. */
  remove(kind: string): void {
    const handler = this.#handlers.get(kind);
    this.#handlers.delete(kind);
    for (const request of handler?.waiting.splice(0) ?? []) {
      this.#waiting -= 1;
      this.#refuse(request, "HANDLER_REMOVED", "the program handles this kind no more");
    }
  }

  /** Tells the node the kinds. */
  async tell(): Promise<void> {
    await this.#send({ type: "handle", kinds: [...this.#handlers.keys()] });
  }

  /** Handles an event of a request of another agent. Returns `false` for other events. */
  onEvent(event: Event): boolean {
    switch (event.type) {
      case "request":
        this.#onRequest(event);
        return true;
      case "request_cancelled":
        this.#cancel(event.ticket);
        return true;
      case "credit": {
        const running = this.#running.get(event.ticket);
        if (running !== undefined) {
          running.credit = Math.max(running.credit, event.parts);
          running.resume?.();
        }
        return true;
      }
      default:
        return false;
    }
  }

  /** Aborts all handlers: the node that waited for their answers is gone. */
  processEnded(): void {
    for (const handler of this.#handlers.values()) handler.waiting.length = 0;
    this.#waiting = 0;
    for (const { abort } of [...this.#running.values()]) abort.abort(new Void("the node is gone"));
  }

  #onRequest(request: IncomingRequest): void {
    const handler = this.#handlers.get(request.kind ?? ANY_KIND) ?? this.#handlers.get(ANY_KIND);
    if (handler === undefined) {
      this.#refuse(request, "HANDLER_REMOVED", "the program handles this kind no more");
    } else if (handler.running < handler.concurrency) {
      void this.#run(handler, request);
    } else if (this.#waiting < SDK_LIMITS.maxWaitingRequests) {
      this.#waiting += 1;
      handler.waiting.push(request);
    } else {
      this.#refuse(request, ErrorCode.BUSY, "too many requests wait for the handler");
    }
  }

  #cancel(ticket: string): void {
    const running = this.#running.get(ticket);
    if (running !== undefined) {
      running.abort.abort(new Void("the request needs no answer any more"));
      return;
    }
    for (const handler of this.#handlers.values()) {
      const at = handler.waiting.findIndex((request) => request.ticket === ticket);
      if (at < 0) continue;
      handler.waiting.splice(at, 1);
      this.#waiting -= 1;
      return;
    }
  }

  async #run(handler: Handler, request: IncomingRequest): Promise<void> {
    const running: Running = { request, credit: request.credit, sent: 0, abort: new AbortController(), resume: undefined };
    handler.running += 1;
    this.#running.set(request.ticket, running);
    // A handler that ignores its signal must not keep its place.
    const gone = new Promise<void>((resolve) => {
      const ended = (): void => {
        running.resume?.();
        resolve();
      };
      running.abort.signal.addEventListener("abort", ended, { once: true });
    });
    await Promise.race([this.#answer(handler, running), gone]);
    handler.running -= 1;
    this.#running.delete(request.ticket);
    const next = handler.waiting.shift();
    if (next === undefined) return;
    this.#waiting -= 1;
    void this.#run(handler, next);
  }

  async #answer(handler: Handler, running: Running): Promise<void> {
    const { request, abort } = running;
    const { encoding: _encoding, ...rest } = request;
    try {
      const result: unknown = handler.run({ ...rest, data: content(request), signal: abort.signal });
      if (isGenerator(result)) await this.#stream(running, result);
      else await this.#respond(running, payload(await result));
    } catch (error) {
      if (error instanceof Void || abort.signal.aborted) return;
      if (error instanceof HandlerError) return this.#refuse(request, error.code, error.message);
      this.#failed(request.kind ?? "", error);
      this.#refuse(request, codeOf(error), "the handler failed");
    }
  }

  async #stream(running: Running, parts: AsyncIterable<unknown>): Promise<void> {
    if (running.request.stream !== true) {
      // The asker accepts one answer.
      const all: unknown[] = [];
      for await (const part of parts) all.push(part);
      return this.#respond(running, payload(all));
    }
    for await (const part of parts) {
      while (running.sent >= running.credit) await this.#credit(running);
      await this.#respond(running, { ...payload(part), last: false });
      running.sent += 1;
    }
    await this.#respond(running, {});
  }

  async #credit(running: Running): Promise<void> {
    const { signal } = running.abort;
    signal.throwIfAborted();
    await new Promise<void>((resolve) => (running.resume = resolve));
    running.resume = undefined;
    signal.throwIfAborted();
  }

  /** Sends an answer. Throws `Void` if nobody waits for it. */
  async #respond(running: Running, fields: Omit<Extract<Command, { type: "respond" }>, "type" | "ticket" | "id">): Promise<void> {
    const { signal } = running.abort;
    for (;;) {
      signal.throwIfAborted();
      try {
        await this.#send({ type: "respond", ticket: running.request.ticket, ...fields });
        return;
      } catch (error) {
        if (!(error instanceof CommandRefused)) throw error;
        if (error.code === ErrorCode.TICKET_NOT_FOUND) throw new Void(error.message);
        if (error.code !== ErrorCode.BUSY) throw error;
        await new Promise<void>((resolve) => after(BUSY_RETRY_MS, resolve));
      }
    }
  }

  #refuse(request: IncomingRequest, code: string, message: string): void {
    const running: Running = { request, credit: 0, sent: 0, abort: new AbortController(), resume: undefined };
    // Without this answer, the deadline tells the asker.
    this.#respond(running, { error: { code, message: shortened(message) } }).catch(() => undefined);
  }
}

/** Returns the fields of a command for a payload. */
export function payload(data: unknown): { data: unknown; encoding?: "base64" } {
  if (data instanceof Uint8Array) return { data: Buffer.from(data).toString("base64"), encoding: "base64" };
  const value = data === undefined ? null : data;
  checkData(value);
  return { data: value };
}

function isGenerator(value: unknown): value is AsyncGenerator<unknown> {
  return typeof value === "object" && value !== null && Symbol.asyncIterator in value;
}

/** Returns the name of an error as a code: `TypeError` is `TYPE_ERROR`. */
function codeOf(error: unknown): string {
  const name = error instanceof Error ? error.name : "Error";
  const words = name.replace(/([a-z0-9])([A-Z])/g, "$1_$2").toUpperCase();
  return words.replace(/[^A-Z0-9_]/g, "_").slice(0, FIELD_LIMITS.maxHandlerCodeBytes) || "ERROR";
}

/** Returns the text without control characters, within the limit of the node. */
function shortened(message: string): string {
  const printable = message.replace(/\p{Cc}/gu, " ");
  let bytes = Buffer.from(printable).subarray(0, FIELD_LIMITS.maxHandlerMessageBytes).toString();
  // A character that the limit cuts in two becomes U+FFFD, which is longer than its rest.
  while (Buffer.byteLength(bytes) > FIELD_LIMITS.maxHandlerMessageBytes || bytes.endsWith("\uFFFD")) bytes = bytes.slice(0, -1);
  return bytes;
}
