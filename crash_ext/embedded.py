"""The host by faultkit.so: Python embedded in crash, with the C module _faultkit."""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
from collections.abc import Callable

import _faultkit

from crash_ext import commands
from crash_ext.bridge import Bridge, BridgeError, Listed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    T = TypeVar("T")


# What this file takes from the library; one that was built before it came lacks some of it.
_TAKEN = (
    "Error about bounds btf_index enumerator gdb is_terminal line lookup member_type offset read "
    "read_each read_physical run size symbol tasks translate words_of_each write"
).split()
_MISSING = [name for name in _TAKEN if not hasattr(_faultkit, name)]


class Output(io.TextIOBase):
    """sys.stdout, onto the output of the running command: terminal, pager, pipe or file.

    Kept back until flushed: crash sets its pipes and files unbuffered.
    """

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._pieces.append(text)
        self._size += len(text)
        if self._size > 1 << 15:
            self.flush()
        return len(text)

    def flush(self) -> None:
        text = "".join(self._pieces)
        self._pieces, self._size = [], 0
        if text:
            _faultkit.write(text.encode("utf-8", "backslashreplace"))


def _asked(call: Callable[..., T], *arguments: Any) -> T:
    try:
        return call(*arguments)
    except _faultkit.Error as error:
        raise BridgeError(str(error).strip()) from None


class EmbeddedBridge(Bridge):
    """crash by its own functions."""

    def __init__(self) -> None:
        about = _faultkit.about()
        self.version = about["version"]
        self.dumpfile = about["dumpfile"]
        self.namelist = about["namelist"]
        self.live = about["live"]
        self.symbol = _faultkit.symbol  # type: ignore[method-assign]

    def read(self, address: int, size: int) -> bytes:
        try:
            return _faultkit.read(address, size)
        except _faultkit.Error as error:
            raise BridgeError(str(error)) from None

    def read_each(self, pieces: list[tuple[int, int]]) -> list[bytes | None] | None:
        return _faultkit.read_each(pieces)

    def words_of_each(
        self, pieces: list[bytes], most: int, *ranges: tuple[int, int]
    ) -> list[bytes] | None:
        return _faultkit.words_of_each(pieces, most, *[end for ends in ranges for end in ends])

    def read_physical(self, address: int, size: int) -> bytes:
        return _asked(_faultkit.read_physical, address, size)

    def translate(self, task: int, address: int) -> tuple[int | None, bool]:
        physical, swapped = _asked(_faultkit.translate, task, address)
        return physical, bool(swapped)

    def symbol(self, name: str) -> int | None:
        return _faultkit.symbol(name)

    def lookup(self, address: int) -> tuple[str, int, str | None] | None:
        return _asked(_faultkit.lookup, address)

    def bounds(self, address: int) -> tuple[int, int] | None:
        return _asked(_faultkit.bounds, address)

    def line(self, address: int) -> str:
        return _asked(_faultkit.line, address)

    def offset(self, type_name: str, member: str) -> int | None:
        return _faultkit.offset(type_name, member)

    def size(self, type_name: str, member: str | None = None) -> int | None:
        return _faultkit.size(type_name, member)

    def member_type(self, type_name: str, member: str) -> str | None:
        return _faultkit.member_type(type_name, member)

    def btf_index(self, types: bytes) -> tuple[bytes, bytes]:
        return _faultkit.btf_index(types)

    def debug_files(self) -> list[str]:
        about = _faultkit.about()
        return [about["debug_file"] or about["namelist"], *self.module_files()]

    def enumerator(self, name: str) -> int | None:
        return _faultkit.enumerator(name)

    def tasks(self, tgid_offset: int) -> list[Listed]:
        return [Listed(*task) for task in _faultkit.tasks(tgid_offset)]

    def run(self, command: str) -> str:
        text, errors = _asked(_faultkit.run, command)
        if errors and not text:
            raise BridgeError(errors.strip())
        return text

    def gdb(self, command: str) -> str:
        text, errors = _asked(_faultkit.gdb, command)
        if errors and not text:
            raise BridgeError(errors.strip())
        return text


class EmbeddedSession(commands.Session):
    """What the commands are told of their surroundings."""

    name = "crash"

    def __init__(self) -> None:
        self.bridge = EmbeddedBridge()

    def is_terminal(self) -> bool:
        return _faultkit.is_terminal()


def start() -> tuple[Callable[[list[str]], None], list[tuple[str, list[str]]]]:
    """The function that runs all commands, and [(name, lines of help), ...]."""
    # Python's own handler is needed for KeyboardInterrupt; C puts crash's back behind it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdout = Output()  # for what is printed between commands
    sys.modules["readline"] = None  # type: ignore[assignment]  # it would take over crash's keys
    if not getattr(sys, "argv", None):
        sys.argv = ["faultkit"]
    return dispatch, commands.help_tables()


def dispatch(words: list[str]) -> None:
    """Run one command; nothing is raised."""
    if _MISSING:
        _complain(
            words,
            "faultkit.so is older than the files beside it; build it (make crash-ext) "
            "and start crash again",
        )
        return
    outer = sys.stdout  # a command may run in another one, whose output is elsewhere
    sys.stdout = Output()
    collecting = gc.isenabled()
    gc.disable()  # nearly all that a command makes lasts as long as it does
    try:
        try:
            commands.run(words, EmbeddedSession())
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        pass  # the pager or `| head` has seen enough
    except KeyboardInterrupt:
        _complain(words, "interrupted")
    except OSError as error:
        _complain(words, error.strerror or str(error))
    finally:
        sys.stdout = outer
        if collecting:
            gc.enable()
            gc.collect(1)  # what the command left behind, and no more


def _complain(words: list[str], message: str) -> None:
    os.write(2, f"{words[0]}: {message}\n".encode("utf-8", "backslashreplace"))
