"""Matches answers to requests. No I/O: the owner of the channel moves lines and events."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field
from typing import Any

from .errors import CommandRefused, LineTooLong, P2PError
from .types import (
    MAX_FOUND_AGENTS,
    MAX_LINE_BYTES,
    MAX_TRACKED_MESSAGES,
    Answer,
    Delivery,
    ErrorEvent,
    Event,
    PeerDiscovered,
    Response,
)


@dataclass
class Reply:
    """A `result`, and the agents that `discover` found under its id."""

    answer: Answer
    found: list[PeerDiscovered] = field(default_factory=list)


class FoundAgents(list[PeerDiscovered]):
    """The agents that `discover` found. `complete` is `True` if these are all matching agents, as far
    as the network knows, and `False` if some may be missing."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.found)
        self.complete = reply.answer.complete is True and reply.answer.count in (None, len(reply.found))


#: The channel calls a waiter once, with a value or with an error.
Waiter = Callable[[Reply | None, P2PError | None], None]
DeliveryWaiter = Callable[[Delivery | None, P2PError | None], None]


#: Gets each answer to a request, before its waiter gets the end.
OnResponse = Callable[[Response], None]


@dataclass
class _Pending:
    waiter: Waiter
    on_response: OnResponse | None = None
    found: list[PeerDiscovered] = field(default_factory=list)


class Channel:
    """Matches the commands to one process with its answers and deliveries."""

    def __init__(self) -> None:
        self._last_id = 0
        self._pending: dict[int, _Pending] = {}
        self._requests = 0
        self._tracked: dict[str, DeliveryWaiter] = {}
        self.closed: P2PError | None = None

    @property
    def outstanding(self) -> int:
        """Returns the number of commands without an answer. Requests to agents do not count, because the
        node limits them by themselves."""
        return len(self._pending) - self._requests

    def request(self, command: bytes, waiter: Waiter, on_response: OnResponse | None = None) -> tuple[int, bytes]:
        """Assigns an id to a command that `encode` has made. Returns the id and the line; the
        answer goes to `waiter`.

        Raises `LineTooLong`, or the error that closed the channel."""
        if self.closed is not None:
            raise copy(self.closed)
        number = self._last_id + 1
        line = b'%s%s"id":%d}\n' % (command[:-1], b"," if len(command) > 2 else b"", number)
        if len(line) - 1 > MAX_LINE_BYTES:
            raise LineTooLong(len(line) - 1, MAX_LINE_BYTES)
        self._last_id = number
        self._pending[number] = _Pending(waiter, on_response)
        self._requests += on_response is not None
        return number, line

    def track(self, message_id: str, waiter: DeliveryWaiter) -> bool:
        """Sends the delivery of a message to `waiter`. Returns `False` if the channel tracks
        `MAX_TRACKED_MESSAGES` messages already; the delivery then arrives as an event."""
        if len(self._tracked) >= MAX_TRACKED_MESSAGES:
            return False
        self._tracked[message_id] = waiter
        return True

    def receive(self, event: Event) -> Event | None:
        """Passes an event to its waiter. Returns the event if it has no waiter."""
        if isinstance(event, Answer):
            pending = self._end(event.id)
            if pending is None:
                return event
            pending.waiter(Reply(event, pending.found), None)
        elif isinstance(event, ErrorEvent):
            pending = self._end(event.id)
            if pending is None:
                return event
            error = CommandRefused(event.code, event.message, retryable=event.retryable, details=event.details)
            pending.waiter(None, error)
        elif isinstance(event, PeerDiscovered):
            pending = self._pending.get(event.request_id) if isinstance(event.request_id, int) else None
            if pending is None or len(pending.found) >= MAX_FOUND_AGENTS:
                return event
            pending.found.append(event)
        elif isinstance(event, Response):
            pending = self._pending.get(event.request_id) if isinstance(event.request_id, int) else None
            if pending is None or pending.on_response is None:
                return event
            pending.on_response(event)
        elif isinstance(event, Delivery):
            waiter = self._tracked.pop(event.message_id, None)
            if waiter is None:
                return event
            waiter(event, None)
        else:
            return event
        return None

    def fail_all(self, error: P2PError) -> None:
        """Closes the channel: all waiters and all later requests get `error`. Later calls of
        `fail_all` do not change the error for later requests."""
        if self.closed is None:
            self.closed = error
        pending, self._pending = self._pending, {}
        self._requests = 0
        tracked, self._tracked = self._tracked, {}
        for request in pending.values():
            request.waiter(None, copy(error))
        for waiter in tracked.values():
            waiter(None, copy(error))

    def _end(self, id: Any) -> _Pending | None:
        pending = self._pending.pop(id, None) if isinstance(id, int) else None
        self._requests -= pending is not None and pending.on_response is not None
        return pending
