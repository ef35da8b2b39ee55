"""Async iterators over events and mail. Each kind of event has its own buffer, and no buffer pauses
the reading of the pipe."""

from __future__ import annotations

import asyncio
import enum
import os
import threading
from collections import deque
from collections.abc import Callable, Collection, Coroutine
from types import TracebackType
from typing import Any, Generic, NoReturn, TypeVar

from .errors import Forked, InvalidArgument
from .mailbox import Mailbox, Taken
from .types import (
    Log,
    Message,
    Overflow,
    PeerBanned,
    PeerConnected,
    PeerDisconnected,
    PeerDiscovered,
    PeerUnbanned,
    Transfer,
)

T = TypeVar("T")
S = TypeVar("S", bound="Stream")  # type: ignore[type-arg]
#: Returns when the stream should end. The stream awaits it while it has no message.
Until = Callable[[], Coroutine[Any, Any, None]]


class Room(enum.Enum):
    """The kinds of events. Each has its own buffer."""

    MAIL = enum.auto()
    BROADCAST = enum.auto()
    #: Peer events, logs and `Overflow`: of unlimited number.
    NEWS = enum.auto()
    #: Events about the process, mail and commands.
    OTHER = enum.auto()


def room_of(event: object) -> Room:
    """Returns the kind of an event."""
    if isinstance(event, Message):
        return Room.MAIL if event.topic is None else Room.BROADCAST
    peer = isinstance(event, (PeerDiscovered, PeerConnected, PeerDisconnected, PeerBanned, PeerUnbanned, Transfer))
    news = peer or isinstance(event, (Log, Overflow))
    return Room.NEWS if news else Room.OTHER


class Stream(Generic[T]):
    """An async iterator over events. A full buffer drops its oldest event, and `dropped` counts it.

    Only the program references a stream. The stream references its `owner`, the node."""

    def __init__(self, buffer: int, rooms: Collection[Room], owner: object = None) -> None:
        #: Number of events that the stream dropped because the program did not read them. The
        #: stream never drops mail.
        self.dropped = 0
        self._buffer = max(1, buffer)
        self._owner = owner
        # Each event with its position, so that the stream yields events in the order of arrival.
        self._queues: dict[Room, deque[tuple[int, T]]] = {room: deque() for room in rooms}
        self._news = asyncio.Event()
        self._ended = False
        self._pid = os.getpid()

    def put(self, number: int, room: Room, event: T) -> None:
        """Adds an event if the stream yields events of its kind."""
        queue = self._queues.get(room)
        if queue is None or self._ended:
            return
        if len(queue) >= self._buffer:
            queue.popleft()
            self.dropped += 1
        queue.append((number, event))
        self.wake()

    def wake(self) -> None:
        """Wakes the tasks that wait for an event, so that they check again."""
        self._news.set()

    def move_to(self, other: Stream[T]) -> None:
        """Moves the buffered events and the drop count to another stream, and ends this one."""
        other.dropped += self.dropped
        for room, queue in self._queues.items():
            while queue:
                number, event = queue.popleft()
                other.put(number, room, event)
        self.end()

    def end(self) -> None:
        """Ends the stream: it yields the buffered events and no later ones."""
        self._ended = True
        self.wake()

    def close(self) -> None:
        """Ends the stream and discards the buffered events."""
        for queue in self._queues.values():
            queue.clear()
        self._owner = None
        self.end()

    def _first(self) -> deque[tuple[int, T]] | None:
        """Returns the queue with the oldest event."""
        return min((queue for queue in self._queues.values() if queue), key=lambda queue: queue[0][0], default=None)

    def _take(self) -> T | None:
        queue = self._first()
        return None if queue is None else queue.popleft()[1]

    async def _next(self, take: Callable[[], T | None]) -> T:
        self._check_process()
        while (event := take()) is None:
            if self._ended:
                raise StopAsyncIteration
            self._news.clear()
            await self._wait()
        return event

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise Forked()

    async def _wait(self) -> None:
        """Waits until the stream may have an event, or has ended."""
        await self._news.wait()

    def __iter__(self) -> NoReturn:
        raise InvalidArgument("stream", "the stream is async: write `async for … in` the stream, or `await anext(stream)`")

    def __aiter__(self: S) -> S:
        return self

    async def __anext__(self) -> T:
        return await self._next(self._take)

    async def __aenter__(self: S) -> S:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Taker:
    """Holds the message that one loop has received and not finished.

    A loop that `break` or an exception leaves in the middle drops its taker. The taker then gives
    the message back to the mailbox, so that another loop receives it."""

    def __init__(
        self, mailbox: Mailbox, on_change: Callable[[], None], loop: asyncio.AbstractEventLoop, *, acks: bool
    ) -> None:
        self._mail: Taken | None = None
        self._mailbox = mailbox
        self._acks = acks
        self._on_change = on_change
        self._loop = loop
        self._thread = threading.get_ident()
        self._pid = os.getpid()

    def take(self) -> Message | None:
        """Removes and returns the oldest message of the mailbox. With `ack="manual"` the taker does
        not hold the message, so that no loop gives it back."""
        taken = self._mailbox.take()
        self._mail = taken if self._acks else None
        return None if taken is None else taken.message

    def finish(self) -> None:
        """Records that the program has finished the held message."""
        if self._mail is not None:
            self._mailbox.finish(self._mail)
            self._mail = None
            self._on_change()

    def forget(self, message_ids: Collection[str]) -> None:
        """Drops the held message if the program has acknowledged it itself."""
        if self._mail is not None and self._mail.message.message_id in message_ids:
            self._mail = None

    def give_back(self) -> None:
        """Gives the held message back to the mailbox, because the program did not finish it."""
        if self._mail is not None:
            self._mailbox.put_back(self._mail)
            self._mail = None
            self._on_change()

    def __del__(self) -> None:
        if self._mail is None or os.getpid() != self._pid:
            return
        if threading.get_ident() == self._thread and not self._loop.is_closed():
            self.give_back()
            return
        try:
            # The garbage collector may run in any thread.
            self._loop.call_soon_threadsafe(self.give_back)
        except RuntimeError:
            pass  # the loop is closed, so the node has ended


