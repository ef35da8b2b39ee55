"""Capabilities, handlers, subscriptions and access rules that the SDK restores in a new process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class DesiredState:
    """Holds commands that the node has executed. The limits of the node bound its size."""

    def __init__(self) -> None:
        self._capabilities: list[dict[str, Any]] = []
        self._handlers: list[dict[str, Any]] = []
        self._topics: dict[str, None] = {}
        self._standings: dict[str, dict[str, Any]] = {}

    def record(self, command: Mapping[str, Any]) -> None:
        """Records a command that the node has executed. Call it in the order of the answers."""
        kind, topic, peer = command.get("type"), str(command.get("topic")), str(command.get("peerId"))
        if kind == "capabilities":
            self._capabilities = [{"type": kind, "capabilities": command.get("capabilities")}]
        elif kind == "handle":
            self._handlers = [{"type": kind, "kinds": command.get("kinds")}]
        elif kind == "subscribe":
            self._topics[topic] = None
        elif kind == "unsubscribe":
            self._topics.pop(topic, None)
        elif kind in ("block", "allow"):
            self._standings[_subject(peer)] = {"type": kind, "peerId": peer}
        elif kind == "unblock":
            self._standings.pop(_subject(peer), None)

    def replay(self) -> list[dict[str, Any]]:
        """Returns the commands for a new process. Access rules come first, so that no broadcast of
        a blocked agent arrives on a topic."""
        topics = ({"type": "subscribe", "topic": topic} for topic in self._topics)
        return [*self._standings.values(), *self._capabilities, *self._handlers, *topics]


def _subject(peer: str) -> str:
    """Returns the key of an agent: the address in lower case. A PeerId has one form."""
    return peer.lower() if peer.startswith("0x") else peer
