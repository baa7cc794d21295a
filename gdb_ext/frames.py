"""gdb's threads and their frames as `kdecode` takes them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import gdb

from faultkit.analyzers.kdecode_program import Stack
from faultkit.code.encoding import REGISTERS
from faultkit.decode.program import Unwound
from faultkit.model import Task
from faultkit.target import FaultkitError, ReadError
from gdb_ext.backtrace import PRESERVED, in_c, registers_of, told

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


MOST_FRAMES = 256
# include/uapi/asm-generic/siginfo.h: faults have positive codes, SI_KERNEL has no address
_FAULTS = {4: "SIGILL", 7: "SIGBUS", 8: "SIGFPE", 11: "SIGSEGV"}
_SI_KERNEL = 0x80
_SYMBOL = re.compile(r"([A-Za-z_.][\w.]*)(?:\+(0x[0-9a-fA-F]+|\d+))?(?:/0x[0-9a-fA-F]+)?$")


def stack_of(task: Task) -> Stack:
    """The frames of the selected thread."""
    try:
        newest = gdb.newest_frame()
    except gdb.error:
        return Stack(task, ())
    return Stack(task, list(_unwind(newest)), *_fault())


def _unwind(frame: Any) -> Iterator[Unwound]:
    exact = True
    current = _outermost(frame)
    for _ in range(MOST_FRAMES):
        if current is None:
            return
        is_signal = current.type() == gdb.SIGTRAMP_FRAME
        try:
            older = _outermost(current.older())
        except gdb.error:
            older = None
        names = (*REGISTERS, "rip") if exact else ("rsp", *PRESERVED)
        cfa = registers_of(older, ("rsp",)).get("rsp") if older is not None else None
        yield _unwound(current, exact or is_signal, registers_of(current, names),
                       None if is_signal else cfa)  # fmt: skip
        exact = is_signal
        current = older


def _outermost(frame: Any) -> Any:
    """The frame of the function itself, where gdb's is one of a function inlined into it."""
    for _ in range(MOST_FRAMES):
        if frame is None or frame.type() != gdb.INLINE_FRAME:
            return frame
        frame = frame.older()
    return None


def _unwound(frame: Any, exact: bool, registers: dict[str, int], cfa: int | None) -> Unwound:
    pc = frame.pc()
    name, start = _symbol(pc - (not exact))
    function = frame.function()
    if function is not None and function.symtab is not None:
        entry = int(function.value().address)
        # a part of the function that lies elsewhere (.cold) has a symbol of its own
        if start is None or start <= entry <= pc:
            start = entry
            name = told(lambda: function.linkage_name) or name
    if frame.type() == gdb.SIGTRAMP_FRAME:
        name, start = "<signal handler called>", None
    module = told(lambda: gdb.solib_name(pc) or gdb.current_progspace().filename)
    return Unwound(pc, exact, registers, cfa, name, start, module, partial(_linkage_name, start))


def _symbol(address: int) -> tuple[str | None, int | None]:
    """(name, start) of what covers an address, by gdb's minimal symbols."""
    text = in_c(f"info symbol {address:#x}")
    if " in section " not in text:
        return None, None
    head = text.split(" in section ")[0]
    name, _, offset = head.rpartition(" + ")
    start = address - int(offset) if name and offset.isdecimal() else address
    name = name if start != address else head
    if "." in name or "[" in name:  # of a clone or a part, which is not C++'s
        own = _linkage_name(start)
        if own is not None and not own.startswith(("_Z", "_R", "_D")):
            name = own
    return name, start


def _linkage_name(address: int | None) -> str | None:
    """The name that the file's symbol table has for what begins at an address: gdb shows it
    demangled, and takes the suffixes of the compiler's clones for a part of that."""
    text = in_c(f"with print demangle off -- info symbol {address or 0:#x}")
    return text.split(" in section ")[0] if " in section " in text else None


def symbol_at(address: int) -> tuple[str, int, int | None] | None:
    """(name, offset, size or None) of the symbol that covers an address."""
    name, start = _symbol(address)
    if name is None or start is None:
        return None
    try:
        block = gdb.block_for_pc(start)
    except (gdb.error, RuntimeError):
        block = None
    while block is not None and block.function is None:
        block = block.superblock
    size = block.end - start if block is not None and block.start == start else None
    return name, address - start, size


def _fault() -> tuple[str | None, int | None]:
    """(the signal that a fault of the selected thread brought about, the address accessed)."""
    try:
        info = gdb.parse_and_eval("$_siginfo")
        number, code = int(info["si_signo"]), int(info["si_code"])
        if number not in _FAULTS or code <= 0:
            return None, None
        address = int(info["_sifields"]["_sigfault"]["si_addr"]) & (1 << 64) - 1
    except (gdb.error, RuntimeError):
        return None, None
    return _FAULTS[number], None if code == _SI_KERNEL or number in (4, 8) else address


def places(words: tuple[str, ...], exact: bool) -> Stack:
    """Frames of nothing but places in code, as gdb understands them.  Raises FaultkitError for a
    word that is none, and if no place is in a function that gdb knows."""
    frames = []
    for word in words:
        try:
            try:
                with _c():
                    address = _evaluated(word)
            except (gdb.error, ValueError, TypeError):
                address = _evaluated(word)
        except (gdb.error, ValueError, TypeError):
            raise FaultkitError(
                f"{word} is no address or symbol here", "kdecode [ADDRESS|SYMBOL+OFFSET]..."
            ) from None
        name, start = _symbol(address)
        is_start = start == address
        if not is_start and not exact:
            name, start = _symbol(address - 1)
        frames.append(Unwound(address, exact or is_start, {}, None, name, start,
                              told(partial(gdb.solib_name, address)),
                              partial(_linkage_name, start)))  # fmt: skip
    if words and not any(frame.symbol for frame in frames):
        raise FaultkitError(f"{words[0]} is not in a function that gdb knows", "`info symbol`")
    return Stack(None, frames)


@contextmanager
def _c() -> Iterator[None]:
    """Expressions are C's meanwhile, whatever the selected frame is written in."""
    language = gdb.parameter("language")
    gdb.execute("set language c", to_string=True)
    try:
        yield
    finally:
        gdb.execute(f"set language {language}", to_string=True)


def _evaluated(word: str) -> int:
    """The address that a word means.  Raises gdb.error, ValueError, TypeError."""
    value = gdb.parse_and_eval(_expression(word))
    if value.type.strip_typedefs().code == gdb.TYPE_CODE_FUNC:
        value = value.address
    return int(value) & (1 << 64) - 1


def _expression(word: str) -> str:
    """A word as gdb is to evaluate it: a plain hexadecimal number needs its prefix, and a symbol
    with an offset would be a pointer's arithmetic."""
    if len(word) >= 8 and all(letter in "0123456789abcdefABCDEF" for letter in word):
        return f"0x{word}"
    match = _SYMBOL.match(word)
    if match:
        return f"(unsigned long)&'{match[1]}' + {match[2] or 0}"
    return word


def file_of(address: int) -> str | None:
    """The file that has the symbols for an address, where no mapping tells."""
    try:
        table = gdb.find_pc_line(address).symtab
    except gdb.error:
        return None
    if table is not None and table.objfile is not None:
        return told(lambda: table.objfile.filename)
    return told(lambda: gdb.solib_name(address) or gdb.current_progspace().filename)


def read_static(address: int, size: int) -> bytes:
    """Bytes of the files that are loaded, without a process."""
    try:
        return bytes(gdb.selected_inferior().read_memory(address, size).tobytes())
    except (gdb.error, OverflowError, SystemError):
        raise ReadError(address, size) from None
