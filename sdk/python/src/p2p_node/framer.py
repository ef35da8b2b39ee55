"""Splits bytes into lines. No I/O."""

from __future__ import annotations

from .types import MAX_LINE_BYTES

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Framer:
    """Splits a byte stream into lines at `\\n` only. The chunk boundaries have no effect.

    Skips blank lines. Skips lines longer than `limit` bytes and counts them in `too_long`."""

    def __init__(self, limit: int = MAX_LINE_BYTES) -> None:
        self.too_long = 0
        self._limit = limit
        self._partial = bytearray()
        self._skipping = False
        self._at_start = True

    def push(self, chunk: bytes) -> list[bytes]:
        """Adds the next chunk; returns the lines that end in it."""
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
            # The limit excludes a carriage return (1 byte) and a byte order mark (3 bytes).
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
