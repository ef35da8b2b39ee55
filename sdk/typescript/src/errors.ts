/** The errors of the SDK. */

import type { Answers } from "./requests.js";
import { ErrorCode, RETRYABLE, type Delivery, type ErrorEvent } from "./types.js";

/** How a process ended: with an exit `code`, or by a `signal`. The other field is `null`. */
export interface Exit {
  code: number | null;
  signal: NodeJS.Signals | null;
}

/** Describes how a process ended, and the error that it reported. */
export function describeEnd(exit: Exit, report: ErrorEvent | undefined): string {
  const how = exit.code === null ? `signal ${exit.signal}` : `exit code ${exit.code}`;
  return `the node ended with ${how}${report === undefined ? "" : `: ${report.code}: ${report.message}`}`;
}

/** Base class of all errors of this package. */
export class P2PError extends Error {
  override readonly name: string = "P2PError";
  /** The stable code of the error. */
  readonly code: ErrorCode;
  /** `true` if the same call may succeed later and cannot have an effect twice. */
  readonly retryable: boolean;

  constructor(code: ErrorCode, message: string, retryable = false, options?: ErrorOptions) {
    super(`${code}: ${message}`, options);
    this.code = code;
    this.retryable = retryable;
  }
}

/** An argument is invalid. The SDK wrote nothing to the node. */
export class InvalidArgument extends P2PError {
  override readonly name = "InvalidArgument";
  /** The path of the invalid argument or option, such as `bootstrapPeers` or `data.items[3]`. */
  readonly argument: string;

  constructor(argument: string, what: string) {
    super(ErrorCode.INVALID_ARGUMENT, `\`${argument}\` ${what}`);
    this.argument = argument;
  }
}

/** No peer connected in time. The node keeps trying. */
export class NotJoined extends P2PError {
  override readonly name = "NotJoined";
  /** The bootstrap peers that the program gave. */
  readonly tried: readonly string[];
  /** The last errors and warnings that the node reported, at most eight. */
  readonly errors: readonly string[];

  constructor(ms: number, tried: readonly string[], errors: readonly string[]) {
    const where = tried.length === 0 ? "no bootstrap peers are configured" : `tried ${tried.join(", ")}`;
    const why = errors.map((error) => `; ${error}`).join("");
    super(ErrorCode.NOT_JOINED, `no peer connected within ${ms} ms: ${where}${why}`, true);
    this.tried = tried;
    this.errors = errors;
  }
}

/**
 * The node rejected the command, or failed to execute it. `code` is an error code of the pipe
 * protocol.
 */
export class CommandRefused extends P2PError {
  override readonly name: string = "CommandRefused";
  /** Further values of the node's error. */
  readonly details: unknown;

  constructor(code: ErrorCode, message: string, retryable: boolean, details?: unknown) {
    super(code, message, retryable);
    this.details = details;
  }
}

/** The handler of the agent answered with an error. */
export class HandlerFailed extends CommandRefused {
  override readonly name = "HandlerFailed";
  /** The code of the handler. */
  readonly handlerCode: string;
  /** The address of the agent. */
  readonly from: string;

  constructor(error: CommandRefused) {
    super(error.code, error.message.slice(error.code.length + 2), error.retryable, error.details);
    const { code, from } = (error.details ?? {}) as { code?: string; from?: string };
    this.handlerCode = code ?? "";
    this.from = from ?? "";
  }
}

/** Fewer agents answered than the `quorum` of the call. */
export class QuorumNotReached extends CommandRefused {
  override readonly name = "QuorumNotReached";
  /** The answers that came. */
  readonly answers: Answers;

  constructor(error: CommandRefused, answers: Answers) {
    super(error.code, error.message.slice(error.code.length + 2), error.retryable, error.details);
    this.answers = answers;
  }
}

/**
 * Throw it in a handler: the asker gets `code` (1 to 48 upper-case letters, digits and underscores) and
 * 1,024 bytes of the message.
 */
export class HandlerError extends Error {
  override readonly name = "HandlerError";
  readonly code: string;

  constructor(code: string, message = "") {
    super(message);
    this.code = code;
  }
}

/**
 * The node accepted the message, but it did not arrive, or the node cannot know if it arrived.
 * `code` is the code of `delivery`, or its state in upper case.
 */
export class Undelivered extends P2PError {
  override readonly name = "Undelivered";
  /** The delivery that the node reported. */
  readonly delivery: Delivery;

  constructor(delivery: Delivery) {
    const code = delivery.code ?? delivery.state.toUpperCase();
    const why = delivery.message === undefined ? "" : `: ${delivery.message}`;
    super(code, `message ${delivery.messageId} is ${delivery.state}${why}`, RETRYABLE[code] ?? false);
    this.delivery = delivery;
  }
}

/**
 * No answer arrived in time. The node may still execute the command; the SDK withdraws a command
 * that it had not written yet. `retryable` is `false` for a `send` that was written, because the
 * message may still arrive.
 */
