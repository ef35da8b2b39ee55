#!/usr/bin/env python3
"""Makes docs/api.md, the reference of the API, from the package's docstrings and types. `check` looks that it is current.

    PYTHONPATH=src python3 reference.py > docs/api.md
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from typing import Any

import p2p_node

INTRODUCTION = """\
# Reference of the Python SDK

Made by reference.py from the package; not to be edited. The README says how the parts work together.

Times that a program passes are in seconds, and `None` as a `timeout` is the option `call_timeout`, unless it says otherwise. Fields whose name ends in `_ms`
come from the node and are in milliseconds; those of points in time count from 1970. Sizes are in bytes.
"""
GROUPS = {
    "Opening a node": ("open", "Options", "Restart"),
    "The node": ("Node", "SentMessage", "Published"),
    "Messages and events": ("MessageStream", "Stream", "Message", "content", "DEFAULT_PRIORITY"),
}
FIELD = re.compile(r"    (\w+): (.+?)(?: = (.+))?$")


def signature(function: Any) -> str:
    """The signature on one line; on several where that would be long."""
    parts, starred = [], False
    found = inspect.signature(function)
    for name, parameter in found.parameters.items():
        if name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            parts.append("*")
        starred |= parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL)
        star = "*" if parameter.kind is parameter.VAR_POSITIONAL else ""
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        parts.append(f"{star}{name}: {parameter.annotation}{default}")
    inside, result = ", ".join(parts), found.return_annotation
    if len(inside) > 80:
        inside = "\n    " + ",\n    ".join(parts) + ",\n"
    return f"({inside})" + ("" if result is found.empty else f" -> {result}")


def doc(thing: Any) -> str:
    return inspect.cleandoc(thing.__doc__ or "") + "\n"


def fields(kind: type) -> str:
    """The fields of a dataclass, with the comments above them."""
    lines, comment = [], []
    for line in inspect.getsource(kind).splitlines():
        found = FIELD.fullmatch(line)
        if line.startswith("    #"):
            comment.append(line.strip().lstrip("#:").strip())
        elif found and not found[2].startswith("ClassVar") and not found[1].startswith("_"):
            default = found[3]
            if default and default.startswith("field("):
                inner = re.search(r"default(?:_factory)?=(\w+)", default)
                default = {"dict": "{}", "None": "None"}.get(inner[1], f"{inner[1]}()") if inner else None
            given = f" = {default}" if default else ""
            said = f": {' '.join(comment)}" if comment else ""
            lines.append(f"- `{found[1]}: {found[2]}{given}`{said}\n")
            comment = []
        else:
            comment = []
    return "".join(lines) + ("\n" if lines else "")


def members(kind: type) -> str:
    out = ""
    for name, member in vars(kind).items():
        if name.startswith("_"):
            continue
        if isinstance(member, property):
            out += f"### `{name}: {inspect.signature(member.fget).return_annotation}`\n\n{doc(member)}\n"  # type: ignore[arg-type]
        elif inspect.isfunction(member):
            word = "async " if inspect.iscoroutinefunction(member) else ""
            out += f"### `{name}`\n\n```python\n{word}{name}{signature(member)}\n```\n\n{doc(member)}\n"
    return out


def attributes(kind: type) -> str:
    """What an error has besides its text."""
    source = inspect.getsource(vars(kind)["__init__"]) if "__init__" in vars(kind) else ""
    names = [name for name in re.findall(r"^        self\.(\w+)", source, re.MULTILINE) if not name.startswith("_")]
    return f"Attributes: {', '.join(f'`{name}`' for name in dict.fromkeys(names))}.\n\n" if names else ""


def comments(source: str) -> dict[str, str]:
    """What the comments above the constants of a source say."""
    said, found = {}, re.finditer(r"((?:^ *#: .*\n)+) *(\w+): ", source, re.MULTILINE)
    for match in found:
        said[match[2]] = " ".join(line.strip().lstrip("#: ") for line in match[1].splitlines())
    return said


def section(name: str) -> str:
    thing = getattr(p2p_node, name)
    head = f"## `{name}`\n\n"
    if isinstance(thing, dict):
        said = comments(inspect.getsource(p2p_node.types))[name]
        return head + f"{said}\n\n" + "".join(f"- `{key}`: `{value}`\n" for key, value in thing.items()) + "\n"
    if name == "ErrorCode":
        return head + doc(thing) + "\n" + "".join(f"- `{code}`: {said}\n" for code, said in comments(inspect.getsource(thing)).items()) + "\n"
    if name == "Options":
        return head + "What `open` takes, as a value; see there.\n\n"
    if inspect.isfunction(thing):
        return head + f"```python\n{name}{signature(thing)}\n```\n\n{doc(thing)}\n"
    if not inspect.isclass(thing):
        return head + f"One of {', '.join(f'`{one.__name__}`' for one in thing.__args__)}.\n\n"
    if issubclass(thing, Exception):
        bases = ", ".join(f"`{base.__name__}`" for base in thing.__bases__)
        return head + f"Is a {bases}. {doc(thing)}\n" + attributes(thing)
    return head + doc(thing) + "\n" + (fields(thing) if dataclasses.is_dataclass(thing) else "") + members(thing)


def document() -> str:
    grouped = [name for names in GROUPS.values() for name in names]
    rest = [name for name in p2p_node.__all__ if name not in grouped and name != "ErrorCode"]
    errors = [name for name in rest if inspect.isclass(getattr(p2p_node, name)) and issubclass(getattr(p2p_node, name), Exception)]
    groups = {**GROUPS, "What the node tells": [name for name in rest if name not in errors], "Errors": ["ErrorCode", *errors]}
    out = INTRODUCTION
    for title, names in groups.items():
        links = ", ".join(f"[`{name}`](#{name.lower()})" for name in names)
        out += f"\n- {title}: {links}"
    out += "\n\n" + "".join(section(name) for names in groups.values() for name in names)
    return re.sub(r"\n{3,}", "\n\n", out).rstrip() + "\n"


if __name__ == "__main__":
    sys.stdout.write(document())
