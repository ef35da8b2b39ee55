"""Selects the next command to write. A `send` waits for credit; other commands never wait for
`send`s. No I/O."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Generic, Hashable, TypeVar

from .types import MAX_INFLIGHT, MAX_INFLIGHT_BYTES, RESERVED_COMMANDS, Limits

C = TypeVar("C", bound=Hashable)


@dataclass(eq=False)
class Send:
    """The credit that a `send` uses until its answer."""

    #: The recipient or topic. `send`s to the same one keep their order.
    to: str
    #: The size of the line in bytes, a little more than the size of `data`.
    size: int


@dataclass
class _Lane(Generic[C]):
    """The `send`s to one recipient or topic."""

    waiting: OrderedDict[C, Send] = field(default_factory=OrderedDict)
    unanswered: int = 0
    bytes: int = 0


class CommandQueue(Generic[C]):
    """The commands that wait to be written, and the credit that unanswered `send`s use.

    The node never pauses its stdin while the SDK respects this credit. The queue serves recipients
    in turn. One recipient gets at most half of the credit, so that it cannot block the others."""

    def __init__(self) -> None:
        self._max_commands = MAX_INFLIGHT
        self._max_bytes = MAX_INFLIGHT_BYTES
        self._commands: OrderedDict[C, None] = OrderedDict()
        self._lanes: dict[str, _Lane[C]] = {}
        # Recipients with a waiting `send`; the queue serves the first one next.
        self._turns: deque[str] = deque()
        self._unanswered = 0
        self._bytes = 0

    def set_limits(self, limits: Limits) -> None:
        """Sets the credit from the `ready` event of a node."""
        self._max_commands = limits.max_inflight
        self._max_bytes = limits.max_inflight_bytes

    def put(self, command: C, send: Send | None) -> None:
        """Adds a command. `send` is `None` for a command other than `send`."""
        if send is None:
            self._commands[command] = None
            return
        lane = self._lanes.setdefault(send.to, _Lane())
        if not lane.waiting:
            self._turns.append(send.to)
        lane.waiting[command] = send

    def remove(self, command: C, send: Send | None) -> None:
        """Removes a waiting command whose caller no longer waits."""
        if send is None:
            self._commands.pop(command, None)
            return
        lane = self._lanes.get(send.to)
        if lane is not None and lane.waiting.pop(command, None) is not None and not lane.waiting:
            self._turns.remove(send.to)
            self._drop_if_idle(send.to, lane)

    def pop(self, outstanding: int) -> C | None:
        """Removes and returns the next command, or `None` if no command may be written now.

        `outstanding` counts the unanswered commands. A `send` uses credit until `answered`."""
        if outstanding >= self._max_commands:
            return None
        if self._commands:
            return self._commands.popitem(last=False)[0]
        for _ in range(len(self._turns)):
            to = self._turns[0]
            lane = self._lanes[to]
            send = next(iter(lane.waiting.values()))
            if not self._is_within_share(lane, send):
                self._turns.rotate(-1)
                continue
            if not self._has_credit(send):
                # The recipient keeps its turn, so that a large message gets enough credit.
                return None
            self._turns.popleft()
            return self._start(lane, send)
        return None

    def answered(self, send: Send) -> None:
        """Releases the credit of a `send` that was answered or has failed."""
        self._unanswered -= 1
        self._bytes -= send.size
        lane = self._lanes[send.to]
        lane.unanswered -= 1
        lane.bytes -= send.size
        self._drop_if_idle(send.to, lane)

    def drain(self) -> list[C]:
        """Removes and returns all waiting commands."""
        waiting = [*self._commands, *(command for lane in self._lanes.values() for command in lane.waiting)]
        self._commands.clear()
        self._turns.clear()
        for to, lane in list(self._lanes.items()):
            lane.waiting.clear()
            self._drop_if_idle(to, lane)
        return waiting

    def __len__(self) -> int:
        return len(self._commands) + sum(len(lane.waiting) for lane in self._lanes.values())

    def _has_credit(self, send: Send) -> bool:
        fits = self._unanswered < self._max_commands - RESERVED_COMMANDS and self._bytes + send.size <= self._max_bytes
        return fits or self._unanswered == 0

    def _is_within_share(self, lane: _Lane[C], send: Send) -> bool:
        count, size = (self._max_commands - RESERVED_COMMANDS) // 2, self._max_bytes // 2
        return (lane.unanswered < count and lane.bytes + send.size <= size) or lane.unanswered == 0

    def _start(self, lane: _Lane[C], send: Send) -> C:
        command, _ = lane.waiting.popitem(last=False)
        if lane.waiting:
            self._turns.append(send.to)
        lane.unanswered += 1
        lane.bytes += send.size
        self._unanswered += 1
        self._bytes += send.size
        return command

    def _drop_if_idle(self, to: str, lane: _Lane[C]) -> None:
        if not lane.waiting and lane.unanswered == 0:
            del self._lanes[to]
