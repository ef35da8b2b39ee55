/** Questions of a program to one agent, to a list of agents and to a topic. */

import { check, checkPeer, integer, milliseconds, name, strings, CALL, checkOptions, text, type Rule } from "./arguments.js";
import { content } from "./decode.js";
import { CommandRefused, HandlerFailed, QuorumNotReached } from "./errors.js";
import { payload } from "./handlers.js";
import type { CallOptions } from "./options.js";
import type { Reply } from "./channel.js";
import { ErrorCode, FIELD_LIMITS, type AgentError, type Command, type Response } from "./types.js";

/** Deadline of the node for a request without one, in ms. */
const DEFAULT_DEADLINE_MS = 30_000;
/** Time after the deadline at which the SDK gives the node up. The node itself ends each request. */
const GRACE_MS = 10_000;
/** Parts that the SDK asks for before the program reads them. */
const CREDIT = FIELD_LIMITS.maxCredit / 4;

/** The options of `ask`, `askStream` and `askAll`. An abort of `signal` cancels the handler. */
export interface AskOptions {
  /** Selects the handler of the agent. Default: none. */
  kind?: string;
  /** Time for the whole answer, in ms: 1 to 3,600,000. Default: 30,000. */
  deadlineMs?: number;
  /** The trace of the request, as a `traceparent` of W3C Trace Context. Default: none. */
  traceparent?: string;
  /** Cancels the request, and the handler. */
  signal?: AbortSignal;
}

/** The options of `askStream`. */
export interface AskStreamOptions extends AskOptions {
  /** Parts that the handler may send before the program reads them, 1 to 256. Default: 64. */
  credit?: number;
}

/** The options of `askAll`. */
export interface AskAllOptions extends AskOptions {
  /**
   * Number of answers with which the call resolves. Default: all agents of a list; for a topic, what comes
   * until the deadline.
   */
  quorum?: number;
}

/** The answer of one agent. `error` says why there is none. */
export interface AgentAnswer {
  /** The address of the agent. */
  from: string;
  /** The answer: a `Buffer` if the handler passed bytes. */
  data: unknown;
  error?: AgentError;
}

/** The answers to one question, in the order of their arrival. */
export interface Answers {
  /** The agents that answered. */
  answers: AgentAnswer[];
  /** The agents that answered with an error, or could not be asked. */
  failed: AgentAnswer[];
  /** The agents of a list without an answer. */
  missing: string[];
}

const ASK: Record<string, Rule> = {
  signal: CALL["signal"] as Rule,
  kind: text,
  traceparent: text,
  deadlineMs: milliseconds,
};
const ASK_STREAM = { ...ASK, credit: integer(1, FIELD_LIMITS.maxCredit) };
const ASK_ALL = { ...ASK, quorum: integer(1, FIELD_LIMITS.maxTargets) };

/** Sends a `request`. Each answer goes to `onResponse`. */
export type Ask = (command: Command, options: CallOptions, onResponse: (response: Response) => void) => Promise<Reply>;

export async function ask(send: Ask, to: string, data: unknown, options: AskOptions): Promise<unknown> {
  checkPeer("to", to);
  checkOptions(options, ASK);
  const responses: Response[] = [];
  await request(send, { peerId: to }, data, options, (response) => responses.push(response));
  const [first] = responses;
  return first === undefined ? null : content(first);
}

export async function* askStream(
  send: Ask,
  write: (command: Command) => void,
  to: string,
  data: unknown,
  options: AskStreamOptions,
): AsyncGenerator<unknown, void, undefined> {
  checkPeer("to", to);
  checkOptions(options, ASK_STREAM);
  const { credit = CREDIT, ...rest } = options;
  const stop = new AbortController();
  const signal = options.signal === undefined ? stop.signal : AbortSignal.any([options.signal, stop.signal]);
  const parts: Response[] = [];
  let wake: (() => void) | undefined;
  const onResponse = (part: Response): void => {
    parts.push(part);
    wake?.();
  };
  let isOver = false;
  const call = request(send, { peerId: to, stream: true, credit }, data, { ...rest, signal }, onResponse).finally(() => {
    isOver = true;
    wake?.();
  });
  call.catch(() => undefined);
  let granted = credit;
  try {
    for (;;) {
      const part = parts.shift();
      if (part !== undefined) {
        yield content(part);
        if (granted - part.part - 1 <= credit / 2) {
          granted = part.part + 1 + credit;
          if (!isOver) write({ type: "credit", target: part.requestId, parts: granted });
        }
      } else if (isOver) {
        await call;
        return;
      } else {
        await new Promise<void>((resolve) => (wake = resolve));
      }
    }
  } finally {
    stop.abort();
  }
}

export async function askAll(send: Ask, to: string | string[], data: unknown, options: AskAllOptions): Promise<Answers> {
  check("to", to, typeof to === "string" ? name : strings);
  checkOptions(options, ASK_ALL);
  const { quorum, ...rest } = options;
  const target = typeof to === "string" ? { topic: to } : { peerIds: [...to] };
  const responses: Response[] = [];
  try {
    const more = quorum === undefined ? {} : { quorum };
    const { answer } = await request(send, { ...target, ...more }, data, rest, (response) => responses.push(response));
    return answersOf(responses, answer.missing ?? []);
  } catch (error) {
    if (!(error instanceof CommandRefused) || error.code !== ErrorCode.QUORUM_NOT_REACHED) throw error;
    throw new QuorumNotReached(error, answersOf(responses, []));
  }
}

async function request(
  send: Ask,
  target: Partial<Extract<Command, { type: "request" }>>,
  data: unknown,
  options: AskOptions,
  onResponse: (response: Response) => void,
): Promise<Reply> {
  const { signal, ...fields } = options;
  const command: Command = { type: "request", ...target, ...payload(data), ...fields };
  const timeoutMs = (options.deadlineMs ?? DEFAULT_DEADLINE_MS) + GRACE_MS;
  try {
    return await send(command, signal === undefined ? { timeoutMs } : { timeoutMs, signal }, onResponse);
  } catch (error) {
    if (error instanceof CommandRefused && error.code === ErrorCode.HANDLER_FAILED) throw new HandlerFailed(error);
    throw error;
  }
}

function answersOf(responses: Response[], missing: string[]): Answers {
  const all = responses.map((response): AgentAnswer => {
    const { from, error } = response;
    return error === undefined ? { from, data: content(response) } : { from, data: undefined, error };
  });
  return { answers: all.filter(({ error }) => error === undefined), failed: all.filter(({ error }) => error !== undefined), missing };
}
