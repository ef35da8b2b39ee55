"""Why a binary cannot be run: what its file says about it. Reads a few bytes, and only after a start has failed."""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path
from typing import BinaryIO

from .errors import BinaryUnusable, Exit

#: Numbers of ELF's `e_machine`, by the names that `uname` gives to machines.
MACHINES = {
    "x86_64": 62,
    "amd64": 62,
    "i386": 3,
    "i686": 3,
    "aarch64": 183,
    "arm64": 183,
    "armv6l": 40,
    "armv7l": 40,
    "ppc64": 21,
    "ppc64le": 21,
    "riscv64": 243,
    "s390x": 22,
}
#: How the files of other systems begin, Mach-O and PE.
FOREIGN = {
    b"\xcf\xfa\xed\xfe": "macOS",
    b"\xce\xfa\xed\xfe": "macOS",
    b"\xca\xfe\xba\xbe": "macOS",
    b"MZ": "Windows",
}
ELF = b"\x7fELF"
PT_INTERP = 3
#: Bytes that the path of an interpreter has at most: Linux's PATH_MAX.
MAX_PATH = 4096
#: How a program ends that is damaged, or that the system runs in vain: SIGILL, SIGBUS, SIGSEGV, and a shell's codes.
SUSPECT_SIGNALS, SUSPECT_CODES = frozenset({4, 7, 10, 11}), frozenset({0, 126, 127})
#: What the loaders of glibc and musl write when the library is not the one that the program was linked with.
LOADER_ERRORS = ("GLIBC_", "GLIBCXX_", "error while loading shared libraries", "Error relocating")

Fault = tuple[str, str]


def unusable(program: str, cwd: str | os.PathLike[str] | None, error: OSError) -> BinaryUnusable | None:
    """The error for a program that the system did not start; `None` if the file is not at fault."""
    path = _resolve(program, cwd)
    fault = _fault(path)
    return None if fault is None else BinaryUnusable(str(path), *fault, system=error.strerror or str(error))


def unusable_after(program: str, cwd: str | os.PathLike[str] | None, exit: Exit, stderr: str) -> BinaryUnusable | None:
    """The error for a program that ended before it said anything; `None` if the file is not at fault."""
    path = _resolve(program, cwd)
    if any(words in stderr for words in LOADER_ERRORS):
        advice = "its libraries do not fit this system: take the build for this system's C library"
        return BinaryUnusable(str(path), "missing_loader", advice, system=str(exit), stderr_tail=stderr)
    if exit.signal not in SUSPECT_SIGNALS and exit.code not in SUSPECT_CODES:
        return None
    fault = _fault(path)
    return None if fault is None else BinaryUnusable(str(path), *fault, system=str(exit), stderr_tail=stderr)


def _resolve(program: str, cwd: str | os.PathLike[str] | None) -> Path:
    if os.sep not in program:
        return Path(shutil.which(program) or program)
    return Path(cwd or ".", program)


def _fault(path: Path) -> Fault | None:
    try:
        if not path.exists():
            return "missing", "there is no such file"
        if not path.is_file():
            return "not_a_file", "it is no file"
        # First, for on such a file system no file may be executed.
        if os.statvfs(path).f_flag & getattr(os, "ST_NOEXEC", 0):
            return "noexec", "its file system is mounted with `noexec`: put it elsewhere"
        if not os.access(path, os.X_OK):
            return "not_executable", f"it may not be executed: chmod +x {path}"
        with path.open("rb") as file:
            return _content_fault(file, path.stat().st_size)
    except PermissionError as error:
        return "not_executable", f"it may not be read ({error.strerror})"


def _content_fault(file: BinaryIO, size: int) -> Fault | None:
    start = file.read(64)
    if size == 0:
        return "empty", "the file is empty: install it again"
    for magic, system in FOREIGN.items():
        if start.startswith(magic) and system != _system():
            return "wrong_architecture", f"it is a program for {system}"
    if start.startswith(b"#!"):
        interpreter = start[2:].split(b"\n")[0].split()
        if interpreter and not os.path.exists(interpreter[0]):
            return "missing_interpreter", f"it is a script, and its interpreter {os.fsdecode(interpreter[0])} does not exist"
        return None
    if start.startswith(ELF):
        try:
            return _elf_fault(file, start, size)
        except struct.error:
            return "truncated", "the file is cut off: install it again"
    if start.startswith(tuple(FOREIGN)):
        return None
    return "not_a_program", "it is neither a program nor a script: install it again"


def _elf_fault(file: BinaryIO, start: bytes, size: int) -> Fault | None:
    """Raises `struct.error` where the file ends within what is read of it."""
    if len(start) < 20:
        raise struct.error("not even a machine is named")
    order, wide = "<" if start[5] == 1 else ">", start[4] == 2
    header = struct.unpack_from(order + ("HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH"), start, 16)
    machine, programs, sections = header[1], header[4], header[5]
    program_size, program_count, section_size, section_count = header[8:12]
    ours = MACHINES.get(os.uname().machine)
    if ours is not None and machine != ours:
        return "wrong_architecture", f"it is a program for another machine than this {os.uname().machine}"
    cut = "truncated", "the file is cut off: install it again"
    if max(sections + section_size * section_count, programs + program_size * program_count) > size:
        return cut
    for number in range(program_count):
        file.seek(programs + program_size * number)
        entry = struct.unpack(order + ("IIQQQQ" if wide else "IIIII"), file.read(40 if wide else 20))
        kind, offset, length = entry[0], entry[2 if wide else 1], entry[5 if wide else 4]
        if offset + length > size:
            return cut
        if kind == PT_INTERP and length <= MAX_PATH:
            file.seek(offset)
            loader = os.fsdecode(file.read(length).rstrip(b"\0"))
            if not os.path.exists(loader):
                return "missing_loader", f"its loader {loader} does not exist here: take the build for this system's C library"
    return None


def _system() -> str:
    return "macOS" if os.uname().sysname == "Darwin" else os.uname().sysname
