"""Events for whoever iterates: bounded, so that a slow one costs events, which are counted, and never the pipe."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")

#: As much mail as a node leaves without an `ack`. What is older its sender has given up, or is an earlier process's and comes again.
MAX_MAIL = 16_384


class Stream(Generic[T]):
    """An async iterator over events. When it is full the oldest goes, and `dropped` counts it; mail that waits for an `ack` (`is_owed`) has
    a room of its own, for the node does not tell it again. Closed, it takes no more.

    Nobody keeps a stream but who iterates, and the stream keeps its `owner`, the node."""

    def __init__(
        self, buffer: int, wanted: Callable[[object], bool], is_owed: Callable[[object], bool], owner: object = None
    ) -> None:
        self.dropped = 0
        self._buffer = max(1, buffer)
        self._wanted = wanted
        self._is_owed = is_owed
        self._owner = owner
        # Each with its number, so that they come out in the order in which they came.
        self._numbers = itertools.count()
        self._events: deque[tuple[int, T]] = deque()
        self._mail: deque[tuple[int, T]] = deque()
        self._news = asyncio.Event()
        self._ended = False

    def put(self, event: T) -> None:
        """Takes an event, if it is one that this stream is about."""
        if self._ended or not self._wanted(event):
            return
        is_owed = self._is_owed(event)
        queue, limit = (self._mail, MAX_MAIL) if is_owed else (self._events, self._buffer)
        # What has had its `ack` since, from another stream, is an event like others.
        while is_owed and len(queue) >= self._buffer and not self._is_owed(queue[0][1]):
            self._drop(queue)
        if len(queue) >= limit:
            self._drop(queue)
        queue.append((next(self._numbers), event))
        self._news.set()

    def _drop(self, queue: deque[tuple[int, T]]) -> None:
        queue.popleft()
        self.dropped += 1

    def _first(self) -> deque[tuple[int, T]]:
        """The queue with the event that came first; an empty one when there is none."""
        return min(self._mail, self._events, key=lambda queue: queue[0][0] if queue else math.inf)

    def move_to(self, other: Stream[T]) -> None:
        """Hands over what is there, and how much was dropped."""
        other.dropped += self.dropped
        while queue := self._first():
            other.put(queue.popleft()[1])
        self.close()

    def end(self) -> None:
        """Nothing comes any more; what is there can still be taken."""
        self._ended = True
        self._news.set()

    def close(self) -> None:
        """Takes no more, and lets go of what is there."""
        self._events.clear()
        self._mail.clear()
        self._owner = None
        self.end()

    def __aiter__(self) -> Stream[T]:
        return self

    async def __anext__(self) -> T:
        while not (queue := self._first()):
            if self._ended:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return queue.popleft()[1]

    async def __aenter__(self) -> Stream[T]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
