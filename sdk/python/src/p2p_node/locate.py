"""Finds the binary: the given path, else the path in `P2P_NODE_BIN`, else the binary of the
installed package, else, only on request, PATH."""

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
    """Returns the path of the binary. Raises `BinaryNotFound`, which lists the searched places."""
    if binary is not None:
        return os.fspath(binary)
    named = os.environ.get(VARIABLE)
    if named:
        return named
    looked = [f"{VARIABLE} (not set)"]
    for directory in _bundled():
        candidate = directory / NAME
        # Also returns a file that is not executable: the start reports the reason.
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
    """Yields the directories into which the different modes of pip install a wheel's scripts."""
    package = Path(__file__).resolve().parent
    places: list[str | Path] = [
        sysconfig.get_path("scripts"),
        # `pip install --target`: beside the packages. `--prefix`: `bin` beside
        # `lib/pythonX.Y/site-packages`.
        package.parent / "bin",
        package.parent.parent.parent.parent / "bin",
        # `pip install --user`.
        sysconfig.get_path("scripts", scheme=sysconfig.get_preferred_scheme("user")),
        # A virtual environment with access to the packages of its base interpreter.
        Path(sys.base_prefix) / "bin",
    ]
    seen: set[Path] = set()
    for place in places:
        path = Path(place)
        if path not in seen:
            seen.add(path)
            yield path
