"""Explains why the system cannot run a binary.

Inspects the file only after a start has failed, and reads only its headers."""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path
from typing import BinaryIO

from .errors import BinaryUnusable, Exit

#: ELF `e_machine` numbers by the machine name that `uname` reports.
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
#: First bytes of the executables of other systems (Mach-O and PE).
FOREIGN = {
    b"\xcf\xfa\xed\xfe": "macOS",
    b"\xce\xfa\xed\xfe": "macOS",
    b"\xca\xfe\xba\xbe": "macOS",
    b"MZ": "Windows",
}
ELF = b"\x7fELF"
PT_INTERP = 3
#: Maximum length of an interpreter's path in bytes: PATH_MAX on Linux.
MAX_PATH = 4096
#: Ends that are typical of a damaged or foreign binary: SIGILL, SIGBUS (7 and 10), SIGSEGV, and
#: the exit codes of a shell that reads the binary as a script.
SUSPECT_SIGNALS, SUSPECT_CODES = frozenset({4, 7, 10, 11}), frozenset({0, 126, 127})
#: Messages of the glibc and musl loaders if the system's libraries do not match the binary.
LOADER_ERRORS = ("GLIBC_", "GLIBCXX_", "error while loading shared libraries", "Error relocating")

Fault = tuple[str, str]


def unusable(program: str, cwd: str | os.PathLike[str] | None, error: OSError) -> BinaryUnusable | None:
    """Returns the error for a program that the system did not start; `None` if the file is not the
    reason."""
    path = _resolve(program, cwd)
    fault = _fault(path)
    return None if fault is None else BinaryUnusable(str(path), *fault, system=error.strerror or str(error))


def unusable_after(program: str, cwd: str | os.PathLike[str] | None, exit: Exit, stderr: str) -> BinaryUnusable | None:
    """Returns the error for a program that exited before it was ready; `None` if the file is not
    the reason."""
    path = _resolve(program, cwd)
    if any(words in stderr for words in LOADER_ERRORS):
        advice = "this system's libraries do not match: install the build for its C library"
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
            return "missing", "the file does not exist: check the path or reinstall"
        if not path.is_file():
            return "not_a_file", "it is not a regular file: name the binary itself"
        # This check comes first: on such a file system nothing is executable.
        if os.statvfs(path).f_flag & getattr(os, "ST_NOEXEC", 0):
            return "noexec", "its file system is mounted with `noexec`: move it elsewhere"
        if not os.access(path, os.X_OK):
            return "not_executable", f"this user may not execute it: run chmod +x {path}"
        with path.open("rb") as file:
            return _content_fault(file, path.stat().st_size)
    except PermissionError as error:
        return "not_executable", f"this user may not read it ({error.strerror})"


def _content_fault(file: BinaryIO, size: int) -> Fault | None:
    start = file.read(64)
    if size == 0:
        return "empty", "the file is empty: install it again"
    for magic, system in FOREIGN.items():
        if start.startswith(magic) and system != _system():
            return "wrong_architecture", f"it is for {system}: install the one for {_system()}"
    if start.startswith(b"#!"):
        interpreter = start[2:].split(b"\n")[0].split()
        if interpreter and not os.path.exists(interpreter[0]):
            advice = f"install its interpreter {os.fsdecode(interpreter[0])}, which does not exist"
            return "missing_interpreter", f"it is a script: {advice}"
        return None
    if start.startswith(ELF):
        try:
            return _elf_fault(file, start, size)
        except struct.error:
            return "truncated", "the file is incomplete: install it again"
    if start.startswith(tuple(FOREIGN)):
        return None
    return "not_a_program", "it is neither a program nor a script: install it again"


def _elf_fault(file: BinaryIO, start: bytes, size: int) -> Fault | None:
    """Checks the headers of an ELF file. Raises `struct.error` if the file ends within them."""
    if len(start) < 20:
        raise struct.error("the ELF header is incomplete")
    order, wide = "<" if start[5] == 1 else ">", start[4] == 2
    header = struct.unpack_from(order + ("HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH"), start, 16)
    machine, programs, sections = header[1], header[4], header[5]
    program_size, program_count, section_size, section_count = header[8:12]
    ours = MACHINES.get(os.uname().machine)
    if ours is not None and machine != ours:
        here = os.uname().machine
        return "wrong_architecture", f"it is not a program for {here}: install the build for {here}"
    cut = "truncated", "the file is incomplete: install it again"
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
                advice = "install the build for this system's C library"
                return "missing_loader", f"its loader {loader} does not exist: {advice}"
    return None


def _system() -> str:
    return "macOS" if os.uname().sysname == "Darwin" else os.uname().sysname
