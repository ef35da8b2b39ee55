"""Mail between the node and the program: what waits, what the program has finished, what the node has confirmed. No I/O."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter

from .errors import CommandRefused, P2PError
from .types import MAX_ACK_MESSAGES, MAX_UNACKED, ErrorCode, Message

#: Messages that are remembered as finished although no `ack` of them was confirmed: as many as a node leaves without one.
MAX_FINISHED = MAX_UNACKED


@dataclass(frozen=True)
class Taken:
    """Mail that a loop of the program has."""

    #: Its place among all events.
    number: int
    message: Message
    #: The process that handed it over.
    process: int


class Mailbox:
    """The mail of one node, which any number of streams take from. Each message goes to exactly one of them.

    A node leaves at most `capacity` messages without an `ack`, so more than that are here only when senders have given some of
    them up. The box holds twice the capacity; beyond that it forgets the oldest message, unacknowledged, and counts it."""

    def __init__(self, capacity: int) -> None:
        #: Messages that the box forgot because nobody took them, and that their senders had probably given up.
        self.dropped = 0
        #: Messages that the program finished after their senders had given them up.
        self.acks_not_found = 0
        #: The process that speaks now, counted from 0.
        self.process = 0
        self._limit = 2 * max(1, capacity)
        self._closed = False
        # Each with its number, by which it finds its place among the events of other kinds.
        self._waiting: OrderedDict[str, tuple[int, Message]] = OrderedDict()
        # What came back unfinished, oldest first. All of it came before what waits.
        self._returned: list[tuple[int, Message]] = []
        self._to_ack: dict[str, None] = {}
        # The ids of the one `ack` that has no answer yet.
        self._unconfirmed: list[str] = []
        self._finished: OrderedDict[str, None] = OrderedDict()

    def put(self, number: int, message: Message) -> None:
        """Takes a message that the node hands over."""
        name = message.message_id
        if name in self._finished:
            # An earlier process handed it over, the program finished it, and the sender does not know yet.
            del self._finished[name]
            self._to_ack[name] = None
            return
        if name in self._waiting:
            return
        if self._waiting and len(self._waiting) + len(self._returned) >= self._limit:
            self._waiting.popitem(last=False)
            self.dropped += 1
        self._waiting[name] = (number, message)

    @property
    def is_empty(self) -> bool:
        """Returns `True` if no message waits for the program."""
        return not (self._returned or self._waiting)

    @property
    def first(self) -> int | None:
        """The number of the message that `take` would return."""
        if self._closed or not (self._returned or self._waiting):
            return None
        return (self._returned[0] if self._returned else next(iter(self._waiting.values())))[0]

    def take(self) -> Taken | None:
        """The oldest message, for a program that asks for one."""
        if self.first is None:
            return None
        number, message = heapq.heappop(self._returned) if self._returned else self._waiting.popitem(last=False)[1]
        return Taken(number, message, self.process)

    def put_back(self, taken: Taken) -> None:
        """The program did not finish a message. That of an earlier process comes again, because its sender still has it."""
        if taken.process == self.process:
            heapq.heappush(self._returned, (taken.number, taken.message))

    def finish(self, taken: Taken) -> None:
        """The program is done with a message, so the node may be told."""
        name = taken.message.message_id
        if taken.process == self.process or self._waiting.pop(name, None) is not None:
            self._to_ack[name] = None
        else:
            self._remember(name)

    # --- Acks ---

    @property
    def has_acks(self) -> bool:
        """Whether `next_batch` has something to acknowledge."""
        return bool(self._to_ack) and not self._unconfirmed

    def next_batch(self) -> list[str]:
        """What the next `ack` names. Until it is `confirmed` or `refused`, everything else waits for the one after it."""
        if not self._unconfirmed:
            self._unconfirmed = self._pop_batch()
        return self._unconfirmed

    def last_batches(self) -> list[list[str]]:
        """All that is still to be acknowledged, for a node that is about to end."""
        batches = []
        while self._to_ack:
            batches.append(self._pop_batch())
        return batches

    def confirmed(self) -> None:
        """The node has answered the last batch."""
        self._unconfirmed = []

    def refused(self, error: P2PError) -> bool:
        """The node has refused the last batch, or a part of it. Returns whether to try the same again later."""
        names, self._unconfirmed = self._unconfirmed, []
        if error.code == ErrorCode.MESSAGE_NOT_FOUND:
            details = error.details if isinstance(error, CommandRefused) else None
            unknown = details.get("messageIds") if isinstance(details, dict) else None
            self.acks_not_found += len(unknown) if isinstance(unknown, list) else len(names)
            return False
        # With DISK_FULL the `ack` counts, and the node itself goes on trying to write it.
        if error.code == ErrorCode.DISK_FULL or not error.retryable:
            return False
        self._to_ack = dict.fromkeys([*names, *self._to_ack])
        return True

    # --- Ends ---

    def process_ended(self) -> None:
        """Another process takes over. What the program has not taken comes again, because the senders still have it; what it finished
        comes again too, unless the `ack` arrived, and is acknowledged then without being handed out once more."""
        self.process += 1
        self._waiting.clear()
        self._returned.clear()
        for name in (*self._unconfirmed, *self._to_ack):
            self._remember(name)
        self._unconfirmed, self._to_ack = [], {}

    def close(self) -> None:
        """Nothing is handed out any more."""
        self._closed = True

    def take_rest(self) -> list[Message]:
        """What nobody took, oldest first."""
        rest = [message for _, message in (*sorted(self._returned, key=itemgetter(0)), *self._waiting.values())]
        self._waiting.clear()
        self._returned.clear()
        return rest

    def _pop_batch(self) -> list[str]:
        names = list(islice(self._to_ack, MAX_ACK_MESSAGES))
        for name in names:
            del self._to_ack[name]
        return names

    def _remember(self, message_id: str) -> None:
        self._finished[message_id] = None
        if len(self._finished) > MAX_FINISHED:
            self._finished.popitem(last=False)
