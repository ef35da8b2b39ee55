"""The options of `open`."""

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
    """The options of a node. Times are in seconds.

    - `binary`: the path of the binary. With `None` the SDK uses the path in `P2P_NODE_BIN`, else
      the binary of the installed package, else, with `search_path=True`, `p2p-node` on PATH.
    - `args`, `env`, `cwd`: additional arguments, additional environment variables and the working
      directory of the process. Do not pass secrets in `args`: every user of the machine can read
      them.
    - `name`, `network`, `port`, `data_dir`, `env_file`, `binding_file`: as the flags of the binary;
      with `None` the default of the binary applies.
    - `bootstrap_peers`: multiaddrs of the nodes that this node dials to join the network.
    - `ack`: "auto" acknowledges a message when the program asks its stream for the next one;
      "manual" acknowledges a message when the program calls `Node.ack`.
    - `private_key`: the agent's Ethereum key in hexadecimal. The SDK passes it in the environment,
      never in the arguments. Without any key the agent gets a random one: `data_dir` persists it;
      without `data_dir` it lasts as long as the `Node` object.
    - `shared`: shares one node among processes: attaches to the daemon of this agent, and starts it
      if none runs. The daemon stays when the process ends. It needs `private_key`, `data_dir`,
      `env_file` or `socket`, by which the processes find it.
    - `socket`: attaches to the node that listens at this path. Without `shared` it must run.
    - `inbox`: with `False` this process gets no messages of other agents, only broadcasts.
    - `group`: of the processes of one node with the same `group`, one gets each message.
    - `ready_timeout`: how long a process may take until it is ready.
    - `call_timeout`: how long a call waits if it has no `timeout` of its own.
    - `close_timeouts`: the time from `close` until SIGTERM, and from then until SIGKILL. The node
      itself drains for up to 5 s.
    - `mail_buffer`: the maximum number of messages that the node delivers without an `ack`, 1 to
      16,384. Further messages stay with their senders.
    - `broadcast_buffer`: the maximum number of buffered broadcasts of each message stream. A full
      buffer drops its oldest broadcast.
    - `event_buffer`: the maximum number of buffered events of each event stream, once for peer
      events, logs and `Overflow`, and once for all others. A full buffer drops its oldest event.
    - `restart`: the restart policy. With `None` the SDK never restarts the process.
    - `on_stderr`: the SDK calls this function with each piece of the node's stderr. The function
      runs on the event loop, so it must not block."""

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
    shared: bool = False
    socket: str | os.PathLike[str] | None = None
    inbox: bool = True
    group: str | None = None
    ready_timeout: float = 30.0
    call_timeout: float = 30.0
    close_timeouts: tuple[float, float] = (7.0, 2.0)
    mail_buffer: int = 1024
    broadcast_buffer: int = 1024
    event_buffer: int = 1024
    restart: Restart | None = field(default_factory=Restart)
    on_stderr: Callable[[bytes], None] | None = None

    def __post_init__(self) -> None:
        """Raises `InvalidArgument` for a value of a wrong type or range. The node checks more."""
        for name in ("name", "network", "private_key", "group"):
            if getattr(self, name) is not None:
                arguments.text(name, getattr(self, name))
        for name in ("binary", "cwd", "data_dir", "env_file", "binding_file", "socket"):
            if getattr(self, name) is not None:
                arguments.path(name, getattr(self, name))
        self.args = arguments.texts("args", self.args)
        self.bootstrap_peers = arguments.texts("bootstrap_peers", self.bootstrap_peers)
        if not isinstance(self.env, Mapping):
            raise InvalidArgument("env", "must be a mapping of names to values")
        for key, value in self.env.items():
            arguments.text(f"env[{key!r}]", value)
        for name in ("shared", "inbox"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidArgument(name, "must be True or False")
        if self.port is not None:
            arguments.whole("port", self.port, 0, 65_535)
        arguments.whole("mail_buffer", self.mail_buffer, 1, MAX_UNACKED)
        for name in ("broadcast_buffer", "event_buffer"):
            arguments.whole(name, getattr(self, name), 1, sys.maxsize)
        for name in ("ready_timeout", "call_timeout"):
            arguments.seconds(name, getattr(self, name))
        if not isinstance(self.close_timeouts, (tuple, list)) or len(self.close_timeouts) != 2:
            raise InvalidArgument("close_timeouts", "must be two numbers of seconds")
        for number, timeout in enumerate(self.close_timeouts):
            arguments.seconds(f"close_timeouts[{number}]", timeout)
        if self.ack not in ("auto", "manual"):
            raise InvalidArgument("ack", 'must be "auto" or "manual"')
        if self.restart is not None and not isinstance(self.restart, Restart):
            raise InvalidArgument("restart", "must be a Restart(…), or None to disable restarts")
        if self.on_stderr is not None and not callable(self.on_stderr):
            raise InvalidArgument("on_stderr", "must be a function with one parameter")

    def command_line(self) -> list[str]:
        flags = {
            "--name": self.name,
            "--network": self.network,
            "--data-dir": self.data_dir,
            # The SDK acknowledges mail itself. The node would do so before the program has read it.
            "--ack": "manual",
            "--env-file": self.env_file,
            "--binding": self.binding_file,
        }
        named = [part for flag, value in flags.items() if value is not None for part in (flag, os.fspath(value))]
        return [*named, "--parent-pid", str(os.getpid()), *self.args]

    def process_arguments(self) -> list[str]:
        """Returns the arguments of the process: a node of its own, or the bridge to a shared one."""
        if not self.shared and self.socket is None:
            return self.command_line()
        start = ["--start"] if self.shared else []
        socket = [] if self.socket is None else ["--socket", os.fspath(self.socket)]
        port = [] if self.port is None else ["--port", str(self.port)]
        return ["attach", *start, *socket, "--", *self.command_line(), *port]

    def environment(self, ephemeral_key: str | None = None) -> dict[str, str]:
        ephemeral = {} if ephemeral_key is None else {"P2P_NODE_EPHEMERAL_KEY": ephemeral_key}
        env = {**os.environ, **ephemeral, **self.env}
        if self.private_key is not None:
            env["PRIVATE_KEY"] = self.private_key
        return env


def options_signature() -> inspect.Signature:
    """Returns the signature of `Options` with the values of the default factories."""
    defaults = {one.name: one.default if one.default is not MISSING else one.default_factory() for one in fields(Options)}  # type: ignore[misc]
    found = inspect.signature(Options)
    return found.replace(parameters=[one.replace(default=defaults[one.name]) for one in found.parameters.values()])
