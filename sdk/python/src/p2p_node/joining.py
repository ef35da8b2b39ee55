"""Whether the node is on the network, and whether the mail that waited for it has come."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from .errors import CallTimeout, NotJoined, SidecarRestarted, SidecarUnavailable
from .types import ConnectedPeer, ErrorEvent, Log, Message, PeerConnected

#: Seconds without a message after which what waited for the node has come. Ours: a sender begins at once when it is connected.
QUIET = 3.0
#: How often the node is asked for its peers, in seconds, should the event of a new one have been dropped.
ASK_AGAIN = 1.0
#: Attempts that an error quotes: a node tells each bootstrap peer's failure once.
MAX_ERRORS = 8

Peers = Callable[[float], Awaitable[list[ConnectedPeer]]]


class Activity:
    """When something about mail or peers happened last, and what the node told about failures."""

    def __init__(self) -> None:
        self.last = time.monotonic()
        self.errors: deque[str] = deque(maxlen=MAX_ERRORS)
        self.changed = asyncio.Event()

    def touch(self) -> None:
        """Something happened."""
        self.last = time.monotonic()
        self.changed.set()

    def tell(self, event: object) -> None:
        """Notes an event of the node."""
        if isinstance(event, PeerConnected) or (isinstance(event, Message) and event.topic is None):
            self.touch()
        elif isinstance(event, ErrorEvent):
            self.errors.append(f"{event.code}: {event.message}")
        elif isinstance(event, Log) and event.level == "warn" and event.namespace == "discovery":
            self.errors.append(event.message)

    async def wait(self, seconds: float) -> None:
        """Returns when something happens, or after so many seconds."""
        self.changed.clear()
        try:
            await asyncio.wait_for(self.changed.wait(), seconds)
        except asyncio.TimeoutError:
            pass


async def joined(activity: Activity, peers: Peers, tried: Sequence[str], timeout: float) -> list[ConnectedPeer]:
    """Waits until a peer is connected; returns those that are. Raises `NotJoined`."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            connected = await peers(max(0.0, deadline - time.monotonic()))
        except (CallTimeout, SidecarRestarted, SidecarUnavailable):
            connected = []  # the node is down, and may be back in time
        if connected:
            return connected
        left = deadline - time.monotonic()
        if left <= 0:
            raise NotJoined(timeout, tried, list(activity.errors))
        await activity.wait(min(left, ASK_AGAIN))


async def caught_up(
    activity: Activity,
    is_waiting: Callable[[], bool],
    join: Callable[[float], Awaitable[object]],
    quiet: float,
    timeout: float,
    limit: float | None,
) -> None:
    """Waits until a peer is connected, no mail waits for the program, and nothing has happened for `quiet` seconds.

    Raises `NotJoined` after `timeout` seconds without a peer, and `CallTimeout` after `limit` seconds."""
    deadline = None if limit is None else time.monotonic() + limit

    def wait_left() -> float:
        return max(0.0, activity.last + quiet - time.monotonic())

    await join(timeout)
    while True:
        if wait_left() == 0 and not is_waiting():
            # Asked again: the peer may be gone, and what comes meanwhile counts.
            await join(timeout)
            if wait_left() == 0 and not is_waiting():
                return
        pause = ASK_AGAIN if is_waiting() else wait_left()
        if deadline is not None:
            pause = min(pause, deadline - time.monotonic())
            if pause <= 0 and time.monotonic() >= deadline:
                what = "`caught_up`, while mail still comes or waits for the program,"
                raise CallTimeout(what, limit or 0, retryable=True)
        await activity.wait(max(0.0, pause))
