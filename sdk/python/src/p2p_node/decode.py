"""Lines to events. No I/O."""

from __future__ import annotations

import base64
import json
from typing import Any

from .types import EVENTS, TYPES, Event, Message

#: What a kind of field must be. A bool is no integer here.
_SIMPLE: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "bool": (bool,), "id": (int, str)}


class Undecodable(Exception):
    """The line is no event."""


def decode_event(line: bytes) -> Event | None:
    """The event that a line is; `None`: one of a later version, to be ignored.

    Raises `Undecodable` when it is not JSON, or not what its `type` promises."""
    try:
        # Decoded here, for `json` would guess at UTF-16 and take halves of surrogate pairs.
        value = json.loads(line.decode(), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Undecodable(str(error)) from None
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        raise Undecodable("it is no object with a type")
    kind = EVENTS.get(value["type"])
    if kind is None:
        return None
    event: Event = _object(kind, value)
    return event


def content(message: Message) -> Any:
    """The data of a message; bytes if they were sent as such."""
    if message.encoding == "base64":
        return base64.b64decode(message.data)
    return message.data


def _no_number(name: str) -> Any:
    raise Undecodable(f"{name} is no JSON")


def _object(kind: Any, value: Any) -> Any:
    if not isinstance(value, dict):
        raise Undecodable(f"{value!r} is no {kind.__name__}")
    found = {}
    for field in kind.FIELDS:
        if field.name in value and (value[field.name] is not None or field.kind == "any"):
            found[field.attribute] = _value(field.kind, value[field.name])
        elif field.required:
            raise Undecodable(f"{kind.__name__} has no {field.name}")
    return kind(**found)


def _value(kind: str, value: Any) -> Any:
    if kind == "any":
        return value
    if kind in _SIMPLE:
        if not isinstance(value, _SIMPLE[kind]) or (kind != "bool" and isinstance(value, bool)):
            raise Undecodable(f"{value!r} is no {kind}")
        return value
    if kind[0] == "[":
        if not isinstance(value, list):
            raise Undecodable(f"{value!r} is no list")
        return [_value(kind[1:-1], one) for one in value]
    if kind[0] == "{":
        if not isinstance(value, dict):
            raise Undecodable(f"{value!r} is no object")
        return {name: _value(kind[1:-1], one) for name, one in value.items()}
    return _object(TYPES[kind], value)
