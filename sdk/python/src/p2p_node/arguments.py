"""Checks the arguments of calls before the SDK writes a command. Errors name the argument."""

from __future__ import annotations

import base64
import json
import math
import os
from collections.abc import Mapping
from typing import Any

from .errors import InvalidArgument
from .types import MAX_DEPTH

#: Maximum nesting depth of `data`. The line itself is one of the levels that the node accepts.
MAX_DATA_DEPTH = MAX_DEPTH - 1
#: Advice for values that JSON cannot represent, by type name.
ADVICE: dict[str, str] = {
    "bytes": "pass bytes as the whole `data`, or text made with base64.b64encode(…).decode()",
    "bytearray": "pass bytes as the whole `data`, or text made with base64.b64encode(…).decode()",
    "memoryview": "pass bytes as the whole `data`, or text made with base64.b64encode(…).decode()",
    "datetime": "pass text, for example value.isoformat()",
    "date": "pass text, for example value.isoformat()",
    "time": "pass text, for example value.isoformat()",
    "set": "pass a list, for example sorted(value)",
    "frozenset": "pass a list, for example sorted(value)",
    "Decimal": "pass text, for example str(value)",
    "UUID": "pass text, for example str(value)",
    "coroutine": "await the coroutine first",
}


def encode(command: Mapping[str, Any]) -> bytes:
    """Encodes a command, without its id, as JSON.

    Does not escape non-ASCII letters, because escapes use more of the line limit. Raises
    `InvalidArgument` with the path of the first value that JSON cannot represent; NaN and the
    infinities are among these."""
    try:
        return json.dumps(command, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        # The search for the bad value runs only after a failure, so valid commands cost nothing.
        for name, value in command.items():
            _look_for_fault(name, value, [])
        raise InvalidArgument("data", f"JSON cannot represent the value ({error})") from None


def _look_for_fault(path: str, value: Any, above: list[int]) -> None:
    """Raises `InvalidArgument` with the path of the first value that JSON cannot represent.

    `above` holds the ids of the containers around `value`; it detects cycles."""
    if value is None or isinstance(value, (bool, int)):
        return
    if isinstance(value, str):
        _no_halves(path, value)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidArgument(path, f"JSON cannot represent {value}: pass None or text")
    elif isinstance(value, (dict, list, tuple)):
        _look_inside(path, value, above)
    else:
        kind = type(value).__name__
        advice = ADVICE.get(kind, "convert it to text, numbers, lists and dicts")
        raise InvalidArgument(path, f"JSON cannot represent a value of type {kind}: {advice}")


def _look_inside(path: str, value: Any, above: list[int]) -> None:
    if id(value) in above:
        raise InvalidArgument(path, "the value contains itself: pass a value without cycles")
    if len(above) >= MAX_DATA_DEPTH:
        message = f"the nesting exceeds {MAX_DATA_DEPTH} levels: flatten the value"
        raise InvalidArgument(path, message)
    above.append(id(value))
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, (str, int, float, bool, type(None))):
                raise InvalidArgument(path, f"the key {key!r} is not a str: convert it")
            _look_for_fault(f"{path}.{key}", inner, above)
    else:
        for number, inner in enumerate(value):
            _look_for_fault(f"{path}[{number}]", inner, above)
    above.pop()


def _no_halves(path: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        why = f"character {error.start} is half of a surrogate pair, which UTF-8 cannot encode"
        raise InvalidArgument(path, f"{why}: remove it or pass bytes") from None


def payload(data: Any) -> dict[str, Any]:
    """Returns the fields of a `send` command for `data`. Encodes bytes in base64."""
    if isinstance(data, (bytes, bytearray, memoryview)):
        return {"data": base64.b64encode(data).decode(), "encoding": "base64"}
    return {"data": data}


def text(argument: str, value: Any, advice: str = "") -> str:
    """Returns `value` if it is a `str`; otherwise raises `InvalidArgument` ending with `advice`."""
    if not isinstance(value, str):
        raise InvalidArgument(argument, f"must be a str, not {_shown(value)}{advice}")
    return value


def texts(argument: str, value: Any) -> list[str]:
    """Returns an iterable of `str` as a list; otherwise raises `InvalidArgument`.

    Rejects a single `str`: it is itself a sequence of `str`, and passing one is a mistake."""
    if isinstance(value, (str, bytes)):
        raise InvalidArgument(argument, f"must be a list of str: write [{value!r}]")
    try:
        found = list(value)
    except TypeError:
        raise InvalidArgument(argument, f"must be a list of str, not {_shown(value)}") from None
    return [text(f"{argument}[{number}]", one) for number, one in enumerate(found)]


def seconds(argument: str, value: Any) -> float:
    """Returns a duration in seconds as a `float`. Raises `InvalidArgument` unless it is a finite
    number from 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        advice = ": write .total_seconds()" if hasattr(value, "total_seconds") else ""
        raise InvalidArgument(argument, f"must be a number of seconds, not {_shown(value)}{advice}")
    if not value >= 0 or math.isinf(value):
        raise InvalidArgument(argument, f"must be a finite number of seconds from 0, not {value}")
    return float(value)


def milliseconds(argument: str, value: Any) -> int | None:
    """Converts seconds to the whole milliseconds of a command. Returns `None` for `None`."""
    return None if value is None else round(seconds(argument, value) * 1000)


def whole(argument: str, value: Any, least: int, most: int) -> int:
    """Returns an `int` from `least` to `most`; otherwise raises `InvalidArgument`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidArgument(argument, f"must be an int, not {_shown(value)}")
    if not least <= value <= most:
        raise InvalidArgument(argument, f"must be from {least} to {most}, not {value}")
    return int(value)


def path(argument: str, value: Any) -> None:
    """Raises `InvalidArgument` unless `value` is a `str` or an `os.PathLike`."""
    if not isinstance(value, (str, os.PathLike)):
        raise InvalidArgument(argument, f"must be a str or a path, not {_shown(value)}")


def _shown(value: Any) -> str:
    # Shows only the type, because the value may be a secret.
    return f"a {type(value).__name__}"
