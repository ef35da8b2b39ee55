/** Errors of the SDK. */

import { ErrorCode, RETRYABLE, type Delivery, type ErrorEvent } from "./types.js";

/** How a process ended: by itself with a code, or by a signal. */
export interface Exit {
  code: number | null;
  signal: NodeJS.Signals | null;
}

/** How a process ended and, if the node said it, why. */
export function describeEnd(exit: Exit, report: ErrorEvent | undefined): string {
  const how = exit.code === null ? `signal ${exit.signal}` : `exit code ${exit.code}`;
  return `the node ended with ${how}${report === undefined ? "" : `: ${report.code}: ${report.message}`}`;
}

/** Every error of this package. `code` is stable; `retryable`: the same call may succeed later, and does nothing twice. */
export class P2PError extends Error {
  override readonly name: string = "P2PError";
  /** Stable, for a program. */
  readonly code: ErrorCode;
  /** The same call may succeed later, and does nothing twice. */
  readonly retryable: boolean;

  constructor(code: ErrorCode, message: string, retryable = false, options?: ErrorOptions) {
    super(`${code}: ${message}`, options);
    this.code = code;
    this.retryable = retryable;
  }
}

/** The program passed something that cannot be used. Nothing was sent. */
export class InvalidArgument extends P2PError {
  override readonly name = "InvalidArgument";
  /** Which argument or option, and where in it: `bootstrapPeers`, `data.items[3]`. */
  readonly argument: string;

  constructor(argument: string, what: string) {
    super(ErrorCode.INVALID_ARGUMENT, `\`${argument}\` ${what}`);
    this.argument = argument;
  }
}

/** No peer was connected in time. The node goes on trying. */
export class NotJoined extends P2PError {
  override readonly name = "NotJoined";
  /** The bootstrap peers that the program gave. */
  readonly tried: readonly string[];
  /** What the node complained of since its start: its last errors and warnings, at most eight. */
  readonly errors: readonly string[];

  constructor(ms: number, tried: readonly string[], errors: readonly string[]) {
    const where = tried.length === 0 ? "no bootstrap peers were given" : `the bootstrap peers are ${tried.join(", ")}`;
    const why = errors.length === 0 ? "" : `; the node says: ${errors.join("; ")}`;
    super(ErrorCode.NOT_JOINED, `no peer was connected within ${ms} ms: ${where}${why}`, true);
    this.tried = tried;
    this.errors = errors;
  }
}

/** The node refused the command, or failed at it; `code` is one of the contract. */
export class CommandRefused extends P2PError {
  override readonly name = "CommandRefused";
  /** More, as the node says it. */
  readonly details: unknown;

  constructor(code: ErrorCode, message: string, retryable: boolean, details?: unknown) {
    super(code, message, retryable);
    this.details = details;
  }
}

/** The mail was accepted and did not arrive, or nobody knows whether it did. `code` is the delivery's own. */
export class Undelivered extends P2PError {
  override readonly name = "Undelivered";
  /** What the node told of it. */
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
    super(ErrorCode.TIMEOUT, `${what} was not answered within ${ms} ms`, retryable);
  }
}

/** The program asks for more than the SDK keeps until the node takes it. Nothing was sent: wait for answers, then try again. */
export class TooManyCalls extends P2PError {
  override readonly name = "TooManyCalls";

  constructor(calls: number, bytes: number) {
    super(ErrorCode.BUSY, `${calls} calls of ${bytes} bytes wait for the node already`, true);
  }
}

/** The command's line would be longer than the node reads. */
export class LineTooLong extends P2PError {
  override readonly name = "LineTooLong";

  constructor(bytes: number, limit: number) {
    super(ErrorCode.LINE_TOO_LONG, `the command has ${bytes} bytes, and the node reads at most ${limit}`);
  }
}

/** Something about the node's process. `stderrTail` is the end of what it wrote to stderr. */
export class SidecarError extends P2PError {
  override readonly name: string = "SidecarError";
  /** The end of what the node's process wrote to stderr, at most 2,048 bytes. */
  readonly stderrTail: string;

