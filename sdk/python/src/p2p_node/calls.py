"""A command on its way to the node."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .channel import Reply
from .child import Child
from .errors import P2PError, SidecarError
from .flow import Send
from .types import Delivery


@dataclass(eq=False)
class Call:
    """A command on its way: until it is written it waits here, from then on in the channel of a child."""

    command: Mapping[str, Any]
    body: bytes
    answer: asyncio.Future[Reply]
    #: What it costs, if it sends a message.
    send: Send | None
    #: Where the delivery of mail goes.
    outcome: asyncio.Future[Delivery] | None
    child: Child | None = None
    number: int = 0
    abandoned: bool = False

    @property
    def may_be_repeated(self) -> bool:
        """Whether to ask the same again does nothing twice: of all commands only a `send` that was written may."""
        return self.send is None or self.child is None


def cost(command: Mapping[str, Any], body: bytes) -> Send | None:
    """What a command costs if it sends a message. An agent is the same in every way of writing its address."""
    if command.get("type") != "send":
        return None
    peer = command.get("peerId")
    return Send(str(peer).lower() if peer is not None else f"topic {command.get('topic')}", len(body))


def after_writing(call: Call, error: P2PError | None) -> P2PError | None:
    """Why a call that was written failed. When the node's process is at fault, a message may be on its way all the same."""
    if isinstance(error, SidecarError):
        error.retryable = error.retryable and call.may_be_repeated
    return error
