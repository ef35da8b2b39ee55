"""How a node is started."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Literal

from . import arguments
from .errors import InvalidArgument
from .supervisor import Restart
from .types import MAX_UNACKED


@dataclass(kw_only=True)
class Options:
    """How a node is started. Times are in seconds.

    - `binary`, `search_path`: the binary; if it is not named, that of the variable `P2P_NODE_BIN`, else that of the installed package, else, only
      with `search_path`, that on PATH.
    - `args`, `env`, `cwd`: more arguments, variables and the working directory of the process.
    - `name`, `network`, `port`, `data_dir`, `env_file`, `binding_file`: as the flags of the binary, whose defaults count where one is `None`.
    - `bootstrap_peers`: multiaddrs of nodes to begin with.
    - `ack`: with "auto" a mail is acknowledged when the program asks its stream for the next one, with "manual" when it calls `Node.ack`.
    - `private_key`: the agent's Ethereum key in hexadecimal. It goes into the environment of the process, never into its arguments. Without
      one the SDK makes one up, which is kept in `data_dir`, or else for as long as the `Node` lives.
    - `ready_timeout`: how long the node may take to be ready. `call_timeout`: how long a call waits that has no `timeout` of its own.
    - `close_timeouts`: how long the node may take to end after `close`: to finish (it takes up to 5 s itself), and then to obey SIGTERM.
    - `mail_buffer`: the most mail that the node hands over without an `ack`, 1 to 16,384 messages; the rest stays with its senders.
    - `broadcast_buffer`: broadcasts kept for each stream of messages. When there are more, the oldest goes.
    - `event_buffer`: events of each kind kept for each stream of events: news, and what becomes of the process and of mail.
    - `restart`: how the process is started again when it ends; with `None` it is not.
    - `on_stderr`: called with what the node writes to stderr, in pieces."""

    binary: str | os.PathLike[str] | None = None
    search_path: bool = False
    args: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: str | os.PathLike[str] | None = None
    name: str | None = None
    network: str | None = None
    port: int | None = None
    bootstrap_peers: Sequence[str] = ()
    data_dir: str | os.PathLike[str] | None = None
    ack: Literal["auto", "manual"] = "auto"
    env_file: str | os.PathLike[str] | None = None
    private_key: str | None = field(default=None, repr=False)
    binding_file: str | os.PathLike[str] | None = None
    ready_timeout: float = 30.0
    call_timeout: float = 30.0
    close_timeouts: tuple[float, float] = (7.0, 2.0)
    mail_buffer: int = 1024
    broadcast_buffer: int = 1024
    event_buffer: int = 1024
    restart: Restart | None = field(default_factory=Restart)
    on_stderr: Callable[[bytes], None] | None = None

    def __post_init__(self) -> None:
        """Raises `InvalidArgument` for what cannot be meant. The node judges the rest."""
        for name in ("name", "network", "private_key"):
            if getattr(self, name) is not None:
                arguments.text(name, getattr(self, name))
        for name in ("binary", "cwd", "data_dir", "env_file", "binding_file"):
            if getattr(self, name) is not None:
                arguments.path(name, getattr(self, name))
        self.args = arguments.texts("args", self.args)
        self.bootstrap_peers = arguments.texts("bootstrap_peers", self.bootstrap_peers)
        if not isinstance(self.env, Mapping):
            raise InvalidArgument("env", "it takes a mapping of names to values")
        for key, value in self.env.items():
            arguments.text(f"env[{key!r}]", value)
        if self.port is not None:
            arguments.whole("port", self.port, 0, 65_535)
        arguments.whole("mail_buffer", self.mail_buffer, 1, MAX_UNACKED)
        for name in ("broadcast_buffer", "event_buffer"):
            arguments.whole(name, getattr(self, name), 1, sys.maxsize)
        for name in ("ready_timeout", "call_timeout"):
            arguments.seconds(name, getattr(self, name))
        if not isinstance(self.close_timeouts, (tuple, list)) or len(self.close_timeouts) != 2:
            raise InvalidArgument("close_timeouts", "it takes two numbers of seconds")
        for number, timeout in enumerate(self.close_timeouts):
            arguments.seconds(f"close_timeouts[{number}]", timeout)
        if self.ack not in ("auto", "manual"):
            raise InvalidArgument("ack", 'it takes "auto" or "manual"')
        if self.restart is not None and not isinstance(self.restart, Restart):
            raise InvalidArgument("restart", "it takes a Restart(…), or None for no restart")
        if self.on_stderr is not None and not callable(self.on_stderr):
            raise InvalidArgument("on_stderr", "it takes a function of one argument")

    def command_line(self) -> list[str]:
        flags = {
            "--name": self.name,
            "--network": self.network,
            "--data-dir": self.data_dir,
            # The SDK acknowledges mail itself, when the program has it and not when it is in the pipe.
            "--ack": "manual",
            "--env-file": self.env_file,
            "--binding": self.binding_file,
        }
        named = [part for flag, value in flags.items() if value is not None for part in (flag, os.fspath(value))]
        return [*named, "--parent-pid", str(os.getpid()), *self.args]

    def environment(self, ephemeral_key: str) -> dict[str, str]:
        env = {**os.environ, "P2P_NODE_EPHEMERAL_KEY": ephemeral_key, **self.env}
        if self.private_key is not None:
            env["PRIVATE_KEY"] = self.private_key
        return env


def options_signature() -> inspect.Signature:
    """The signature of `Options`, with the values of its defaults."""
    defaults = {one.name: one.default if one.default is not MISSING else one.default_factory() for one in fields(Options)}  # type: ignore[misc]
    found = inspect.signature(Options)
    return found.replace(parameters=[one.replace(default=defaults[one.name]) for one in found.parameters.values()])
