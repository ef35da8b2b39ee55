"""What a program passes to a call, checked before it is written: an error names the argument and says what to do."""

from __future__ import annotations

import base64
import json
import math
import os
from collections.abc import Mapping
from typing import Any

from .errors import InvalidArgument
from .types import MAX_DEPTH

#: Levels of `data` that the node takes: the line itself is one more.
MAX_DATA_DEPTH = MAX_DEPTH - 1
#: What to do about values that JSON does not have, by type.
ADVICE: dict[str, str] = {
    "bytes": "pass bytes as the whole `data`, or text made with base64.b64encode(…).decode()",
    "bytearray": "pass bytes as the whole `data`, or text made with base64.b64encode(…).decode()",
    "memoryview": "pass bytes as the whole `data`, or text made with base64.b64encode(…).decode()",
    "datetime": "pass text, as .isoformat() makes it",
    "date": "pass text, as .isoformat() makes it",
    "time": "pass text, as .isoformat() makes it",
    "set": "pass a list, as sorted(…) makes it",
    "frozenset": "pass a list, as sorted(…) makes it",
    "Decimal": "pass text, as str(…) makes it",
    "UUID": "pass text, as str(…) makes it",
    "coroutine": "await it first",
}


def encode(command: Mapping[str, Any]) -> bytes:
    """A command without its id, as JSON. NaN and infinities are no JSON; letters stay as they are, for a line holds more of those."""
    try:
        return json.dumps(command, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        # The whole is looked through only now, so that good values cost nothing.
        for name, value in command.items():
            _look_for_fault(name, value, [])
        raise InvalidArgument("data", f"JSON cannot hold it ({error})") from None


def _look_for_fault(path: str, value: Any, above: list[int]) -> None:
    """Raises `InvalidArgument` with the path of the first part of a value that JSON cannot hold."""
    if value is None or isinstance(value, (bool, int)):
        return
    if isinstance(value, str):
        _no_halves(path, value)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidArgument(path, f"JSON has no {value}: pass None or text")
    elif isinstance(value, (dict, list, tuple)):
        _look_inside(path, value, above)
    else:
        kind = type(value).__name__
        raise InvalidArgument(path, f"JSON has no {kind}: {ADVICE.get(kind, 'pass what it consists of: text, numbers, lists and dicts')}")


def _look_inside(path: str, value: Any, above: list[int]) -> None:
    if id(value) in above:
        raise InvalidArgument(path, "it contains itself")
    if len(above) >= MAX_DATA_DEPTH:
        raise InvalidArgument(path, f"it is nested more than {MAX_DATA_DEPTH} deep")
    above.append(id(value))
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, (str, int, float, bool, type(None))):
                raise InvalidArgument(path, f"the key {key!r} is no text")
            _look_for_fault(f"{path}.{key}", inner, above)
    else:
        for number, inner in enumerate(value):
            _look_for_fault(f"{path}[{number}]", inner, above)
    above.pop()


def _no_halves(path: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(path, f"its character {error.start} is half of a surrogate pair, which no text has") from None


def payload(data: Any) -> dict[str, Any]:
    """The fields of a command that carry `data`."""
    if isinstance(data, (bytes, bytearray, memoryview)):
        return {"data": base64.b64encode(data).decode(), "encoding": "base64"}
    return {"data": data}


def text(argument: str, value: Any, advice: str = "") -> str:
    """A `str`, and not what merely has one."""
    if not isinstance(value, str):
        raise InvalidArgument(argument, f"it takes a str, not {_shown(value)}{advice}")
    return value


def texts(argument: str, value: Any) -> list[str]:
    """Several `str`. A single one is itself a sequence of such, which nobody means."""
    if isinstance(value, (str, bytes)):
        raise InvalidArgument(argument, f"it takes a list of str: write [{value!r}]")
    try:
        found = list(value)
    except TypeError:
        raise InvalidArgument(argument, f"it takes a list of str, not {_shown(value)}") from None
    return [text(f"{argument}[{number}]", one) for number, one in enumerate(found)]


def seconds(argument: str, value: Any) -> float:
    """A span of time."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        advice = ": write .total_seconds()" if hasattr(value, "total_seconds") else ""
        raise InvalidArgument(argument, f"it takes a number of seconds, not {_shown(value)}{advice}")
    if not value >= 0 or math.isinf(value):
        raise InvalidArgument(argument, f"it takes a number of seconds from 0, not {value}")
    return float(value)


def milliseconds(argument: str, value: Any) -> int | None:
    """A span of time as a command has it."""
    return None if value is None else round(seconds(argument, value) * 1000)


def whole(argument: str, value: Any, least: int, most: int) -> int:
    """An `int` within limits."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidArgument(argument, f"it takes an int, not {_shown(value)}")
    if not least <= value <= most:
        raise InvalidArgument(argument, f"it takes {least} to {most}, not {value}")
    return int(value)


def path(argument: str, value: Any) -> None:
    """A `str` or path."""
    if not isinstance(value, (str, os.PathLike)):
        raise InvalidArgument(argument, f"it takes a str or a path, not {_shown(value)}")


def _shown(value: Any) -> str:
    # Only its type: the value may be a secret.
    return f"a {type(value).__name__}"
