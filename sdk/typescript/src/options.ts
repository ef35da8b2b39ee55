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
  /** `manual`: mail counts as delivered when `ack` says so, instead of when it is on its way to this program. */
  ack?: "auto" | "manual";
  envFile?: string;
  /** Goes into the child's environment, never into its arguments. */
  privateKey?: string;
  bindingFile?: string;
  /** 30,000 by default. */
  readyTimeoutMs?: number;
  /** How long a call waits, for the node to be there and for its answer; 30,000 by default. */
  callTimeoutMs?: number;
  /** How long the node may leave its stdin unread before it is taken for dead; 10,000 by default. */
  writeTimeoutMs?: number;
  /** Events kept for each stream, beside mail that waits for an `ack`; 1,024 by default. */
  eventBuffer?: number;
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
  writeTimeoutMs: 10_000,
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
    ["--ack", options.ack],
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
