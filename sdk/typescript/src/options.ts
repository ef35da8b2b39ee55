/** How a node is started, and how a call is made. */

import type { Restart } from "./supervisor.js";
import type { Priority, Route } from "./types.js";

/** How a node is started. */
export interface Options {
  /** The binary; otherwise `P2P_NODE_BIN`, or the package of this platform. */
  binary?: string;
  /** Search PATH as well. */
  searchPath?: boolean;
  args?: string[];
  env?: Record<string, string>;
  cwd?: string;
  name?: string;
  network?: string;
  port?: number;
  bootstrapPeers?: string[];
  dataDir?: string;
  /** `manual`: this program calls `ack` for each mail. Otherwise the SDK does, when this program asks for the next event after the mail. */
  ack?: "auto" | "manual";
  /** The most mail that the node hands over without an `ack`, 1 to 16,384; 1,024 by default. The rest stays with its senders. */
  mailBuffer?: number;
  /** Broadcasts kept for each stream of messages; 1,024 by default. When there are more, the oldest goes. */
  broadcastBuffer?: number;
  /** Events of each kind kept for each stream of events: news, and what becomes of mail and commands; 1,024 by default. */
  eventBuffer?: number;
  envFile?: string;
  /** Goes into the child's environment, never into its arguments. */
  privateKey?: string;
  bindingFile?: string;
  /** 30,000 by default. */
  readyTimeoutMs?: number;
  /** How long a call waits, for the node to be there and for its answer; 30,000 by default. */
  callTimeoutMs?: number;
  /** `false`: a process that ends is not started again. */
  restart?: Partial<Restart> | false;
  /** Called with what the node writes to stderr, in pieces. */
  onStderr?: (chunk: Buffer) => void;
  /** Gives up opening. */
  signal?: AbortSignal;
  /** How long a node may take to end after `close`: to finish (it takes up to 5 s itself), and then to obey SIGTERM; 7,000 and 2,000. */
  closeTimeoutsMs?: [number, number];
}

export const DEFAULTS = {
  readyTimeoutMs: 30_000,
  callTimeoutMs: 30_000,
  mailBuffer: 1024,
  broadcastBuffer: 1024,
  eventBuffer: 1024,
  closeTimeoutsMs: [7000, 2000],
} as const;

/** Of each call. Aborted, it does not take the command back. */
export interface CallOptions {
  signal?: AbortSignal;
  timeoutMs?: number;
}

export interface SendOptions extends CallOptions {
  kind?: string;
  priority?: Priority;
  ttlMs?: number;
  route?: Route;
  replyTo?: string;
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
