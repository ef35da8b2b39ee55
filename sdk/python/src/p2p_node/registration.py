"""Registers the agent in the registry on its chain, by `p2p-node register`."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, Literal

from . import arguments
from .errors import SidecarError, StartFailed
from .locate import find_binary
from .options import Options
from .process import Process
from .types import ErrorCode


@dataclass(frozen=True, kw_only=True)
class Registration:
    """What became of a registration. A field is `None` if it does not apply."""

    # The agent's Ethereum address.
    address: str
    # The address of the registry.
    registry: str
    chain_id: int
    # "registered": a block has the transaction. "already": the agent was registered. "waiting": an
    # earlier transaction waits for a block. "shown": a dry run, which sends nothing.
    state: Literal["registered", "already", "waiting", "shown"]
    name: str | None = None
    metadata: str | None = None
    # The most that the transaction can cost.
    max_cost_wei: int | None = None
    # The hash of the transaction.
    transaction: str | None = None
    # The number of the block.
    block: int | None = None
    # The id of the new entry, in a registry of ERC-8004: set REGISTRY_AGENT_ID to it.
    agent_id: int | None = None


async def register(
    options: Options | None = None, *, dry_run: bool = False, timeout: int = 300, **more: Any
) -> Registration:
    """Registers the agent of the options in the registry on its chain, by one transaction, and
    waits until a block has it. The agent's account pays. Takes the options of `open` as a value, as
    keywords or both. An agent that is registered already stays as it is. `dry_run` sends nothing.

    `timeout` is how long to wait for the block: 1 to 3,600 whole seconds. If the call is cancelled,
    the SDK kills the process; a transaction that it has sent may still get into a block.

    Raises the errors of `open` about options and binary, and `StartFailed` with the exit code and
    the text of stderr if the registration failed."""
    options = replace(options or Options(), **more)
    arguments.whole("timeout", timeout, 1, 3600)
    program = find_binary(options.binary, search_path=options.search_path)
    args = ["register", "--json", "--timeout", str(timeout), *(["--dry-run"] if dry_run else []), *options.command_line()]
    process = await Process.spawn(program, args, options.environment(), options.cwd, options.on_stderr)
    try:
        output = await process.stdout.read()
        end = await process.finished()
    except BaseException:
        process.kill()
        process.exit.add_done_callback(lambda exit: process.release())
        raise
    process.release()
    if end.code != 0:
        raise StartFailed(end, process.stderr_tail())
    return _registration(output)


def _registration(output: bytes) -> Registration:
    """Decodes the object that `register --json` prints."""
    try:
        value = json.loads(output)
        return Registration(
            address=value["address"],
            registry=value["registry"],
            chain_id=value["chainId"],
            state=value["state"],
            name=value.get("name"),
            metadata=value.get("metadata"),
            max_cost_wei=_whole(value.get("maxCostWei")),
            transaction=value.get("transaction"),
            block=value.get("block"),
            agent_id=_whole(value.get("agentId")),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SidecarError(ErrorCode.CONTRACT, f"the output of `register` is invalid: {error!r}") from error


def _whole(text: str | None) -> int | None:
    return None if text is None else int(text)
