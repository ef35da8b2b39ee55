"""Bytes to lines. No I/O."""

from __future__ import annotations

from .types import MAX_LINE_BYTES

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Framer:
    """Cuts a byte stream into lines at `\\n` alone; how it is cut into chunks makes no difference.

    A line of more than `limit` bytes is skipped and counted in `too_long`; blank lines are no lines."""

    def __init__(self, limit: int = MAX_LINE_BYTES) -> None:
        self.too_long = 0
        self._limit = limit
        self._partial = bytearray()
        self._skipping = False
        self._at_start = True

    def push(self, chunk: bytes) -> list[bytes]:
        """Takes the next chunk; returns the lines that end in it."""
        *ended, rest = chunk.split(b"\n")
        lines = []
        for part in ended:
            if self._skipping:
                self._skipping = False
                continue
            line = bytes(self._partial) + part if self._partial else part
            self._partial.clear()
            line = self._bare(line)
            if len(line) > self._limit:
                self.too_long += 1
            elif line.strip():
                lines.append(line)
        if not self._skipping:
            self._partial += rest
            # With a carriage return and a byte order mark it may still be short enough.
            if len(self._partial) > self._limit + 4:
                self._partial.clear()
                self._skipping = True
                self._at_start = False
                self.too_long += 1
        return lines

    def _bare(self, line: bytes) -> bytes:
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(BYTE_ORDER_MARK)
        return line.removesuffix(b"\r")
