#!/usr/bin/env python3
"""Makes src/p2p_node/types.py from the JSON Schema of the contract.

    p2p-node schema --json | python3 generate.py > src/p2p_node/types.py
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from typing import Any

Schema = dict[str, Any]

# Words of Python, and what fields of these names are called instead.
RENAMED = {"from": "sender"}
# What no event consists of: a parent writes these, and Python writes them as calls.
PREAMBLE = '''\
"""What a node says, as types. Made by generate.py from the contract's schema; not to be edited."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal, Union

PROTOCOL_VERSION = {protocol}
{limits}
{field_limits}
{sdk_limits}
#: The priority of a `send` without `priority`, by its `kind`. All other kinds are medium.
DEFAULT_PRIORITY: dict[str, Priority] = {default_priority}
#: Exit codes after which a restart would fail the same way.
FINAL_CODES = frozenset({{{final_codes}}})
#: Whether what failed with this code may succeed later without being changed.
RETRYABLE: dict[str, bool] = {retryable}

Id = Union[int, str]


class ErrorCode:
    """The codes of errors: those of the node, and those that only the SDKs report. Later versions may add more."""

{error_codes}


@dataclass(frozen=True)
class Field:
    """How a field is written, what it is called here, what it must be, and whether it must be there."""

    name: str
    attribute: str
    kind: str
    required: bool
'''


def snake(name: str) -> str:
    return RENAMED.get(name) or re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()


def reference(schema: Schema) -> str | None:
    path = schema.get("$ref")
    return path.rsplit("/", 1)[1] if isinstance(path, str) else None


def words(schema: Schema) -> list[str] | None:
    variants = schema.get("oneOf")
    if not isinstance(variants, list) or not all("const" in variant for variant in variants):
        return None
    return [variant["const"] for variant in variants]


def kind_of(schema: Schema, definitions: Schema) -> tuple[str, str]:
    """The kind that a value is checked against, and its type in Python."""
    name = reference(schema)
    if name == "Id":
        return "id", "Id"
    if name is not None:
        # A set of words may grow, so any word is taken.
        return ("str", "str") if words(definitions[name]) else (name, name)
    if "anyOf" in schema:
        return kind_of(next(one for one in schema["anyOf"] if one.get("type") != "null"), definitions)
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next(one for one in kind if one != "null")
    if kind == "array":
        inner, shown = kind_of(schema["items"], definitions)
        return f"[{inner}]", f"list[{shown}]"
    if kind == "object":
        inner, shown = kind_of(schema["additionalProperties"], definitions)
        return f"{{{inner}}}", f"dict[str, {shown}]"
    simple = {"string": "str", "integer": "int", "boolean": "bool"}.get(str(kind))
    return (simple, simple) if simple else ("any", "Any")


def doc(text: str, indent: str) -> str:
    lines = textwrap.wrap(text.replace("\\", "\\\\"), 96 - len(indent))
    if len(lines) == 1:
        return f'{indent}"""{lines[0]}"""\n'
    return f'{indent}"""' + f"\n{indent}".join(lines) + f'\n{indent}"""\n'


def comment(text: str, mark: str = "    #") -> str:
    return "".join(f"{mark} {line}\n" for line in textwrap.wrap(text, 98 - len(mark)))


def constants(limits: list[dict[str, Any]]) -> str:
    """Returns one constant for each limit, with its meaning as a comment."""
    lines = (comment(limit["meaning"], "#:") + f"{snake(limit['name']).upper()} = {limit['value']}\n" for limit in limits)
    return "".join(lines).rstrip()


def mapping(values: dict[str, Any]) -> str:
    return "{\n" + "".join(f'    "{name}": {value},\n' for name, value in values.items()) + "}"


def class_of(name: str, schema: Schema, definitions: Schema) -> str:
    required = set(schema.get("required", []))
    fields, table = [], []
    properties = sorted(schema.get("properties", {}).items(), key=lambda item: item[0] not in required)
    for field, inner in properties:
        kind, shown = kind_of(inner, definitions)
        must = field in required
        fields.append(comment(inner.get("description", "")))
        default = "" if must else " | None = None"
        if shown == "Any" and not must:
            default = " = None"
        fields.append(f"    {snake(field)}: {shown}{default}\n")
        table.append(f"        Field({field!r}, {snake(field)!r}, {kind!r}, {must}),\n".replace("'", '"'))
    table_text = "    FIELDS: ClassVar[tuple[Field, ...]] = (\n" + "".join(table) + "    )\n"
    head = f"\n\n@dataclass(slots=True, kw_only=True)\nclass {name}:\n"
    return head + doc(schema.get("description", name), "    ") + "\n" + "".join(fields) + table_text


def reach(schema: Any, definitions: Schema, reached: set[str]) -> None:
    if isinstance(schema, dict):
        name = reference(schema)
        if name and name not in reached:
            reached.add(name)
            reach(definitions[name], definitions, reached)
        for value in schema.values():
            reach(value, definitions, reached)
    elif isinstance(schema, list):
        for value in schema:
            reach(value, definitions, reached)


def module(document: Schema) -> str:
    definitions = document["$defs"]
    codes = document["errorCodes"]
    retryable = mapping({code["code"]: code["retryable"] for code in codes})
    limits = "".join(f"{snake(name).upper()} = {value}\n" for name, value in document["limits"].items())
    out = PREAMBLE.format(
        protocol=document["protocol"],
        limits=limits.rstrip(),
        final_codes=", ".join(str(code["code"]) for code in document["exitCodes"] if not code["restart"]),
        retryable=retryable,
        field_limits=constants(document["fieldLimits"]),
        sdk_limits=constants(document["sdkLimits"]),
        default_priority=mapping({kind["kind"]: json.dumps(kind["priority"]) for kind in document["messageKinds"]}),
        error_codes="".join(
            comment(code["meaning"], "    #:") + f'    {code["code"]}: Final = "{code["code"]}"\n' for code in codes + document["sdkErrorCodes"]
        ).rstrip(),
    )
    written: set[str] = set()
    reach(document["commands"], definitions, written)
    for name in sorted(written):
        choices = words(definitions[name])
        if choices:
            shown = ", ".join(f'"{choice}"' for choice in choices)
            meaning = "".join(f"#: {line}\n" for line in textwrap.wrap(definitions[name]["description"], 96))
            out += f"\n{meaning}{name} = Literal[{shown}]\n"
    read: set[str] = set()
    reach(document["events"], definitions, read)
    for name in sorted(read):
        schema = definitions[name]
        if words(schema) is None and "properties" in schema:
            out += class_of(name, schema, definitions)
    variants = document["events"]["oneOf"]
    names = {variant["properties"]["type"]["const"]: reference(variant) for variant in variants}
    out += "\n\n#: What a node says.\nEvent = Union[\n" + "".join(f"    {name},\n" for name in names.values()) + "]\n"
    out += "\n#: The type of each event.\nEVENTS: dict[str, Any] = {\n"
    out += "".join(f'    "{kind}": {name},\n' for kind, name in names.items()) + "}\n"
    objects = sorted(name for name in read if words(definitions[name]) is None and "properties" in definitions[name])
    out += "\n#: Every type, by the name that a field's kind has.\nTYPES: dict[str, Any] = {\n"
    out += "".join(f'    "{name}": {name},\n' for name in objects) + "}\n"
    return out


if __name__ == "__main__":
    sys.stdout.write(module(json.load(sys.stdin)))
