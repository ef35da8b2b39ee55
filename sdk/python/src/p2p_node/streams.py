"""Events for whoever iterates: bounded, so that a slow one costs events, which are counted, and never the pipe."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class Stream(Generic[T]):
    """An async iterator over events. When it is full the oldest goes, and `dropped` counts it. Closed, it takes no more.

    Nobody keeps a stream but who iterates, and the stream keeps its `owner`, the node."""

    def __init__(self, buffer: int, wanted: Callable[[object], bool], owner: object = None) -> None:
        self.dropped = 0
        self._buffer = max(1, buffer)
        self._wanted = wanted
        self._owner = owner
        self._events: deque[T] = deque()
        self._news = asyncio.Event()
        self._ended = False

    def put(self, event: T) -> None:
        """Takes an event, if it is one that this stream is about."""
        if self._ended or not self._wanted(event):
            return
        if len(self._events) >= self._buffer:
            self._events.popleft()
            self.dropped += 1
        self._events.append(event)
        self._news.set()

    def move_to(self, other: Stream[T]) -> None:
        """Hands over what is there, and how much was dropped."""
        other.dropped += self.dropped
        for event in self._events:
            other.put(event)
        self.close()

    def end(self) -> None:
        """Nothing comes any more; what is there can still be taken."""
        self._ended = True
        self._news.set()

    def close(self) -> None:
        """Takes no more, and lets go of what is there."""
        self._events.clear()
        self._owner = None
        self.end()

    def __aiter__(self) -> Stream[T]:
        return self

    async def __anext__(self) -> T:
        while not self._events:
            if self._ended:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._events.popleft()

    async def __aenter__(self) -> Stream[T]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
