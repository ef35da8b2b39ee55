"""Events and mail for a program that iterates. No buffer of one kind takes room from another, and none holds up the pipe."""

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
from .types import Log, Message, Overflow, PeerConnected, PeerDiscovered, PeerDisconnected

T = TypeVar("T")
S = TypeVar("S", bound="Stream")  # type: ignore[type-arg]
#: Waits for the end of a stream of messages, while nothing is there to take.
Until = Callable[[], Coroutine[Any, Any, None]]


class Room(enum.Enum):
    """Kinds of events, each with a buffer of its own."""

    MAIL = enum.auto()
    BROADCAST = enum.auto()
    #: What the node tells about peers and about itself, in any amount.
    NEWS = enum.auto()
    #: What becomes of the process, of mail and of commands.
    OTHER = enum.auto()


def room_of(event: object) -> Room:
    """The kind of an event."""
    if isinstance(event, Message):
        return Room.MAIL if event.topic is None else Room.BROADCAST
    news = isinstance(event, (PeerDiscovered, PeerConnected, PeerDisconnected, Log, Overflow))
    return Room.NEWS if news else Room.OTHER


class Stream(Generic[T]):
    """An async iterator over events. When a buffer is full, its oldest event goes, and `dropped` counts it.

    Only the program keeps a stream, and the stream keeps its `owner`, the node."""

    def __init__(self, buffer: int, rooms: Collection[Room], owner: object = None) -> None:
        #: Events that were dropped because the program did not take them. Mail is never among them.
        self.dropped = 0
        self._buffer = max(1, buffer)
        self._owner = owner
        # Each with its number, so that they come out in the order in which they came.
        self._queues: dict[Room, deque[tuple[int, T]]] = {room: deque() for room in rooms}
        self._news = asyncio.Event()
        self._ended = False
        self._pid = os.getpid()

    def put(self, number: int, room: Room, event: T) -> None:
        """Takes an event, if it is one that this stream is about."""
        queue = self._queues.get(room)
        if queue is None or self._ended:
            return
        if len(queue) >= self._buffer:
            queue.popleft()
            self.dropped += 1
        queue.append((number, event))
        self.wake()

    def wake(self) -> None:
        """Has the program look again."""
        self._news.set()

    def move_to(self, other: Stream[T]) -> None:
        """Hands over what is there, and how much was dropped."""
        other.dropped += self.dropped
        for room, queue in self._queues.items():
            while queue:
                number, event = queue.popleft()
                other.put(number, room, event)
        self.end()

    def end(self) -> None:
        """Nothing comes any more; what is there can still be taken."""
        self._ended = True
        self.wake()

    def close(self) -> None:
        """Takes no more, and lets go of what is there."""
        for queue in self._queues.values():
            queue.clear()
        self._owner = None
        self.end()

    def _first(self) -> deque[tuple[int, T]] | None:
        """The queue with the event that came first."""
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
        """Returns when there may be something to take, or when this is the end."""
        await self._news.wait()

    def __iter__(self) -> NoReturn:
        raise InvalidArgument("stream", "write `async for … in` this stream, or `await anext(stream)`")

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
    """What one loop over mail has taken and not finished. A loop that is left in the middle, by `break` or by an exception, drops its taker,
    and the mail goes back to be taken again."""

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
        """The oldest mail of the box. A program that acknowledges mail itself has it for good."""
        taken = self._mailbox.take()
        self._mail = taken if self._acks else None
        return None if taken is None else taken.message

    def finish(self) -> None:
        """The program is done with the mail that it has."""
        if self._mail is not None:
            self._mailbox.finish(self._mail)
            self._mail = None
            self._on_change()

    def forget(self, message_ids: Collection[str]) -> None:
        """The program has acknowledged these itself."""
        if self._mail is not None and self._mail.message.message_id in message_ids:
            self._mail = None

    def give_back(self) -> None:
        """The program has not finished the mail that it has."""
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
            # The garbage collector runs in any thread.
            self._loop.call_soon_threadsafe(self.give_back)
        except RuntimeError:
            pass  # the loop is closed, and the node has ended


class MessageStream(Stream[Message]):
    """An async iterator over mail and broadcasts. Of all the loops over the streams of a node, each mail goes to exactly one; each
    broadcast goes to every stream.

    The SDK acknowledges a mail when the loop that took it asks for the next message. A mail whose loop was left in the middle, by `break`,
    `return` or an exception, is not acknowledged, and the next loop begins with it. What was taken by `anext` is acknowledged by the next
    `anext`, by `close`, and when the `async with` block of the stream or of the node ends without an exception."""

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
        #: What `anext` has taken.
        self.own = new_taker()

    def close(self) -> None:
        """Acknowledges the mail that `anext` took last, and takes no more."""
        self.own.finish()
        super().close()

    async def next_for(self, taker: Taker) -> Message:
        """The next message, for a loop that is done with the one before."""
        self._check_process()
        taker.finish()
        return await self._next(lambda: self._take_for(taker))

    async def _wait(self) -> None:
        if self._until is None:
            return await super()._wait()
        # Neither of these takes anything, so nothing is lost where they are cancelled.
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
    """One `async for` over a stream of messages. Several tasks may each have one over the same stream."""

    def __init__(self, stream: MessageStream, taker: Taker) -> None:
        self._stream = stream
        self._taker = taker

    def __aiter__(self) -> MessageLoop:
        return self

    async def __anext__(self) -> Message:
        return await self._stream.next_for(self._taker)
