"""Waits until the node has a peer, and until the mail that waited for it has arrived."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from .errors import CallTimeout, NotJoined, SidecarRestarted, SidecarUnavailable
from .types import ConnectedPeer, ErrorEvent, Log, Message, PeerConnected

#: Default of `quiet`, in seconds. A sender transmits at once when it is connected, so mail that
#: waited has arrived by then.
QUIET = 3.0
#: Interval in seconds at which the SDK asks for the peers, because the node may have dropped the
#: event of a new peer.
ASK_AGAIN = 1.0
#: Maximum number of node errors in a `NotJoined`. The node reports the failure of each bootstrap
#: peer once.
MAX_ERRORS = 8

Peers = Callable[[float], Awaitable[list[ConnectedPeer]]]


class Activity:
    """The time of the last mail or peer event, and the last errors that the node reported."""

    def __init__(self) -> None:
        self.last = time.monotonic()
        self.errors: deque[str] = deque(maxlen=MAX_ERRORS)
        self.changed = asyncio.Event()

    def touch(self) -> None:
        """Records that mail or a peer event arrived, or that the program finished mail."""
        self.last = time.monotonic()
        self.changed.set()

    def tell(self, event: object) -> None:
        """Records an event of the node, if it concerns mail, peers or errors."""
        if isinstance(event, PeerConnected) or (isinstance(event, Message) and event.topic is None):
            self.touch()
        elif isinstance(event, ErrorEvent):
            self.errors.append(f"{event.code}: {event.message}")
        elif isinstance(event, Log) and event.level == "warn" and event.namespace == "discovery":
            self.errors.append(event.message)

    async def wait(self, seconds: float) -> None:
        """Waits for the next `touch`, at most `seconds`."""
        self.changed.clear()
        try:
            await asyncio.wait_for(self.changed.wait(), seconds)
        except asyncio.TimeoutError:
            pass


async def joined(activity: Activity, peers: Peers, tried: Sequence[str], timeout: float) -> list[ConnectedPeer]:
    """Waits until a peer is connected; returns the connected peers. Raises `NotJoined` after
    `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            connected = await peers(max(0.0, deadline - time.monotonic()))
        except (CallTimeout, SidecarRestarted, SidecarUnavailable):
            connected = []  # the node is down, but may be ready again in time
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
    """Waits until a peer is connected, no mail waits for the program, and `quiet` seconds have
    passed since the last activity.

    Raises `NotJoined` after `timeout` seconds without a peer, and `CallTimeout` after `limit`
    seconds in all; `None`: no limit."""
    deadline = None if limit is None else time.monotonic() + limit

    def wait_left() -> float:
        return max(0.0, activity.last + quiet - time.monotonic())

    await join(timeout)
    while True:
        if wait_left() == 0 and not is_waiting():
            # Checks again: the peer may be gone, and mail may have arrived meanwhile.
            await join(timeout)
            if wait_left() == 0 and not is_waiting():
                return
        pause = ASK_AGAIN if is_waiting() else wait_left()
        if deadline is not None:
            pause = min(pause, deadline - time.monotonic())
            if pause <= 0 and time.monotonic() >= deadline:
                what = "`caught_up` (mail still arrives, or waits for the program)"
                raise CallTimeout(what, limit or 0, retryable=True)
        await activity.wait(max(0.0, pause))
