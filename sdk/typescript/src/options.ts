/** The options of `open` and of the calls. */

import { check, checkOptions, flag, functions, integer, milliseconds, name, object, oneOf, signal, strings, text, texts, type Rule } from "./arguments.js";
import { InvalidArgument } from "./errors.js";
import type { Restart } from "./supervisor.js";
import { LIMITS, type Priority, type Route } from "./types.js";

/**
 * The options of a node. Times are in milliseconds. An option that is `undefined` counts as absent.
 */
export interface Options {
  /** The path of the binary. Default: `P2P_NODE_BIN`, otherwise the package of this platform. */
  binary?: string;
  /** `true`: as a last resort the SDK searches PATH for `p2p-node`. Default: `false`. */
  searchPath?: boolean;
  /**
   * Additional arguments, before those of the SDK: flags of the node, or arguments of a wrapper
   * program. Do not pass secrets: every user of the machine can read them. Default: none.
   */
  args?: string[];
  /** Additional environment variables of the node. Default: none; it inherits this process's. */
  env?: Record<string, string>;
  /** The node's working directory. Default: that of this process. */
  cwd?: string;
  /** The display name. Default: that of the binary. */
  name?: string;
  /** The network. Default: that of the binary. */
  network?: string;
  /**
   * The TCP and UDP port to listen on, 0 to 65,535; 0 means any free port. Default: that of the
   * binary.
   */
  port?: number;
  /**
   * Multiaddrs of the nodes that this node dials to join the network, each ending in
   * `/p2p/<peer id>`. Default: those of the binary.
   */
  bootstrapPeers?: string[];
  /**
   * The directory that persists mail and a random key. Default: none; the node persists nothing.
   */
  dataDir?: string;
  /**
   * `auto`: the SDK acknowledges a message when this program asks for the next one. `manual`: this
   * program calls `ack` for each message. Default: `auto`.
   */
  ack?: "auto" | "manual";
  /**
   * Maximum number of messages that the node delivers without an `ack`, 1 to 16,384. Further
   * messages stay with their senders. Default: 1,024.
   */
  mailBuffer?: number;
  /**
   * Maximum number of buffered broadcasts of each message stream. A full buffer drops its oldest
   * broadcast. Default: 1,024.
   */
  broadcastBuffer?: number;
  /**
   * Maximum number of buffered events of each event stream, once for peer events, logs and
   * `overflow`, and once for all others. A full buffer drops its oldest event. Default: 1,024.
   */
  eventBuffer?: number;
  /** A file with environment variables for the node. Default: that of the binary. */
  envFile?: string;
  /**
   * The agent's Ethereum key in hexadecimal. The SDK passes it in the environment, never in the
   * arguments. Default: the key of the environment, else a random key, which lasts as long as the
   * `P2PNode` or, with `dataDir`, as the data directory.
   */
  privateKey?: string;
  /** The file with the binding of a key that another device holds. Default: that of the binary. */
  bindingFile?: string;
  /**
   * Shares one node among processes: attaches to the daemon of this agent, and starts it if none
   * runs. The daemon stays when this process ends. It needs `privateKey`, `dataDir`, `envFile` or
   * `socket`, by which the processes find it. Default: false.
   */
  shared?: boolean;
  /**
   * Attaches to the node that listens at this path. Without `shared` it must run. Default: none.
   */
  socket?: string;
  /** `false`: no messages of other agents for this process, only broadcasts. Default: true. */
  inbox?: boolean;
  /** Of the processes of one node with the same group, one gets each message. Default: none. */
  group?: string;
  /** How long a process may take until it is ready, in ms. Default: 30,000. */
  readyTimeoutMs?: number;
  /** How long a call waits, for a running process and for its answer, in ms. Default: 30,000. */
  callTimeoutMs?: number;
  /**
   * The restart policy. `false`: the SDK never restarts the process. Default: pauses of 1,000 to
   * 60,000 ms.
   */
  restart?: Partial<Restart> | false;
  /** The SDK calls this function with each piece of the node's stderr. Default: none. */
  onStderr?: (chunk: Buffer) => void;
  /** Aborts `open` and kills the process. Has no effect after `open`. Default: none. */
  signal?: AbortSignal;
  /**
   * The time in ms from `close` until SIGTERM, and from then until SIGKILL. The node itself drains
   * for up to 5,000 ms. Default: [7,000, 2,000].
   */
  closeTimeoutsMs?: [number, number];
}

