"""The host by PyKdump: its modules `crash` and `pykdump`, as they are documented.

PyKdump's Python is cut off from the system's, with a part of the standard library; nothing beyond
that part may be imported on the way to a report.
"""

from __future__ import annotations

import os
import re
import sys

import crash

from crash_ext import commands
from crash_ext.bridge import Bridge, BridgeError, Listed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


PAGE = 4096
MOST_PAGES = 4096  # kept, of a dump, which does not change
NAME_LENGTH = 16  # include/linux/sched.h, TASK_COMM_LEN
_TASK = re.compile(r"[> ]\s*(\d+)\s+\d+\s+(\d+)\s+([0-9a-f]{8,16})\s+\S\S\s")
_SYMBOL = re.compile(r"([0-9a-f]{8,16}) \(.\) ")
_LINE = re.compile(r"[0-9a-f]+ \(.\) \S+ (?:\[\S+\] )?(\S.*: \d+)\s*$", re.MULTILINE)


class PykdumpBridge(Bridge):
    """crash by PyKdump's functions, and by text where they have none."""

    def __init__(self) -> None:
        system = self.run("sys")
        self.version = str(getattr(crash, "Crash_run", None) or getattr(crash, "version", "?"))
        self.dumpfile = _field(system, "DUMPFILE")
        self.namelist = _field(system, "KERNEL")
        self._debug = _field(system, "DEBUG KERNEL") or _field(system, "DEBUGINFO")
        self.live = "LIVE_SYSTEM" in self.run("help -p")
        self._pages: dict[int, bytes] = {}

    def read(self, address: int, size: int) -> bytes:
        start = address - address % PAGE
        if self.live or address + size > start + PAGE:
            return self._read(address, size, crash.KVADDR)
        page = self._pages.get(start)
        if page is None:
            if len(self._pages) >= MOST_PAGES:
                self._pages.clear()
            page = self._pages[start] = self._read(start, PAGE, crash.KVADDR)
        return page[address - start : address - start + size]

    def read_physical(self, address: int, size: int) -> bytes:
        return self._read(address, size, crash.PHYSADDR)

    def _read(self, address: int, size: int, space: int) -> bytes:
        if not (0 < address < 1 << 64 and size > 0):  # 0 is an IndexError there
            raise BridgeError(f"cannot read {size} bytes at {address:#x}")
        try:
            data = bytes(crash.readmem(address, size, space))
        except crash.error as error:
            raise BridgeError(str(error)) from None
        if len(data) != size:
            raise BridgeError(f"cannot read {size} bytes at {address:#x}")
        return data

    def translate(self, task: int, address: int) -> tuple[int | None, bool]:
        try:
            return crash.uvtop(task, address) or None, False
        except crash.error:
            return None, False

    def symbol(self, name: str) -> int | None:
        return crash.sym2addr(name) or None

    def lookup(self, address: int) -> tuple[str, int, str | None] | None:
        found = crash.addr2sym(address, True)
        if not found or found[0] is None:
            return None
        return found[0], found[1], crash.addr2mod(address)

    def bounds(self, address: int) -> tuple[int, int] | None:
        found = sorted(int(value, 16) for value in _SYMBOL.findall(self.run(f"sym -n {address:x}")))
        later = [value for value in found if value > address]
        return (address, later[0]) if later else None

    def line(self, address: int) -> str:
        match = _LINE.search(self.run(f"sym {address:x}"))
        return match[1] if match else ""

    def offset(self, type_name: str, member: str) -> int | None:
        return _known(crash.member_offset, type_name, member)

    def size(self, type_name: str, member: str | None = None) -> int | None:
        if member is not None:
            return _known(crash.member_size, type_name, member)
        found = _known(crash.struct_size, type_name)
        return found if found is not None else _known(crash.union_size, type_name)

    def enumerator(self, name: str) -> int | None:
        try:
            return crash.enumerator_value(name)
        except crash.error:
            return None

    def tasks(self, tgid_offset: int) -> list[Listed]:
        name_at = self.offset("task_struct", "comm")
        return [
            self._listed(int(tid), int(cpu), int(address, 16), tgid_offset, name_at)
            for tid, cpu, address in _TASK.findall(self.run("ps"))
        ]

    def _listed(
        self, tid: int, cpu: int, address: int, tgid_offset: int, name_at: int | None
    ) -> Listed:
        pid, name = tid, ""
        try:
            pid = int.from_bytes(self.read(address + tgid_offset, 4), "little")
            if name_at is not None:
                text = self.read(address + name_at, NAME_LENGTH).split(b"\0")[0]
                name = text.decode("utf-8", "backslashreplace")
        except BridgeError:
            pass
        return Listed(address, tid, pid, name, cpu)

    def debug_files(self) -> list[str]:
        kernel = self._debug or self.namelist
        return [kernel, *self.module_files()] if kernel else []

    def run(self, command: str) -> str:
        try:
            return str(crash.exec_crash_command(command, 1))
        except crash.error as error:
            raise BridgeError(str(error).strip() or f"{command}: no answer") from None

    def gdb(self, command: str) -> str:
        try:
            text = crash.get_GDB_output(command)
        except crash.error as error:
            raise BridgeError(str(error)) from None
        if text is None:
            raise BridgeError(f"{command}: gdb gave up")
        return str(text)


def _known(function: Any, *arguments: str) -> int | None:
    """What one of PyKdump's functions for types says, where it means "none" by -1."""
    try:
        found = function(*arguments)
    except crash.error:
        return None
    return found if found is not None and found >= 0 else None


def _field(system: str, name: str) -> str | None:
    """A line of `sys`, without the remarks behind a file name: "[TAINTED]", "[PARTIAL DUMP]"."""
    match = re.search(rf"^\s*{name}: (.+?)(?:\s+\[[A-Z ]+\])*\s*$", system, re.MULTILINE)
    return match[1] if match else None


class PykdumpSession(commands.Session):
    """Where the output goes can't be told: no colours."""

    name = "crash"

    def __init__(self) -> None:
        self.bridge = PykdumpBridge()

    def is_terminal(self) -> bool:
        return False

    def without(self, module: str) -> str:
        version = f"3.{sys.version_info[1]}"
        return (
            f"PyKdump's own library lacks it: start crash with PYKDUMPPATH=/usr/lib/python{version}"
            f", the standard library of a Python {version}"
        )


def main(arguments: list[str]) -> None:
    """Run the program by whose name it was called: `faultkit COMMAND`, or a command."""
    name = os.path.splitext(os.path.basename(arguments[0]))[0]
    if name not in commands.COMMANDS:
        name = "faultkit"
    try:
        _register(os.path.dirname(os.path.realpath(__file__)))
        commands.run([name, *arguments[1:]], PykdumpSession())
    except BrokenPipeError:
        return
    except KeyboardInterrupt:
        sys.stdout.write(f"{name}: interrupted\n")
    except (BridgeError, crash.error) as error:
        sys.stdout.write(f"{name}: crash failed: {' '.join(str(error).split())}\n")
    sys.stdout.flush()


def _register(folder: str) -> None:
    """Make commands of the programs beside this file, where PyKdump will find them by their names:
    with this folder in PYKDUMPPATH."""
    path = os.environ.get("PYKDUMPPATH", "").split(os.pathsep)
    if folder not in map(os.path.realpath, filter(None, path)):
        return
    known = set(crash.get_epython_cmds())
    for name, (_, short, synopsis, *description) in commands.help_tables():
        if name not in known and os.path.isfile(os.path.join(folder, name + ".py")):
            crash.register_epython_prog(name, short, synopsis, "\n".join(description))
