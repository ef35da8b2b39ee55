/** Why a call came to nothing. */

import { RETRYABLE, type Delivery } from "./types.js";

/** How a process ended: by itself with a code, or by a signal. */
export interface Exit {
  code: number | null;
  signal: NodeJS.Signals | null;
}

export function describeExit(exit: Exit): string {
  return exit.code === null ? `signal ${exit.signal}` : `exit code ${exit.code}`;
}

/** Every error of this package. `code` is stable; `retryable`: the same call may succeed later, and does nothing twice. */
export class P2PError extends Error {
  override readonly name: string = "P2PError";
  readonly code: string;
  readonly retryable: boolean;

  constructor(code: string, message: string, retryable = false, options?: ErrorOptions) {
    super(`${code}: ${message}`, options);
    this.code = code;
    this.retryable = retryable;
  }
}

/** The node refused the command, or failed at it; `code` is one of the contract. */
export class CommandRefused extends P2PError {
  override readonly name = "CommandRefused";
  readonly details: unknown;
  /** How the process ended, if this was the end of it. */
  exit: Exit | undefined;

  constructor(code: string, message: string, retryable: boolean, details?: unknown) {
    super(code, message, retryable);
    this.details = details;
  }
}

/** The mail was accepted and did not arrive, or nobody knows whether it did. `code` is the delivery's own. */
export class Undelivered extends P2PError {
  override readonly name = "Undelivered";
  readonly delivery: Delivery;

  constructor(delivery: Delivery) {
    const code = delivery.code ?? delivery.state.toUpperCase();
    const why = delivery.message === undefined ? "" : `: ${delivery.message}`;
    super(code, `the mail ${delivery.messageId} is ${delivery.state}${why}`, RETRYABLE[code] ?? false);
    this.delivery = delivery;
  }
}

/**
 * No answer came in time. The node may still carry out the command, unless the SDK had not written it yet. `retryable`: the same call does
 * no harm; for a `send` that was written it is `false`, because the mail may arrive.
 */
export class CallTimeout extends P2PError {
  override readonly name = "CallTimeout";

  constructor(what: string, ms: number, retryable: boolean) {
    super("TIMEOUT", `${what} was not answered within ${ms} ms`, retryable);
  }
}

/** The program asks for more than the SDK keeps until the node takes it. Nothing was sent: wait for answers, then try again. */
export class TooManyCalls extends P2PError {
  override readonly name = "TooManyCalls";

  constructor(calls: number, bytes: number) {
    super("BUSY", `${calls} calls of ${bytes} bytes wait for the node already`, true);
  }
}

/** The command's line would be longer than the node reads. */
export class LineTooLong extends P2PError {
  override readonly name = "LineTooLong";

  constructor(bytes: number, limit: number) {
    super("LINE_TOO_LONG", `the command has ${bytes} bytes, and the node reads at most ${limit}`);
  }
}

/** Something about the node's process. `stderrTail` is the end of what it wrote to stderr. */
export class SidecarError extends P2PError {
  override readonly name: string = "SidecarError";
  readonly stderrTail: string;

  constructor(code: string, message: string, retryable = false, stderrTail = "", options?: ErrorOptions) {
    const words = stderrTail.trim();
    super(code, words === "" ? message : `${message}; its last words: ${JSON.stringify(words)}`, retryable, options);
    this.stderrTail = stderrTail;
  }
}

/** There is no binary where it was looked for. */
export class BinaryNotFound extends SidecarError {
  override readonly name = "BinaryNotFound";

  constructor(looked: string[], advice: string) {
    super("BINARY_NOT_FOUND", `there is no p2p-node in ${looked.join(", ")}: ${advice}`);
  }
}

/** The node's process ended and is not started again. */
export class SidecarExited extends SidecarError {
  override readonly name = "SidecarExited";
  readonly exit: Exit;

  constructor(exit: Exit, stderrTail: string) {
    super("SIDECAR_EXITED", `the node ended with ${describeExit(exit)}`, false, stderrTail);
    this.exit = exit;
  }
}

/**
 * The node's process ended before it answered. It may have carried out the command; the SDK does not write it again. `retryable` is `false`
 * for mail and broadcasts, because they may have been sent; the same call once more does no harm for all other commands.
 */
export class SidecarRestarted extends SidecarError {
  override readonly name = "SidecarRestarted";

  constructor(exit: Exit, stderrTail: string, retryable: boolean) {
    super("SIDECAR_RESTARTED", `the node ended with ${describeExit(exit)}`, retryable, stderrTail);
  }
}

/** The node was not there, and did not come back in time. Nothing was sent. */
export class SidecarUnavailable extends SidecarError {
  override readonly name = "SidecarUnavailable";

  constructor(ms: number) {
    super("SIDECAR_UNAVAILABLE", `the node was not back within ${ms} ms`, true);
  }
}

/** `close` was called. */
export class NodeClosed extends SidecarError {
  override readonly name = "NodeClosed";

  constructor() {
    super("CLOSED", "the node was closed");
  }
}