/** Rule for a positive number of things. */
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
  shared: flag,
  socket: name,
  inbox: flag,
  group: name,
  readyTimeoutMs: milliseconds,
  callTimeoutMs: milliseconds,
  restart: (value) => (value === false ? undefined : object(value) && "give an object, or false"),
  onStderr: functions,
  signal,
  closeTimeoutsMs: (value) =>
    Array.isArray(value) && value.length === 2 && !value.some(milliseconds) ? undefined : "give two numbers of milliseconds",
};

/** @throws {InvalidArgument} with the name of an invalid option; never quotes `privateKey`. */
export function checkOpenOptions(options: Options): void {
  check("options", options, object);
  const { privateKey } = options as { privateKey?: unknown };
  // Checked here, because `checkOptions` would quote the value.
  if (privateKey !== undefined && typeof privateKey !== "string") throw new InvalidArgument("privateKey", "is not a string: give the key in hexadecimal");
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

/** The options of each call. */
export interface CallOptions {
  /**
   * If the signal aborts, the call rejects with its reason. The SDK withdraws a command that it has
   * not written yet, and ends the search of `discover`; the node still executes every other written
   * command. Default: none.
   */
  signal?: AbortSignal;
  /** How long the call waits, in ms. Default: `callTimeoutMs` of `open`. */
  timeoutMs?: number;
}

/** The options of `publish`. */
export interface PublishOptions extends CallOptions {
  /** The kind of the message, for the receiving agent, at most 64 bytes. Default: none. */
  kind?: string;
  /** The priority. Default: that of `kind`; `medium` for most kinds. */
  priority?: Priority;
  /** The trace of the message, as a `traceparent` of W3C Trace Context. Default: none. */
  traceparent?: string;
}

/** The options of `send` and `reply`. */
export interface SendOptions extends PublishOptions {
  /**
   * The path of a file that goes with the message, of up to 1 GiB. The call resolves when the node has read the file; keep it as
   * it is until the delivery. Events of the type `transfer` tell the progress. The recipient finds its copy in `message.file`.
   */
  file?: string;
  /**
   * How long the node tries to deliver the message, in ms: 1 to 604,800,000 (7 days). Default:
   * 120,000 (2 minutes), and 86,400,000 (1 day) with a data directory or a file.
   */
  ttlMs?: number;
  /** The route of the message. Default: `auto`. */
  route?: Route;
  /**
   * The id of the message that this one answers, at most 128 bytes. Default: none; `reply` sets it.
   */
  replyTo?: string;
  /** The conversation, at most 128 bytes. Default: none; `reply` copies it from the message. */
  conversationId?: string;
}

/**
 * Returns the arguments of the process. `args` come first, because they may be for a wrapper
 * program.
 */
export function commandLine(options: Options): string[] {
  const flags: [string, string | undefined][] = [
    ["--name", options.name],
    ["--network", options.network],
    ["--data-dir", options.dataDir],
    // The SDK acknowledges mail itself: only this program knows when it has processed a message.
    ["--ack", "manual"],
    ["--env-file", options.envFile],
    ["--binding", options.bindingFile],
    ["--parent-pid", String(process.pid)],
  ];
  return [...(options.args ?? []), ...flags.flatMap(([flag, value]) => (value === undefined ? [] : [flag, value]))];
}

/** Returns the arguments of a node of its own, or of the bridge to a shared one. */
export function processArguments(options: Options): string[] {
  if (options.shared !== true && options.socket === undefined) return commandLine(options);
  const { args = [], ...rest } = options;
  const start = options.shared === true ? ["--start"] : [];
  const socket = options.socket === undefined ? [] : ["--socket", options.socket];
  const port = options.port === undefined ? [] : ["--port", String(options.port)];
  return ["attach", ...start, ...socket, "--", ...args, ...commandLine(rest), ...port];
}

/**
 * Returns the environment of the process. `ephemeralKey`: the key of an agent without any other.
 */
export function environment(options: Options, ephemeralKey?: string): NodeJS.ProcessEnv {
  const key = options.privateKey === undefined ? {} : { PRIVATE_KEY: options.privateKey };
  const ephemeral = ephemeralKey === undefined ? {} : { P2P_NODE_EPHEMERAL_KEY: ephemeralKey };
  return { ...process.env, ...ephemeral, ...options.env, ...key };
}
