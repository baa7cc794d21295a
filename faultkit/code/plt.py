"""Calls into other images: which function a PLT stub, or a call through the GOT, reaches."""

from __future__ import annotations

from array import array

from faultkit.code.encoding import Memory
from faultkit.code.images import Image, Images
from faultkit.code.symbols import dynamic_symbols, symbol_at
from faultkit.code.x86 import decode
from faultkit.record import NamedTuple
from faultkit.target import ReadError

DT_PLTRELSZ, DT_RELA, DT_RELASZ, DT_JMPREL = 2, 7, 8, 23
R_X86_64_64, R_X86_64_GLOB_DAT, R_X86_64_JUMP_SLOT = 1, 6, 7
_NAMED = (R_X86_64_64, R_X86_64_GLOB_DAT, R_X86_64_JUMP_SLOT)
MAX_RELOCATIONS = 64 << 20  # bytes
_STUB = 24  # bytes: endbr64, bnd jmp


class Import(NamedTuple):
    """A function that is reached through the GOT.

    `name` is the imported name (or the symbol at the slot's value), None if unknown; `address`
    is the slot's value where that is a function's start (not yet so before lazy binding).
    """

    name: str | None
    address: int | None
    slot: int


def plt_target(images: Images, address: int) -> Import | None:
    """What the PLT stub at `address` jumps to; None if there is no such stub.

    Takes .plt, .plt.sec, .plt.got and what other linkers make of them: at most an endbr64,
    then a jump through rip-relative memory.
    """
    image = images.at(address)
    if image is None:
        return None
    try:
        code = images.read(address, _STUB)
    except ReadError:
        return None
    first = decode(code, address)
    if first is not None and first.kind == "nop":
        first = decode(code, first.end, first.size)
    if first is None or first.kind != "jmp":
        return None
    slot = slot_of(first.source)
    return None if slot is None else got_target(images, slot)


def slot_of(operand: object) -> int | None:
    """The address of a rip-relative (or absolute) memory operand, else None."""
    if isinstance(operand, Memory) and not (operand.base or operand.scaled or operand.segment):
        return operand.displacement
    return None


def got_target(images: Images, slot: int) -> Import | None:
    """The function that the GOT slot at `slot` stands for; None if it isn't one.

    The relocation of the slot names it; where there is none (static-pie, IRELATIVE), the
    symbol at the slot's present value does.
    """
    image = images.at(slot)
    if image is None:
        return None
    name = _relocated_name(image, slot)
    value: int | None = None
    try:
        value = int.from_bytes(images.read(slot, 8), "little")
    except ReadError:
        if name is None:
            return None
    target = images.at(value) if value else None
    if value is None or target is None or not target.is_code(value):
        return Import(name, None, slot) if name else None
    if name is not None and target is image and _is_lazy(images, value):
        return Import(name, None, slot)
    if name is None:
        symbol = symbol_at(target, value)
        name = symbol.name if symbol and not symbol.offset else None
    return Import(name, value, slot)


def _is_lazy(images: Images, address: int) -> bool:
    """Whether code at `address` is the PLT's "push n; jmp" of a slot that is not bound yet."""
    try:
        code = images.read(address, 16)
    except ReadError:
        return False
    first = decode(code, address)
    if first is not None and first.kind == "nop":
        first = decode(code, first.end, first.size)
    return first is not None and first.kind == "push" and isinstance(first.source, int)


def _relocated_name(image: Image, slot: int) -> str | None:
    symbols = None
    for table, size in ((DT_JMPREL, DT_PLTRELSZ), (DT_RELA, DT_RELASZ)):
        offsets, infos = _relocations(image, table, size)
        try:
            info = infos[offsets.index(slot - image.bias)]
        except ValueError:
            continue
        if info & 0xFFFFFFFF in _NAMED and info >> 32:
            symbols = symbols or dynamic_symbols(image)
            if symbols is not None:
                return symbols.name(info >> 32) or None
    return None


def _relocations(image: Image, table: int, size: int) -> tuple[array[int], array[int]]:
    """(offsets, infos) of a relocation table with addends, in the file's own addresses."""
    cache: dict[int, tuple[array[int], array[int]]] = image.__dict__.setdefault("_relocations", {})
    if table not in cache:
        words = array("Q")
        address = image.dynamic_address(table)
        count = min(image.dynamic.get(size, 0), MAX_RELOCATIONS) // 24
        if address is not None and count:
            try:
                words.frombytes(image.read(address, 24 * count))
            except ReadError:
                words = array("Q")
        cache[table] = words[0::3], words[1::3]
    return cache[table]