class MessageStream(Stream[Message]):
    """An async iterator over mail and broadcasts. Each mail message goes to exactly one loop of all
    streams of a node; each broadcast goes to every stream.

    With `ack="auto"` the SDK acknowledges a message when its loop asks for the next one. If
    `break`, `return` or an exception leaves the loop in the middle, the SDK does not acknowledge
    the message, and the next loop begins with it. The SDK acknowledges a message from `anext` at
    the next `anext`, at `close`, and when the `async with` block of the stream or of the node ends
    without an exception."""

    def __init__(
        self,
        buffer: int,
        new_taker: Callable[[], Taker],
        mailbox: Mailbox,
        owner: object = None,
        until: Until | None = None,
    ) -> None:
        super().__init__(buffer, (Room.BROADCAST,), owner)
        self._until = until
        self._new_taker = new_taker
        self._mailbox = mailbox
        #: Holds the message that `anext` returned.
        self.own = new_taker()

    def close(self) -> None:
        """Acknowledges the message that `anext` returned last, and ends the stream."""
        self.own.finish()
        super().close()

    async def next_for(self, taker: Taker) -> Message:
        """Finishes the message of a loop and returns the next one."""
        self._check_process()
        taker.finish()
        return await self._next(lambda: self._take_for(taker))

    async def _wait(self) -> None:
        if self._until is None:
            return await super()._wait()
        # Neither task removes a message, so a cancellation loses nothing.
        news, end = asyncio.ensure_future(self._news.wait()), asyncio.ensure_future(self._until())
        end.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            await asyncio.wait({news, end}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            news.cancel()
            end.cancel()
        if end.done() and not self._news.is_set():
            end.result()
            self.end()

    def _take_for(self, taker: Taker) -> Message | None:
        mail, queue = (None if self._ended else self._mailbox.first), self._first()
        if mail is None or (queue is not None and queue[0][0] < mail):
            return None if queue is None else queue.popleft()[1]
        return taker.take()

    def __aiter__(self) -> MessageLoop:  # type: ignore[override]
        return MessageLoop(self, self._new_taker())

    async def __anext__(self) -> Message:
        return await self.next_for(self.own)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.own.give_back()
        self.close()


class MessageLoop:
    """One `async for` over a message stream. Several tasks may loop over the same stream."""

    def __init__(self, stream: MessageStream, taker: Taker) -> None:
        self._stream = stream
        self._taker = taker

    def __aiter__(self) -> MessageLoop:
        return self

    async def __anext__(self) -> Message:
        return await self._stream.next_for(self._taker)