  constructor(code: ErrorCode, message: string, retryable = false, stderrTail = "", options?: ErrorOptions) {
    const words = stderrTail.trim();
    super(code, words === "" ? message : `${message}; its last words: ${JSON.stringify(words)}`, retryable, options);
    this.stderrTail = stderrTail;
  }
}

/** There is no binary where it was looked for. */
export class BinaryNotFound extends SidecarError {
  override readonly name = "BinaryNotFound";

  constructor(looked: string[], advice: string) {
    super(ErrorCode.BINARY_NOT_FOUND, `there is no p2p-node in ${looked.join(", ")}: ${advice}`);
  }
}

/**
 * Why a binary cannot be run. `noexec`: its file system forbids it. `missing_loader`: the system does not have the loader that the binary
 * names, because the binary is for another libc. `truncated`: a part is missing. `not_a_program`: neither a program of this system nor a
 * script. `in_archive`: an Electron archive holds it.
 */
export type BinaryReason =
  | "missing"
  | "not_a_file"
  | "not_executable"
  | "noexec"
  | "empty"
  | "truncated"
  | "wrong_architecture"
  | "missing_loader"
  | "missing_interpreter"
  | "not_a_program"
  | "in_archive";

/** The binary cannot be run on this machine. The SDK did not try to. */
export class BinaryUnusable extends SidecarError {
  override readonly name = "BinaryUnusable";
  /** The file. */
  readonly path: string;
  /** Why it cannot be run. */
  readonly reason: BinaryReason;

  constructor(path: string, reason: BinaryReason, message: string) {
    super(ErrorCode.BINARY_UNUSABLE, `${path} ${message}`);
    this.path = path;
    this.reason = reason;
  }
}

/** The node's process ended and is not started again. */
export class SidecarExited extends SidecarError {
  override readonly name: string = "SidecarExited";
  /** How the process ended. */
  readonly exit: Exit;
  /** The last `error` event of the node that belongs to no call, if there was one: why it ended. */
  readonly report: ErrorEvent | undefined;

  constructor(exit: Exit, stderrTail: string, report?: ErrorEvent, code: ErrorCode = ErrorCode.SIDECAR_EXITED, advice = "") {
    const retryable = code !== ErrorCode.SIDECAR_EXITED && report?.retryable === true;
    super(code, `${describeEnd(exit, report)}${advice}`, retryable, stderrTail);
    this.exit = exit;
    this.report = report;
  }
}

/**
 * The node's process ended before it was ready, or refused to start. `code` and `retryable` are those of the node's `report`; without one
 * the code is `SIDECAR_EXITED`.
 */
export class StartFailed extends SidecarExited {
  override readonly name = "StartFailed";

  constructor(exit: Exit, stderrTail: string, report?: ErrorEvent, advice = "") {
    super(exit, stderrTail, report, report?.code, advice);
  }
}

/**
 * The node's process ended before it answered. It may have carried out the command; the SDK does not write it again. `retryable` is `false`
 * for mail and broadcasts, because they may have been sent; the same call once more does no harm for all other commands.
 */
export class SidecarRestarted extends SidecarError {
  override readonly name = "SidecarRestarted";

  constructor(exited: SidecarExited, retryable: boolean) {
    super(ErrorCode.SIDECAR_RESTARTED, describeEnd(exited.exit, exited.report), retryable, exited.stderrTail);
  }
}

/** The node was not there, and did not come back in time. Nothing was sent. */
export class SidecarUnavailable extends SidecarError {
  override readonly name = "SidecarUnavailable";

  constructor(ms: number) {
    super(ErrorCode.SIDECAR_UNAVAILABLE, `the node was not back within ${ms} ms`, true);
  }
}

/** `close` was called. */
export class NodeClosed extends SidecarError {
  override readonly name = "NodeClosed";

  constructor() {
    super(ErrorCode.CLOSED, "the node was closed");
  }
}
