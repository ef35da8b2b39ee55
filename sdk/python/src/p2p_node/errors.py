"""The exceptions of the SDK."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .types import Delivery, ErrorCode, ErrorEvent


@dataclass(frozen=True)
class Exit:
    """How a process ended: with an exit `code`, or by a `signal`. The other field is `None`."""

    code: int | None = None
    signal: int | None = None

    def __str__(self) -> str:
        return f"signal {self.signal}" if self.code is None else f"exit code {self.code}"


class P2PError(Exception):
    """Base class of all errors of this package.

    `code` is stable, one of `ErrorCode`. `retryable` is `True` if the same call may succeed later
    and cannot have an effect twice."""

    def __init__(self, code: str, message: str, *, retryable: bool = False) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.retryable = retryable

    def __repr__(self) -> str:
        return f"{type(self).__name__}(code={self.code!r}, message={self.message!r}, retryable={self.retryable!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Subclasses have different constructors, so the default cannot copy or pickle them.
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(kind: type[P2PError], args: tuple[Any, ...], state: dict[str, Any]) -> P2PError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class CommandRefused(P2PError):
    """The node rejected the command, or failed to execute it. `code` is an error code of the pipe
    protocol; `details` holds further values."""

    def __init__(self, code: str, message: str, *, retryable: bool, details: Any = None) -> None:
        super().__init__(code, message, retryable=retryable)
        self.details = details


class HandlerFailed(CommandRefused):
    """The handler of the agent answered with an error. `handler_code` is its code, `sender` the address of the
    agent."""

    def __init__(self, error: CommandRefused) -> None:
        super().__init__(error.code, error.message, retryable=error.retryable, details=error.details)
        details = error.details if isinstance(error.details, dict) else {}
        self.handler_code = str(details.get("code", ""))
        self.sender = str(details.get("from", ""))


class QuorumNotReached(CommandRefused):
    """Fewer agents answered than the `quorum` of the call. `answers` are those that came."""

    def __init__(self, error: CommandRefused, answers: Any) -> None:
        super().__init__(error.code, error.message, retryable=error.retryable, details=error.details)
        self.answers = answers


class HandlerError(Exception):
    """Raise it in a handler: the asker gets `code` (1 to 48 upper-case letters, digits and underscores) and
    `message` (1,024 bytes of it)."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class Undelivered(P2PError):
    """The node accepted the message, but it did not arrive, or the node cannot know if it arrived.
    `code` is the code of `delivery`, or its state in upper case."""

    def __init__(self, delivery: Delivery, *, retryable: bool) -> None:
        code = delivery.code or delivery.state.upper()
        why = f": {delivery.message}" if delivery.message else ""
        message = f"message {delivery.message_id} is {delivery.state}{why}"
        super().__init__(code, message, retryable=retryable)
        self.delivery = delivery


class CallTimeout(P2PError):
    """No answer arrived in time. Not `retryable` if the node may have got a message: if the program
    sends it again, it may arrive twice."""

    def __init__(self, what: str, seconds: float, *, retryable: bool) -> None:
        super().__init__(ErrorCode.TIMEOUT, f"{what} was not answered within {seconds:g} s", retryable=retryable)


class SidecarError(P2PError):
    """A problem with the node's process. `stderr_tail` holds the last bytes of its stderr, at most
    2,048."""

    def __init__(self, code: str, message: str, *, retryable: bool = False, stderr_tail: str = "") -> None:
        quoted = f"; stderr ends with: {stderr_tail.strip()!r}" if stderr_tail.strip() else ""
        super().__init__(code, message + quoted, retryable=retryable)
        self.stderr_tail = stderr_tail


class BinaryNotFound(SidecarError):
    """The SDK did not find the binary. The message lists the places that it searched."""

    def __init__(self, looked: list[str]) -> None:
        places = ", ".join(looked)
        advice = "install the wheel, set binary=… or P2P_NODE_BIN, or pass search_path=True"
        super().__init__(ErrorCode.BINARY_NOT_FOUND, f"no p2p-node binary in {places}: {advice}")


class SpawnFailed(SidecarError):
    """The system could not start the process, and the binary is not the reason."""


