"""Distributes mail, broadcasts, events and lifecycle events to the streams of the program."""

from __future__ import annotations

import asyncio
import itertools
import weakref
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Union

from .errors import Exit, P2PError
from .joining import Activity
from .mailbox import Mailbox
from .streams import MessageStream, Room, Stream, Taker, Until, room_of
from .types import Event, Message, Ready


@dataclass(frozen=True)
class Restarting:
    """The process ended, and the SDK restarts it after `delay` seconds.

    `reason` describes the end. `exit` says how the process ended; `None` if no process started or
    the SDK killed it before it was ready. `attempt` counts the restarts, from 1."""

    reason: str
    exit: Exit | None
    delay: float
    attempt: int


@dataclass(frozen=True)
class Restarted:
    """The node is ready again, with the same address, access rules and subscriptions. It missed the
    broadcasts of the last `downtime` seconds. `attempt` counts the restarts, from 1."""

    attempt: int
    downtime: float
    ready: Ready


@dataclass(frozen=True)
class Unhealthy:
    """The process crashed `crashes` times within the window of the `Restart` policy. The SDK still
    restarts it."""

    crashes: int


@dataclass(frozen=True)
class Closed:
    """The last event. `error` is the reason; `None` if the program called `close`."""

    error: P2PError | None


Lifecycle = Union[Restarting, Restarted, Unhealthy, Closed]


class NodeEvents:
    """The streams of one node, and the events that arrived before the first stream.

    Holds no reference to the `Node`, so that the garbage collector can collect a dropped node."""

    def __init__(
        self, mailbox: Mailbox, event_buffer: int, broadcast_buffer: int, acks: bool, on_finish: Callable[[], None]
    ) -> None:
        self.mailbox = mailbox
        self.activity = Activity()
        self._event_buffer = event_buffer
        self._broadcast_buffer = broadcast_buffer
        self._acks = acks
        self._on_finish = on_finish
        self._takers: weakref.WeakSet[Taker] = weakref.WeakSet()
        self._numbers = itertools.count()
        self._streams: weakref.WeakSet[Stream[Any]] = weakref.WeakSet()
        self._over = False
        # Buffers for events before the first stream of each kind; that stream gets their content.
        self._early_events: Stream[Any] | None = self._make_events(None, None)
        self._early_messages: MessageStream | None = self._make_messages(None, None)

    def events(self, buffer: int | None, owner: object) -> Stream[Event | Lifecycle]:
        """Returns a new stream of all events except messages."""
        stream, early, self._early_events = self._make_events(buffer, owner), self._early_events, None
        self._begin(stream, early)
        return stream

    def messages(self, buffer: int | None, owner: object, until: Until | None = None) -> MessageStream:
        """Returns a new stream of mail and broadcasts. The stream ends when `until` returns."""
        stream, early, self._early_messages = self._make_messages(buffer, owner, until), self._early_messages, None
        self._begin(stream, early)
        return stream

    def _make_events(self, buffer: int | None, owner: object) -> Stream[Any]:
        stream: Stream[Any] = Stream(buffer or self._event_buffer, (Room.NEWS, Room.OTHER), owner)
        self._streams.add(stream)
        return stream

    def _make_messages(self, buffer: int | None, owner: object, until: Until | None = None) -> MessageStream:
        stream = MessageStream(buffer or self._broadcast_buffer, self._new_taker, self.mailbox, owner, until)
        self._streams.add(stream)
        return stream

    def _new_taker(self) -> Taker:
        taker = Taker(self.mailbox, self._changed, asyncio.get_running_loop(), acks=self._acks)
        self._takers.add(taker)
        return taker

    def _changed(self) -> None:
        """Handles mail that a loop has finished or given back."""
        self.activity.touch()
        self._on_finish()
        self._wake()

    def _wake(self) -> None:
        for stream in self._message_streams():
            stream.wake()

    def _begin(self, stream: Stream[Any], early: Stream[Any] | None) -> None:
        if early is not None:
            early.move_to(stream)
            self._streams.discard(early)
        if self._over:
            stream.end()

    def tell(self, event: Event | Lifecycle) -> None:
        """Passes an event to the mailbox or to the streams."""
        number, room = next(self._numbers), room_of(event)
        self.activity.tell(event)
        if isinstance(event, Message) and room is Room.MAIL:
            self.mailbox.put(number, event)
            self._wake()
            return
        for other in list(self._streams):
            other.put(number, room, event)

    def finish(self) -> None:
        """Finishes the mail that `anext` returned, because the program left the node's block
        without an exception."""
        for stream in self._message_streams():
            stream.own.finish()

    def acknowledged(self, message_ids: Collection[str]) -> None:
        """Records that the program has acknowledged these messages itself."""
        self.activity.touch()
        for taker in list(self._takers):
            taker.forget(message_ids)

    def end(self) -> None:
        """Ends all streams, including later ones."""
        self._over = True
        for stream in list(self._streams):
            stream.end()

    def _message_streams(self) -> list[MessageStream]:
        return [stream for stream in self._streams if isinstance(stream, MessageStream)]