export class CallTimeout extends P2PError {
  override readonly name = "CallTimeout";

  constructor(what: string, ms: number, retryable: boolean) {
    super(ErrorCode.TIMEOUT, `${what} was not answered within ${ms} ms`, retryable);
  }
}

/** Too many calls wait in the SDK. The SDK sent nothing: wait for answers, then try again. */
export class TooManyCalls extends P2PError {
  override readonly name = "TooManyCalls";

  constructor(calls: number, bytes: number) {
    super(ErrorCode.BUSY, `${calls} calls (${bytes} bytes) already wait: wait for answers first`, true);
  }
}

/** The line of the command exceeds the node's limit of 1 MiB. The SDK did not write it. */
export class LineTooLong extends P2PError {
  override readonly name = "LineTooLong";

  constructor(bytes: number, limit: number) {
    const advice = "send less";
    super(ErrorCode.LINE_TOO_LONG, `the command has ${bytes} bytes, the limit is ${limit}: ${advice}`);
  }
}

/** A problem with the node's process. */
export class SidecarError extends P2PError {
  override readonly name: string = "SidecarError";
  /** The last bytes that the node's process wrote to stderr, at most 2,048. */
  readonly stderrTail: string;

  constructor(code: ErrorCode, message: string, retryable = false, stderrTail = "", options?: ErrorOptions) {
    const words = stderrTail.trim();
    super(code, words === "" ? message : `${message}; stderr ends with: ${JSON.stringify(words)}`, retryable, options);
    this.stderrTail = stderrTail;
  }
}

/** The SDK did not find the binary. The message lists the places that it searched. */
export class BinaryNotFound extends SidecarError {
  override readonly name = "BinaryNotFound";

  constructor(looked: string[], advice: string) {
    super(ErrorCode.BINARY_NOT_FOUND, `no p2p-node binary in ${looked.join(", ")}: ${advice}`);
  }
}

/**
 * Why the system cannot run a binary. `noexec`: the mount forbids execution. `missing_loader`: the
 * binary is built for another libc, so its loader does not exist. `truncated`: the end of the file
 * is missing. `not_a_program`: the file is neither a program for this system nor a script.
 * `in_archive`: the file is within an Electron archive.
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

/** The system cannot run the binary. The SDK checked the file and did not start it. */
export class BinaryUnusable extends SidecarError {
  override readonly name = "BinaryUnusable";
  /** The path of the binary. */
  readonly path: string;
  /** Why the system cannot run it. */
  readonly reason: BinaryReason;

  constructor(path: string, reason: BinaryReason, message: string) {
    super(ErrorCode.BINARY_UNUSABLE, `${path} ${message}`);
    this.path = path;
    this.reason = reason;
  }
}

/** The node's process ended, and the SDK does not restart it. */
export class SidecarExited extends SidecarError {
  override readonly name: string = "SidecarExited";
  /** How the process ended. */
  readonly exit: Exit;
  /** The last `error` event of the node that belongs to no call, if any: the reason for the end. */
  readonly report: ErrorEvent | undefined;

  constructor(exit: Exit, stderrTail: string, report?: ErrorEvent, code: ErrorCode = ErrorCode.SIDECAR_EXITED, advice = "") {
    const retryable = code !== ErrorCode.SIDECAR_EXITED && report?.retryable === true;
    super(code, `${describeEnd(exit, report)}${advice}`, retryable, stderrTail);
    this.exit = exit;
    this.report = report;
  }
}

/**
 * The node's process ended before it was ready, or rejected the start. `code` and `retryable` are
 * those of the node's `report`; without a report the code is `SIDECAR_EXITED`.
 */
export class StartFailed extends SidecarExited {
  override readonly name = "StartFailed";

  constructor(exit: Exit, stderrTail: string, report?: ErrorEvent, advice = "") {
    super(exit, stderrTail, report, report?.code, advice);
  }
}

/**
 * The node's process ended before it answered. The SDK does not repeat the command, because the
 * node may have executed it. `retryable` is `false` for `send`, `reply` and `publish`, because the
 * node may have sent the message; all other commands are safe to repeat.
 */
export class SidecarRestarted extends SidecarError {
  override readonly name = "SidecarRestarted";

  constructor(exited: SidecarExited, retryable: boolean) {
    super(ErrorCode.SIDECAR_RESTARTED, describeEnd(exited.exit, exited.report), retryable, exited.stderrTail);
  }
}

/** No process of the node was ready in time. The SDK sent nothing. */
export class SidecarUnavailable extends SidecarError {
  override readonly name = "SidecarUnavailable";

  constructor(ms: number) {
    const why = `the node is restarting and was not ready within ${ms} ms`;
    super(ErrorCode.SIDECAR_UNAVAILABLE, `${why}: try again later`, true);
  }
}

/** The program called `close`. */
export class NodeClosed extends SidecarError {
  override readonly name = "NodeClosed";

  constructor() {
    super(ErrorCode.CLOSED, "the program closed the node");
  }
}
