"""Handlers of requests of other agents: registers them, runs them, and sends their answers."""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from .arguments import payload
from .channel import Reply
from .decode import content
from .errors import CommandRefused, HandlerError, P2PError
from .types import (
    MAX_HANDLER_CODE_BYTES,
    MAX_HANDLER_MESSAGE_BYTES,
    MAX_WAITING_REQUESTS,
    ErrorCode,
    IncomingRequest,
    RequestCancelled,
    ResponseCredit,
)

#: Seconds until the SDK repeats an answer for which the node had no room.
BUSY_RETRY = 0.05
#: Requests of one kind that a handler works on at the same time, unless the program says otherwise. Our
#: choice: a handler that waits for others costs a few KiB.
CONCURRENCY = 256
#: The kind of a handler for all requests that no other handler takes.
ANY_KIND = "*"

Function = Callable[[IncomingRequest], Any]
logger = logging.getLogger("p2p_node")


class _Void(Exception):
    """The request needs no answer any more."""


@dataclass
class _Handler:
    function: Function
    concurrency: int
    running: int = 0
    waiting: deque[IncomingRequest] = field(default_factory=deque)


@dataclass(eq=False)
class _Running:
    """A request that a handler works on."""

    request: IncomingRequest
    credit: int
    sent: int = 0
    more: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Handlers:
    """The handlers of one node, and the requests that they work on."""

    def __init__(self, send: Callable[[Mapping[str, Any]], Awaitable[Reply]]) -> None:
        self._send = send
        self._handlers: dict[str, _Handler] = {}
        self._running: dict[str, _Running] = {}
        self._waiting = 0
        # `asyncio` holds tasks weakly.
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def kinds(self) -> list[str]:
        """Returns the kinds with a handler."""
        return list(self._handlers)

    def add(self, kind: str, function: Function, concurrency: int) -> None:
        """Sets the handler of a kind."""
        self._handlers[kind] = _Handler(function, concurrency)

    def remove(self, kind: str) -> None:
        """Removes the handler of a kind. Requests that it works on go on."""
        handler = self._handlers.pop(kind, None)
        for request in handler.waiting if handler is not None else ():
            self._waiting -= 1
            self._start(self._refuse(request, "HANDLER_REMOVED", "the program handles this kind no more"))

    def announce(self) -> None:
        """Tells the node the kinds, without waiting for its answer. The SDK repeats that after a restart."""
        self._start(self.tell())

    async def tell(self) -> None:
        """Tells the node the kinds."""
        await self._send({"type": "handle", "kinds": self.kinds})

    def on_event(self, event: object) -> bool:
        """Handles an event of a request of another agent. Returns `False` for other events."""
        if isinstance(event, IncomingRequest):
            self._on_request(event)
        elif isinstance(event, RequestCancelled):
            self._cancel(event.ticket)
        elif isinstance(event, ResponseCredit):
            running = self._running.get(event.ticket)
            if running is not None:
                running.credit = max(running.credit, event.parts)
                running.more.set()
        else:
            return False
        return True

    def process_ended(self) -> None:
        """Cancels all handlers: the node that waited for their answers is gone."""
        for handler in self._handlers.values():
            handler.waiting.clear()
        self._waiting = 0
        for running in list(self._running.values()):
            if running.task is not None:
                running.task.cancel()

    def _on_request(self, request: IncomingRequest) -> None:
        request = replace(request, data=content(request), encoding=None)
        handler = self._handlers.get(request.kind or ANY_KIND) or self._handlers.get(ANY_KIND)
        if handler is None:
            self._start(self._refuse(request, "HANDLER_REMOVED", "the program handles this kind no more"))
        elif handler.running < handler.concurrency:
            self._run(handler, request)
        elif self._waiting < MAX_WAITING_REQUESTS:
            self._waiting += 1
            handler.waiting.append(request)
        else:
            self._start(self._refuse(request, ErrorCode.BUSY, "too many requests wait for the handler"))

    def _cancel(self, ticket: str) -> None:
        running = self._running.get(ticket)
        if running is not None and running.task is not None:
            running.task.cancel()
            return
        for handler in self._handlers.values():
            for request in handler.waiting:
                if request.ticket == ticket:
                    handler.waiting.remove(request)
                    self._waiting -= 1
                    return

    def _run(self, handler: _Handler, request: IncomingRequest) -> None:
        running = _Running(request, request.credit)
        handler.running += 1
        self._running[request.ticket] = running
        running.task = self._start(self._answer(handler, running))
        running.task.add_done_callback(lambda task: self._finished(handler, running))

    def _finished(self, handler: _Handler, running: _Running) -> None:
        handler.running -= 1
        self._running.pop(running.request.ticket, None)
        if handler.waiting:
            self._waiting -= 1
            self._run(handler, handler.waiting.popleft())

    async def _answer(self, handler: _Handler, running: _Running) -> None:
        request = running.request
        try:
            result = handler.function(request)
            if inspect.isasyncgen(result):
                async with aclosing(result):
                    await self._stream(running, result)
            else:
                value = await result if inspect.isawaitable(result) else result
                await self._respond(running, payload(value))
        except _Void:
            pass
        except HandlerError as error:
            await self._refuse(request, error.code, error.message)
        except Exception as error:
            # The text may hold what other agents must not know.
            logger.exception("the handler of %r failed", request.kind)
            await self._refuse(request, _code(error), "the handler failed")

    async def _stream(self, running: _Running, parts: Any) -> None:
        if not running.request.stream:
            # The asker accepts one answer.
            return await self._respond(running, payload([part async for part in parts]))
        async for part in parts:
            while running.sent >= running.credit:
                running.more.clear()
                await running.more.wait()
            await self._respond(running, {**payload(part), "last": False})
            running.sent += 1
        await self._respond(running, {})

    async def _respond(self, running: _Running, fields: Mapping[str, Any]) -> None:
        """Sends an answer. Raises `_Void` if nobody waits for it."""
        command = {"type": "respond", "ticket": running.request.ticket, **fields}
        while True:
            try:
                await self._send(command)
                return
            except CommandRefused as error:
                if error.code == ErrorCode.BUSY:
                    await asyncio.sleep(BUSY_RETRY)
                elif error.code == ErrorCode.TICKET_NOT_FOUND:
                    raise _Void from None
                else:
                    raise

    async def _refuse(self, request: IncomingRequest, code: str, message: str) -> None:
        error = {"code": code, "message": _shortened(message)}
        try:
            await self._respond(_Running(request, 0), {"error": error})
        except (_Void, P2PError):
            pass  # the deadline tells the asker

    def _start(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.warning("an answer was not sent: %s", error)


def _code(error: Exception) -> str:
    """Returns the name of an exception as a code: `ValueError` is `VALUE_ERROR`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(error).__name__).upper()
    return re.sub(r"[^A-Z0-9_]", "_", words)[:MAX_HANDLER_CODE_BYTES]


def _shortened(message: str) -> str:
    """Returns the text without control characters, within the limit of the node."""
    printable = "".join(letter if letter.isprintable() else " " for letter in message)
    return printable.encode("utf-8", "replace")[:MAX_HANDLER_MESSAGE_BYTES].decode("utf-8", "ignore")
