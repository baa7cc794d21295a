"""Words for accesses, addresses and values that are no pointers."""

from __future__ import annotations

from faultkit.signals.case import Case

TYPE_CHECKING = False
if TYPE_CHECKING:
    from faultkit.code.operands import Access

_FILLS = {  # bytes that allocators and debug builds fill memory with
    0xA5: "jemalloc's junk fill of new memory",
    0x5A: "jemalloc's junk fill of freed memory",
    0xBE: "AddressSanitizer's fill of new memory",
    0xCC: "the fill of uninitialised stacks",
    0xCD: "the fill of uninitialised heaps",
    0xDD: "the fill of freed heaps",
    0xFD: "the fill around heap blocks",
    0xFE: "the fill of freed memory",
    0x6B: "the fill of freed memory",
    0xAA: "clang's -ftrivial-auto-var-init=pattern",
}
_MARKS = (0xDEADBEEF, 0xBAADF00D, 0xFEEDFACE, 0xDEADC0DE, 0xCAFEBABE, 0xABADCAFE, 0xDEADDEAD)


def access_words(case: Case, access: Access | None) -> str:
    """ "reading 4 bytes at rax+0x20 (rax is 0)"."""
    if access is None:
        return "an access"
    verb = "writing" if access.mode == "write" else "reading"
    named = [name for name in (access.base, access.scaled) if name and name in case.registers]
    known = {name: case.registers[name] for name in named}
    values = ", ".join(f"{name} is {_number(value)}" for name, value in known.items())
    size = f"{access.size} byte" + ("" if access.size == 1 else "s")
    return f"{verb} {size} at {access.operand}" + (f" ({values})" if values else "")


def _number(value: int) -> str:
    return f"{value:#x}" if value > 9 else str(value)


def mapping_words(case: Case, address: int) -> str | None:
    """ "libx.so (r--p)", "anonymous memory (rw-)"; None if nothing is mapped there."""
    mapping = case.mapping(address)
    if mapping is None:
        return None
    name = mapping.path.rpartition("/")[2]
    if not name and _is_stack(case, mapping.start, mapping.end):
        name = "the stack"
    perms = mapping.perms[:3]
    return (name or "anonymous memory") + (f" ({perms})" if perms else "")


def _is_stack(case: Case, start: int, end: int) -> bool:
    return start <= case.registers.get("rsp", 0) < end


def pattern_words(case: Case, value: int) -> str:
    """What a value that is no good pointer looks like; "" if like nothing in particular."""
    data = value.to_bytes(8, "little")
    if data[0] in _FILLS and data == data[:1] * 8:
        return f"every byte is {data[0]:#04x}: {_FILLS[data[0]]}"
    text = data.rstrip(b"\0")
    if len(text) >= 4 and all(0x20 <= byte < 0x7F for byte in text):
        return f'its bytes are the text "{text.decode("ascii")}": a string has overwritten it'
    for size in (8, 4):
        if size == 4 and value >> 32 not in (0, 0xFFFFFFFF):
            continue
        one = data[0]
        if one and all(byte == one for byte in data[:size]):
            fill = _FILLS.get(one, "a fill, as MALLOC_PERTURB_ makes in freed memory")
            return f"every byte is {one:#04x}: {fill}"
    for mark in _MARKS:
        if value & 0xFFFFFFFF == mark or value >> 32 == mark:
            return f"it holds the mark {mark:#x} of memory that is not to be used"
    low = value & (1 << 48) - 1
    if low != value and low and case.mapping(low) is not None:
        return f"its low 48 bits, {low:#x}, are mapped: a tagged pointer, or damaged at its top"
    if value >> 31 in ((1 << 33) - 1, 0, 1) and value >> 12:
        half = value & 0xFFFFFFFF
        for mapping in case.process.mappings():
            if mapping.start >> 32 and any(
                mapping.start <= (high << 32 | half) < mapping.end
                for high in {mapping.start >> 32, mapping.end - 1 >> 32}
            ):
                return (
                    "it is the lower half of an address that is mapped: a pointer went through "
                    "an int, as with an undeclared function"
                )
    return ""


def near_words(case: Case, address: int) -> str:
    """Where an unmapped address lies between the mappings; "" if far from all."""
    below = above = None
    for mapping in case.process.mappings():
        if mapping.end <= address:
            below = mapping
        elif mapping.start > address:
            above = mapping
            break
    if below is not None and address - below.end < 1 << 16:
        name = below.path or "anonymous memory"
        return f"{address - below.end:#x} bytes behind the end of {name}: an overrun"
    if above is not None and above.start - address <= 1 << 12:
        return f"{above.start - address:#x} bytes before {above.path or 'anonymous memory'}"
    return ""
