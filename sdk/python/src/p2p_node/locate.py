"""Where the binary is: as named, as `P2P_NODE_BIN` says, as it was installed with this package, or, only if asked, on PATH."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from .errors import BinaryNotFound

VARIABLE = "P2P_NODE_BIN"
NAME = "p2p-node"


def find_binary(binary: str | os.PathLike[str] | None = None, *, search_path: bool = False) -> str:
    """The path of the binary. Raises `BinaryNotFound`, which names the places that were looked at."""
    if binary is not None:
        return os.fspath(binary)
    named = os.environ.get(VARIABLE)
    if named:
        return named
    looked = [f"{VARIABLE} (not set)"]
    for directory in _bundled():
        candidate = directory / NAME
        # Also one that cannot be run: the start says why.
        if candidate.is_file():
            return str(candidate)
        looked.append(str(directory))
    if search_path:
        found = shutil.which(NAME)
        if found:
            return found
        looked.append("PATH")
    raise BinaryNotFound(looked)


def _bundled() -> Iterator[Path]:
    """Where pip puts a wheel's scripts, by the ways in which it may have been told to install it."""
    package = Path(__file__).resolve().parent
    places: list[str | Path] = [
        sysconfig.get_path("scripts"),
        # pip install --target: beside the packages; --prefix: bin beside lib/pythonX.Y/site-packages.
        package.parent / "bin",
        package.parent.parent.parent.parent / "bin",
        # pip install --user.
        sysconfig.get_path("scripts", scheme=sysconfig.get_preferred_scheme("user")),
        # A virtual environment that sees the packages of the interpreter it was made with.
        Path(sys.base_prefix) / "bin",
    ]
    seen: set[Path] = set()
    for place in places:
        path = Path(place)
        if path not in seen:
            seen.add(path)
            yield path
