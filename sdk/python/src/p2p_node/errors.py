"""Errors of the SDK."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .types import Delivery, ErrorCode, ErrorEvent


@dataclass(frozen=True)
class Exit:
    """How a process ended: by itself with a code, or by a signal."""

    code: int | None = None
    signal: int | None = None

    def __str__(self) -> str:
        return f"signal {self.signal}" if self.code is None else f"exit code {self.code}"


class P2PError(Exception):
    """Every error of this package. `code` is stable, one of `ErrorCode`; `retryable`: the same call may
    succeed later, and does nothing twice."""

    def __init__(self, code: str, message: str, *, retryable: bool = False) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.retryable = retryable

    def __repr__(self) -> str:
        return f"{type(self).__name__}(code={self.code!r}, message={self.message!r}, retryable={self.retryable!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        # The arguments of the subclasses differ, so the default could neither copy nor pickle them.
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(kind: type[P2PError], args: tuple[Any, ...], state: dict[str, Any]) -> P2PError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class CommandRefused(P2PError):
    """The node refused the command, or failed at it; `code` is one of the contract."""

    def __init__(self, code: str, message: str, *, retryable: bool, details: Any = None) -> None:
        super().__init__(code, message, retryable=retryable)
        self.details = details


class Undelivered(P2PError):
    """The mail was accepted and did not arrive, or nobody knows whether it did. `code` is the delivery's own."""

    def __init__(self, delivery: Delivery, *, retryable: bool) -> None:
        code = delivery.code or delivery.state.upper()
        why = f": {delivery.message}" if delivery.message else ""
        super().__init__(code, f"the mail {delivery.message_id} is {delivery.state}{why}", retryable=retryable)
        self.delivery = delivery


class CallTimeout(P2PError):
    """No answer came in time. Not `retryable` when a message may be on its way: sent again, it could arrive twice."""

    def __init__(self, what: str, seconds: float, *, retryable: bool) -> None:
        super().__init__(ErrorCode.TIMEOUT, f"{what} was not answered within {seconds:g} s", retryable=retryable)


class SidecarError(P2PError):
    """Something about the node's process. `stderr_tail` is the end of what it wrote to stderr."""

    def __init__(self, code: str, message: str, *, retryable: bool = False, stderr_tail: str = "") -> None:
        quoted = f"; its last words: {stderr_tail.strip()!r}" if stderr_tail.strip() else ""
        super().__init__(code, message + quoted, retryable=retryable)
        self.stderr_tail = stderr_tail


class BinaryNotFound(SidecarError):
    """There is no binary where it was looked for."""

    def __init__(self, looked: list[str]) -> None:
        places = ", ".join(looked)
        advice = "install the package from its wheel, name a binary (binary=…, P2P_NODE_BIN), or ask for a search of PATH (search_path=True)"
        super().__init__(ErrorCode.BINARY_NOT_FOUND, f"there is no p2p-node in {places}: {advice}")


class SpawnFailed(SidecarError):
    """The process could not be started."""


class BinaryUnusable(SidecarError):
    """The system cannot run the binary at `path`. `reason`: `missing`, `not_a_file`, `not_executable`, `noexec`, `empty`, `truncated`,
    `wrong_architecture`, `missing_loader` (it is built for another C library), `missing_interpreter` (of a script) or `not_a_program`."""

    def __init__(self, path: str, reason: str, explanation: str, *, system: str, stderr_tail: str = "") -> None:
        message = f"{path} cannot be run ({reason}): {explanation} ({system})"
        super().__init__(ErrorCode.BINARY_UNUSABLE, message, stderr_tail=stderr_tail)
        self.path = path
        self.reason = reason


class VersionMismatch(SidecarError):
    """The binary speaks another version than this package."""


class NotReady(SidecarError):
    """The node did not say `ready` in time."""


class SidecarExited(SidecarError):
    """The node's process ended and is not started again. `report`: the error that the node told before its end."""

    def __init__(self, exit: Exit, stderr_tail: str, report: ErrorEvent | None = None) -> None:
        super().__init__(ErrorCode.SIDECAR_EXITED, describe_end(exit, report), stderr_tail=stderr_tail)
        self.exit = exit
        self.report = report


class StartFailed(SidecarExited):
    """The node's process ended before it was ready, or refused to be. `code` is that of its `report`, if there is one."""

    def __init__(self, exit: Exit, stderr_tail: str, report: ErrorEvent | None = None) -> None:
        super().__init__(exit, stderr_tail, report)
        if report is not None:
            self.code = report.code
            self.args = (f"{self.code}: {self.message}",)
            self.retryable = report.retryable


class NotJoined(P2PError):
    """No peer was connected in time. `tried`: the bootstrap peers; `errors`: what the node told about its attempts."""

    def __init__(self, seconds: float, tried: Sequence[str], errors: Sequence[str]) -> None:
        where = f"tried {', '.join(tried)}" if tried else "no bootstrap peer was given, so the node waits for others to connect to it"
        why = "".join(f"; {error}" for error in errors)
        super().__init__(ErrorCode.NOT_JOINED, f"no peer was connected within {seconds:g} s: {where}{why}", retryable=True)
        self.tried = list(tried)
        self.errors = list(errors)


class InvalidArgument(P2PError, ValueError):
    """An argument is not what the call takes. `argument` names it, down to the part that is wrong."""

    def __init__(self, argument: str, message: str) -> None:
        super().__init__(ErrorCode.INVALID_ARGUMENT, f"{argument}: {message}")
        self.argument = argument


class Forked(P2PError):
    """The node belongs to the process that opened it, and this one is a fork of that."""

    def __init__(self) -> None:
        advice = "open a node of its own here, or start the process with `spawn`"
        super().__init__(ErrorCode.FORKED, f"the node belongs to the process that this one was forked from: {advice}")


def describe_end(exit: Exit, report: ErrorEvent | None) -> str:
    """Describes how a process ended, and the reason that it reported."""
    return f"the node ended with {exit}" + (f": {report.code}: {report.message}" if report is not None else "")


class SidecarRestarted(SidecarError):
    """The node's process ended before it had answered. The SDK sends nothing again. Not `retryable` when a message may be on its way:
    sent again, it could arrive twice."""

    def __init__(self, reason: str, stderr_tail: str = "") -> None:
        super().__init__(ErrorCode.SIDECAR_RESTARTED, reason, retryable=True, stderr_tail=stderr_tail)


class SidecarUnavailable(SidecarError):
    """The node was not there, and did not come back in time. Nothing was sent."""

    def __init__(self, seconds: float) -> None:
        super().__init__(ErrorCode.SIDECAR_UNAVAILABLE, f"the node was not back within {seconds:g} s", retryable=True)


class IdentityChanged(SidecarError):
    """After a restart the node had another address."""


class NodeClosed(SidecarError):
    """The program closed the node."""

    def __init__(self) -> None:
        super().__init__(ErrorCode.CLOSED, "the node was closed")


class LineTooLong(P2PError):
    """The command's line would be longer than the node reads."""

    def __init__(self, length: int, limit: int) -> None:
        super().__init__(ErrorCode.LINE_TOO_LONG, f"the command has {length} bytes, and the node reads at most {limit}")