class BinaryUnusable(SidecarError):
    """The system cannot run the binary at `path`.

    `reason` is `missing`, `not_a_file`, `not_executable`, `noexec` (the mount forbids execution),
    `empty`, `truncated`, `wrong_architecture`, `missing_loader` (the binary is built for another C
    library), `missing_interpreter` (the binary is a script) or `not_a_program`."""

    def __init__(self, path: str, reason: str, explanation: str, *, system: str, stderr_tail: str = "") -> None:
        message = f"{path} cannot be run ({reason}): {explanation} ({system})"
        super().__init__(ErrorCode.BINARY_UNUSABLE, message, stderr_tail=stderr_tail)
        self.path = path
        self.reason = reason


class VersionMismatch(SidecarError):
    """This package does not support the version or the protocol of the binary."""


class NotReady(SidecarError):
    """The node was not ready in time."""


class SidecarExited(SidecarError):
    """The node's process ended, and the SDK does not restart it. `exit` says how it ended; `report`
    is the error that the node reported before its end, if any."""

    def __init__(self, exit: Exit, stderr_tail: str, report: ErrorEvent | None = None) -> None:
        super().__init__(ErrorCode.SIDECAR_EXITED, describe_end(exit, report), stderr_tail=stderr_tail)
        self.exit = exit
        self.report = report


class StartFailed(SidecarExited):
    """The node's process ended before it was ready, or rejected the start. `code` and `retryable`
    are those of its `report`, if there is one."""

    def __init__(self, exit: Exit, stderr_tail: str, report: ErrorEvent | None = None) -> None:
        super().__init__(exit, stderr_tail, report)
        if report is not None:
            self.code = report.code
            self.args = (f"{self.code}: {self.message}",)
            self.retryable = report.retryable


class NotJoined(P2PError):
    """No peer connected in time; the node keeps trying. `tried` lists the bootstrap peers. `errors`
    lists the last errors that the node reported, at most eight."""

    def __init__(self, seconds: float, tried: Sequence[str], errors: Sequence[str]) -> None:
        where = f"tried {', '.join(tried)}" if tried else "no bootstrap peers are configured"
        why = "".join(f"; {error}" for error in errors)
        message = f"no peer connected within {seconds:g} s: {where}{why}"
        super().__init__(ErrorCode.NOT_JOINED, message, retryable=True)
        self.tried = list(tried)
        self.errors = list(errors)


class InvalidArgument(P2PError, ValueError):
    """An argument is invalid; the SDK wrote nothing. `argument` is the path of the invalid value,
    such as `data.items[3]`."""

    def __init__(self, argument: str, message: str) -> None:
        super().__init__(ErrorCode.INVALID_ARGUMENT, f"{argument}: {message}")
        self.argument = argument


class Forked(P2PError):
    """This process is a fork of the process that opened the node, so it must not use the node."""

    def __init__(self) -> None:
        advice = "open another node in this process, or start the process with `spawn`"
        super().__init__(ErrorCode.FORKED, f"the node belongs to the parent of this fork: {advice}")


def describe_end(exit: Exit, report: ErrorEvent | None) -> str:
    """Describes how a process ended, and the error that it reported."""
    return f"the node ended with {exit}" + (f": {report.code}: {report.message}" if report is not None else "")


class SidecarRestarted(SidecarError):
    """The node's process ended before it answered. The SDK does not repeat the command. Not
    `retryable` if the node may have got a message: if the program sends it again, it may arrive
    twice."""

    def __init__(self, reason: str, stderr_tail: str = "") -> None:
        super().__init__(ErrorCode.SIDECAR_RESTARTED, reason, retryable=True, stderr_tail=stderr_tail)


class SidecarUnavailable(SidecarError):
    """No process of the node was ready in time. The SDK sent nothing."""

    def __init__(self, seconds: float) -> None:
        message = f"the node is restarting and was not ready within {seconds:g} s: try again later"
        super().__init__(ErrorCode.SIDECAR_UNAVAILABLE, message, retryable=True)


class IdentityChanged(SidecarError):
    """After a restart the node has another address. The SDK closes the node."""


class NodeClosed(SidecarError):
    """The program closed the node."""

    def __init__(self) -> None:
        super().__init__(ErrorCode.CLOSED, "the program closed the node")


class LineTooLong(P2PError):
    """The line of the command exceeds the node's limit of 1 MiB. The SDK did not write it."""

    def __init__(self, length: int, limit: int) -> None:
        message = f"the command has {length} bytes, and the node reads at most {limit}: send less"
        super().__init__(ErrorCode.LINE_TOO_LONG, message)
