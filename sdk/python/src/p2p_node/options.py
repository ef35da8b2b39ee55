"""How a node is started."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from . import arguments
from .errors import InvalidArgument
from .mailbox import MAX_FINISHED
from .supervisor import Restart


@dataclass(kw_only=True)
class Options:
    """How a node is started. Times are in seconds."""

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
    #: "auto": a mail is acknowledged when the program asks its stream for the next one. "manual": when the program calls `Node.ack`.
    ack: Literal["auto", "manual"] = "auto"
    env_file: str | os.PathLike[str] | None = None
    #: Goes into the child's environment, never into its arguments.
    private_key: str | None = field(default=None, repr=False)
    binding_file: str | os.PathLike[str] | None = None
    ready_timeout: float = 30.0
    call_timeout: float = 30.0
    #: The most mail that the node hands over without an `ack`, 1 to 16,384 messages; the rest stays with its senders.
    mail_buffer: int = 1024
    #: Broadcasts kept for each stream of messages. When there are more, the oldest goes.
    broadcast_buffer: int = 1024
    #: Events of each kind kept for each stream of events: news, and what becomes of the process and of mail.
    event_buffer: int = 1024
    #: `None`: a process that ends is not started again.
    restart: Restart | None = field(default_factory=Restart)
    #: Called with what the node writes to stderr, in pieces.
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
        arguments.whole("mail_buffer", self.mail_buffer, 1, MAX_FINISHED)
        for name in ("broadcast_buffer", "event_buffer"):
            arguments.whole(name, getattr(self, name), 1, sys.maxsize)
        for name in ("ready_timeout", "call_timeout"):
            arguments.seconds(name, getattr(self, name))
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
