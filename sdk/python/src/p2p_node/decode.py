"""Decodes lines to events. No I/O."""

from __future__ import annotations

import base64
import json
from typing import Any

from .types import EVENTS, TYPES, Event, IncomingRequest, Message, Response

#: The Python types of the simple field kinds. For `int` and `id`, `_value` rejects a `bool`.
_SIMPLE: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "bool": (bool,), "id": (int, str)}


class Undecodable(Exception):
    """The line is not a valid event."""


def decode_event(line: bytes) -> Event | None:
    """Decodes a line to an event. Returns `None` for an event type that this version does not know.

    Raises `Undecodable` if the line is not JSON, or lacks a required field of its type."""
    try:
        # Decodes UTF-8 first: `json` would guess the encoding and accept lone surrogates.
        value = json.loads(line.decode(), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Undecodable(str(error)) from None
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        raise Undecodable("the line is not an object with a type")
    kind = EVENTS.get(value["type"])
    if kind is None:
        return None
    event: Event = _object(kind, value)
    return event


def content(message: Message | IncomingRequest | Response) -> Any:
    """Returns the data of a message, a request or an answer; `bytes` if the sender passed bytes."""
    if message.encoding == "base64":
        return base64.b64decode(message.data)
    return message.data


def _no_number(name: str) -> Any:
    raise Undecodable(f"{name} is not JSON")


def _object(kind: Any, value: Any) -> Any:
    if not isinstance(value, dict):
        raise Undecodable(f"{value!r} is not a {kind.__name__}")
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
            raise Undecodable(f"{value!r} is not of type {kind}")
        return value
    if kind[0] == "[":
        if not isinstance(value, list):
            raise Undecodable(f"{value!r} is not a list")
        return [_value(kind[1:-1], one) for one in value]
    if kind[0] == "{":
        if not isinstance(value, dict):
            raise Undecodable(f"{value!r} is not an object")
        return {name: _value(kind[1:-1], one) for name, one in value.items()}
    return _object(TYPES[kind], value)
