"""Tracks mail from its arrival until the node has confirmed its `ack`. No I/O."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter

from .errors import CommandRefused, P2PError
from .types import MAX_ACK_MESSAGES, MAX_UNACKED, ErrorCode, Message

#: Maximum number of finished messages without a confirmed `ack` that the box remembers. A node
#: delivers at most this many messages without an `ack`.
MAX_FINISHED = MAX_UNACKED


@dataclass(frozen=True)
class Taken:
    """A message that a loop of the program has received and not finished."""

    #: The position of the message among all events.
    number: int
    message: Message
    #: The number of the process that delivered the message.
    process: int


class Mailbox:
    """The mail of one node. Any number of streams read from it; each message goes to exactly one.

    A node delivers at most `capacity` messages without an `ack`, so the box holds more only if
    senders have given up some of them. The box holds twice the capacity; above that it drops the
    oldest message, does not acknowledge it, and counts it in `dropped`."""

    def __init__(self, capacity: int) -> None:
        #: Number of messages that the box dropped before the program read them.
        self.dropped = 0
        #: Number of messages that the program finished after their senders had given them up.
        self.acks_not_found = 0
        #: The number of the current process, from 0.
        self.process = 0
        self._limit = 2 * max(1, capacity)
        self._closed = False
        # Each message with its position among all events.
        self._waiting: OrderedDict[str, tuple[int, Message]] = OrderedDict()
        # Messages that loops gave back, oldest first; all are older than the waiting messages.
        self._returned: list[tuple[int, Message]] = []
        self._to_ack: dict[str, None] = {}
        # The message ids of the one `ack` without an answer.
        self._unconfirmed: list[str] = []
        self._finished: OrderedDict[str, None] = OrderedDict()

    def put(self, number: int, message: Message) -> None:
        """Adds a message that the node delivers."""
        name = message.message_id
        if name in self._finished:
            # An earlier process delivered the message and the program finished it, but the process
            # ended before the sender got the acknowledgement.
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
        """Returns the position of the message that `take` would return, or `None`."""
        if self._closed or not (self._returned or self._waiting):
            return None
        return (self._returned[0] if self._returned else next(iter(self._waiting.values())))[0]

    def take(self) -> Taken | None:
        """Removes and returns the oldest message, or `None` if none is available."""
        if self.first is None:
            return None
        number, message = heapq.heappop(self._returned) if self._returned else self._waiting.popitem(last=False)[1]
        return Taken(number, message, self.process)

    def put_back(self, taken: Taken) -> None:
        """Puts back a message that the program did not finish. Ignores a message of an earlier
        process: its sender sends it again."""
        if taken.process == self.process:
            heapq.heappush(self._returned, (taken.number, taken.message))

    def finish(self, taken: Taken) -> None:
        """Records that the program has finished a message, and schedules its `ack`."""
        name = taken.message.message_id
        if taken.process == self.process or self._waiting.pop(name, None) is not None:
            self._to_ack[name] = None
        else:
            self._remember(name)

    # --- Acks ---

    @property
    def has_acks(self) -> bool:
        """Returns `True` if `next_batch` has messages and no `ack` is unanswered."""
        return bool(self._to_ack) and not self._unconfirmed

    def next_batch(self) -> list[str]:
        """Returns the message ids of the next `ack`. Further ids wait until `confirmed` or
        `refused`."""
        if not self._unconfirmed:
            self._unconfirmed = self._pop_batch()
        return self._unconfirmed

    def last_batches(self) -> list[list[str]]:
        """Removes and returns all unacknowledged ids in batches, for the shutdown of the node."""
        batches = []
        while self._to_ack:
            batches.append(self._pop_batch())
        return batches

    def confirmed(self) -> None:
        """Records that the node has accepted the last batch."""
        self._unconfirmed = []

    def refused(self, error: P2PError) -> bool:
        """Records that the node has rejected the last batch, or a part of it. Returns `True` if the
        caller should send the same `ack` again later."""
        names, self._unconfirmed = self._unconfirmed, []
        if error.code == ErrorCode.MESSAGE_NOT_FOUND:
            details = error.details if isinstance(error, CommandRefused) else None
            unknown = details.get("messageIds") if isinstance(details, dict) else None
            self.acks_not_found += len(unknown) if isinstance(unknown, list) else len(names)
            return False
        # With DISK_FULL the `ack` counts; the node itself retries the write.
        if error.code == ErrorCode.DISK_FULL or not error.retryable:
            return False
        self._to_ack = dict.fromkeys([*names, *self._to_ack])
        return True

    # --- Ends ---

    def process_ended(self) -> None:
        """Prepares for the next process. Drops unread mail, because its senders send it again.
        Remembers finished mail without a confirmed `ack`: if it arrives again, `put` acknowledges
        it and does not deliver it twice."""
        self.process += 1
        self._waiting.clear()
        self._returned.clear()
        for name in (*self._unconfirmed, *self._to_ack):
            self._remember(name)
        self._unconfirmed, self._to_ack = [], {}

    def close(self) -> None:
        """Stops the delivery of mail to the program."""
        self._closed = True

    def take_rest(self) -> list[Message]:
        """Removes and returns the mail that waits for the program, oldest first."""
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
