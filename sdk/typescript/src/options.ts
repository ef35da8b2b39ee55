/** How a node is started, and how a call is made. */

import { check, checkOptions, flag, functions, integer, milliseconds, name, object, oneOf, signal, strings, text, texts, type Rule } from "./arguments.js";
import { InvalidArgument } from "./errors.js";
import type { Restart } from "./supervisor.js";
import { LIMITS, type Priority, type Route } from "./types.js";

/** How a node is started. Times are in milliseconds. An option that is `undefined` is one that is not given. */
export interface Options {
  /** The path of the binary. Default: `P2P_NODE_BIN`, otherwise the package of this platform. */
  binary?: string;
  /** Whether to search PATH as well. Default: `false`. */
  searchPath?: boolean;
  /** Arguments before those of the SDK: further flags, or those of a program around the node. Default: none. */
  args?: string[];
  /** Variables of the child besides those of this process. Default: none. */
  env?: Record<string, string>;
  /** The child's working directory. Default: that of this process. */
  cwd?: string;
  /** The display name. Default: that of the binary. */
  name?: string;
  /** The network. Default: that of the binary. */
  network?: string;
  /** The TCP and UDP port to listen on, 0 to 65,535; 0 takes any. Default: that of the binary. */
  port?: number;
  /** Multiaddrs of nodes to join through, each ending in `/p2p/<peer id>`. Default: those of the binary. */
  bootstrapPeers?: string[];
  /** The directory for what has to outlive the process: mail, and a key that is made up. Default: none, nothing does. */
  dataDir?: string;
  /** `manual`: this program calls `ack` for each mail. `auto`: the SDK does, when this program asks for the next message. Default: `auto`. */
  ack?: "auto" | "manual";
  /** The most mail that the node hands over without an `ack`, 1 to 16,384. The rest stays with its senders. Default: 1,024. */
  mailBuffer?: number;
  /** Broadcasts kept for each stream of messages. When there are more, the oldest goes. Default: 1,024. */
  broadcastBuffer?: number;
  /** Events of each kind kept for each stream of events: news, and what becomes of mail and commands. Default: 1,024. */
  eventBuffer?: number;
  /** A file with variables for the node. Default: that of the binary. */
  envFile?: string;
  /** The agent's Ethereum key: goes into the child's environment, never into its arguments. Default: that of the environment, or one that is made up. */
  privateKey?: string;
  /** The file with the binding of a key elsewhere. Default: that of the binary. */
  bindingFile?: string;
  /** How long the node may take to be ready, in ms. Default: 30,000. */
  readyTimeoutMs?: number;
  /** How long a call waits, for the node to be there and for its answer, in ms. Default: 30,000. */
  callTimeoutMs?: number;
  /** The pauses before a process that ended is started again; `false`: it is not. Default: pauses of 1,000 to 60,000 ms. */
  restart?: Partial<Restart> | false;
  /** Called with what the node writes to stderr, in pieces. Default: none. */
  onStderr?: (chunk: Buffer) => void;
  /** Gives up opening. Default: none. */
  signal?: AbortSignal;
  /** How long a node may take to end after `close`, in ms: to finish (it takes up to 5,000 itself), and then to obey SIGTERM. Default: [7,000, 2,000]. */
  closeTimeoutsMs?: [number, number];
}

/** The most mail that a node leaves without an `ack`. */
const COUNT = integer(1, Number.MAX_SAFE_INTEGER);

const RESTART_RULES: Record<keyof Restart, Rule> = {
  firstMs: milliseconds,
  maxMs: milliseconds,
  stableMs: milliseconds,
  crashes: COUNT,
  windowMs: milliseconds,
};

const RULES: Record<keyof Options, Rule> = {
  binary: name,
  searchPath: flag,
  args: strings,
  env: texts,
  cwd: name,
  name: text,
  network: name,
  port: integer(0, 65_535),
  bootstrapPeers: strings,
  dataDir: name,
  ack: oneOf("auto", "manual"),
  mailBuffer: integer(1, LIMITS.maxUnacked),
  broadcastBuffer: COUNT,
  eventBuffer: COUNT,
  envFile: name,
  privateKey: text,
  bindingFile: name,
  readyTimeoutMs: milliseconds,
  callTimeoutMs: milliseconds,
  restart: (value) => (value === false ? undefined : object(value) && "give an object, or false"),
  onStderr: functions,
  signal,
  closeTimeoutsMs: (value) =>
    Array.isArray(value) && value.length === 2 && !value.some(milliseconds) ? undefined : "give two numbers of milliseconds",
};

/** @throws {InvalidArgument} naming the option, never the value of `privateKey`. */
export function checkOpenOptions(options: Options): void {
  check("options", options, object);
  const { privateKey } = options as { privateKey?: unknown };
  // The error would quote it.
  if (privateKey !== undefined && typeof privateKey !== "string") throw new InvalidArgument("privateKey", "is no string");
  checkOptions(options, RULES);
  if (typeof options.restart === "object") checkOptions(options.restart, RESTART_RULES, "restart.");
}

export const DEFAULTS = {
  readyTimeoutMs: 30_000,
  callTimeoutMs: 30_000,
  mailBuffer: 1024,
  broadcastBuffer: 1024,
  eventBuffer: 1024,
  closeTimeoutsMs: [7000, 2000],
} as const;

/** Of each call. */
export interface CallOptions {
  /** Aborted, the call rejects with its reason; the command is not taken back. Default: none. */
  signal?: AbortSignal;
  /** How long the call waits, in ms. Default: `callTimeoutMs` of `open`. */
  timeoutMs?: number;
}

/** Of `publish`. */
export interface PublishOptions extends CallOptions {
  /** What the message is, for those who receive it, at most 64 bytes. Default: none. */
  kind?: string;
  /** How urgent it is. Default: as its kind is, `medium` for most. */
  priority?: Priority;
}

/** Of `send` and `reply`. */
export interface SendOptions extends PublishOptions {
  /** How long the node tries, in ms: 1 to 604,800,000 (7 days). Default: 120,000 (2 minutes); with a data directory 86,400,000 (1 day). */
  ttlMs?: number;
  /** Which way the mail goes. Default: `auto`. */
  route?: Route;
  /** The message that it answers, at most 128 bytes. Default: none; `reply` gives the message's own. */
  replyTo?: string;
  /** The conversation, at most 128 bytes. Default: none; `reply` gives that of the message. */
  conversationId?: string;
}

/** The arguments of the process. Whoever gave some of their own may have given them for a program around it: those come first. */
export function commandLine(options: Options): string[] {
  const flags: [string, string | undefined][] = [
    ["--name", options.name],
    ["--network", options.network],
    ["--data-dir", options.dataDir],
    // The node never acknowledges by itself: only this program knows when it has processed a mail.
    ["--ack", "manual"],
    ["--env-file", options.envFile],
    ["--binding", options.bindingFile],
    ["--parent-pid", String(process.pid)],
  ];
  return [...(options.args ?? []), ...flags.flatMap(([flag, value]) => (value === undefined ? [] : [flag, value]))];
}

/** Its environment; `ephemeralKey` is for an agent that was given none. */
export function environment(options: Options, ephemeralKey: string): NodeJS.ProcessEnv {
  const key = options.privateKey === undefined ? {} : { PRIVATE_KEY: options.privateKey };
  return { ...process.env, P2P_NODE_EPHEMERAL_KEY: ephemeralKey, ...options.env, ...key };
}
