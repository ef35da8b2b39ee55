"""A command from its call until its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .channel import OnResponse, Reply
from .child import Child
from .errors import P2PError, SidecarError
from .flow import Send
from .types import Delivery


@dataclass(eq=False)
class Call:
    """A command that waits to be written, or that a child's channel tracks until its answer."""

    command: Mapping[str, Any]
    body: bytes
    answer: asyncio.Future[Reply]
    #: Credit that the command uses; `None` unless it sends a message.
    send: Send | None
    #: Gets the delivery result of mail.
    outcome: asyncio.Future[Delivery] | None
    #: Gets the answers to a request.
    on_response: OnResponse | None = None
    child: Child | None = None
    number: int = 0
    abandoned: bool = False

    @property
    def may_be_repeated(self) -> bool:
        """Returns `False` only for a message or request that was written: repeated, it may arrive twice."""
        return (self.send is None and self.on_response is None) or self.child is None


def cost(command: Mapping[str, Any], body: bytes) -> Send | None:
    """Returns the credit that a command uses; `None` unless it sends a message.

    The recipient key ignores the case of an address."""
    if command.get("type") == "respond":
        return Send(f"ticket {command.get('ticket')}", len(body))
    if command.get("type") != "send":
        return None
    peer = command.get("peerId")
    return Send(str(peer).lower() if peer is not None else f"topic {command.get('topic')}", len(body))


def after_writing(call: Call, error: P2PError | None) -> P2PError | None:
    """Adapts the error of a written call: after a `SidecarError` the message may have been sent,
    so a `send` or `request` is not retryable."""
    if isinstance(error, SidecarError):
        error.retryable = error.retryable and call.may_be_repeated
    return error
