/** Registers the agent in the registry on its chain, by `p2p-node register`. */

import { check, flag, integer } from "./arguments.js";
import { SidecarError, StartFailed } from "./errors.js";
import { findBinary } from "./locate.js";
import { checkOpenOptions, commandLine, environment, type Options } from "./options.js";
import { Process } from "./process.js";
import { ErrorCode } from "./types.js";

/** The options of `register`: those of the node, without arguments of a wrapper program. */
export interface RegisterOptions extends Options {
  /** `true`: shows the transaction and sends nothing. Default: `false`. */
  dryRun?: boolean;
  /** How long to wait for a block, 1 to 3,600,000 ms, rounded up to seconds. Default: 300,000. */
  timeoutMs?: number;
}

/** What became of a registration. */
export interface Registration {
  /** The agent's Ethereum address. */
  address: string;
  /** The address of the registry. */
  registry: string;
  /** The id of the chain. */
  chainId: number;
  /**
   * `registered`: a block has the transaction. `already`: the agent was registered. `waiting`: an
   * earlier transaction waits for a block. `shown`: a dry run, which sends nothing.
   */
  state: "registered" | "already" | "waiting" | "shown";
  /** The name of the entry. */
  name?: string;
  /** The metadata of the entry. */
  metadata?: string;
  /** The most that the transaction can cost, in decimal. */
  maxCostWei?: string;
  /** The hash of the transaction. */
  transaction?: string;
  /** The number of the block. */
  block?: number;
  /** The id of the new entry in a registry of ERC-8004, in decimal: set REGISTRY_AGENT_ID to it. */
  agentId?: string;
}

/**
 * Registers the agent of the options in the registry on its chain, by one transaction, and waits
 * until a block has it. The agent's account pays. An agent that is registered already stays as it
 * is. If `signal` aborts, the SDK kills the process and the call rejects with the signal's reason; a
 * transaction that it has sent may still get into a block.
 *
 * @throws {StartFailed} with the exit code and the text of stderr if the registration failed; the
 * errors of `open` about options and binary.
 */
export async function register(options: RegisterOptions = {}): Promise<Registration> {
  const { dryRun = false, timeoutMs = 300_000, ...node } = options;
  checkOpenOptions(node);
  check("dryRun", dryRun, flag);
  check("timeoutMs", timeoutMs, integer(1, 3_600_000));
  node.signal?.throwIfAborted();
  const task = ["register", "--json", "--timeout", String(Math.ceil(timeoutMs / 1000)), ...(dryRun ? ["--dry-run"] : [])];
  const child = await Process.spawn({
    program: findBinary(node.binary, node.searchPath),
    args: [...task, ...commandLine(node)],
    env: environment(node),
    cwd: node.cwd,
    onStderr: node.onStderr,
  });
  const chunks: Buffer[] = [];
  child.onOutput((chunk) => chunks.push(chunk));
  const kill = (): void => child.signal("SIGKILL");
  node.signal?.addEventListener("abort", kill);
  if (node.signal?.aborted === true) kill();
  try {
    await child.outputEnd;
    const exit = await child.finished();
    node.signal?.throwIfAborted();
    if (exit.code !== 0) throw new StartFailed(exit, child.stderrTail());
    return decode(Buffer.concat(chunks).toString("utf8"));
  } finally {
    node.signal?.removeEventListener("abort", kill);
    child.release();
  }
}

function decode(output: string): Registration {
  try {
    return JSON.parse(output) as Registration;
  } catch (error) {
    throw new SidecarError(ErrorCode.CONTRACT, `the output of register is invalid: ${String(error)}`);
  }
}
