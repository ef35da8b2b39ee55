"""What has to be asked of a new process, because the one before had carried it out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class DesiredState:
    """Bounded by the node, which refuses what is too much: only what it has carried out gets here."""

    def __init__(self) -> None:
        self._topics: dict[str, None] = {}
        self._standings: dict[str, dict[str, Any]] = {}

    def record(self, command: Mapping[str, Any]) -> None:
        """To be told of commands in the order in which they were answered."""
        kind, topic, peer = command.get("type"), str(command.get("topic")), str(command.get("peerId"))
        if kind == "subscribe":
            self._topics[topic] = None
        elif kind == "unsubscribe":
            self._topics.pop(topic, None)
        elif kind in ("block", "allow"):
            self._standings[_subject(peer)] = {"type": kind, "peerId": peer}
        elif kind == "unblock":
            self._standings.pop(_subject(peer), None)

    def replay(self) -> list[dict[str, Any]]:
        """Who is blocked comes first, so that nothing of theirs is heard on a topic."""
        return [*self._standings.values(), *({"type": "subscribe", "topic": topic} for topic in self._topics)]


def _subject(peer: str) -> str:
    """The same agent for every way of writing its address. A PeerId has one."""
    return peer.lower() if peer.startswith("0x") else peer
