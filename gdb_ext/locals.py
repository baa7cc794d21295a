"""The local variables of gdb's frames that are objects: guards of locks are among them."""

from collections.abc import Iterator
from functools import partial

import gdb

from faultkit.target import Local
from gdb_ext.backtrace import told

MOST_MEMBERS = 24  # of one local variable that are looked at


def frame_locals(frame: gdb.Frame, index: int) -> Iterator[Local]:
    """Those of one frame, with its number.  Raises gdb.error."""
    try:
        block = frame.block()
    except RuntimeError:  # no debug information here
        return
    line = frame.find_sal().line
    while block is not None:
        for symbol in block:
            if not (symbol.is_variable or symbol.is_argument):
                continue
            type_ = symbol.type.strip_typedefs()
            if type_.code != gdb.TYPE_CODE_STRUCT:
                continue
            try:
                value = symbol.value(frame)
                address = int(value.address) if value.address is not None else None
                pointers = dict(_pointers(value, "", 0))
            except (gdb.error, ValueError):  # ValueError: names in no charset
                continue
            yield Local(
                index,
                told(partial(getattr, symbol, "name")) or "",
                told(partial(str, type_)) or "",
                address,
                pointers,
                symbol.line,
                line,
                told(frame.name),
            )
        if block.function is not None:
            return
        block = block.superblock


def _pointers(value: gdb.Value, path: str, depth: int) -> Iterator[tuple[str, int]]:
    """(member path, value) of the pointers, references, integers and flags inside a struct."""
    if depth > 4:
        return
    for field in value.type.strip_typedefs().fields()[:MOST_MEMBERS]:
        if not hasattr(field, "bitpos"):
            continue  # a static member
        name = f"{path}.{field.name}" if path else str(field.name)
        member = value[field]
        kind = member.type.strip_typedefs().code
        if kind in (gdb.TYPE_CODE_PTR, gdb.TYPE_CODE_INT, gdb.TYPE_CODE_BOOL):
            yield name, int(member) & 0xFFFF_FFFF_FFFF_FFFF
        elif kind in (gdb.TYPE_CODE_REF, gdb.TYPE_CODE_RVALUE_REF):
            yield name, int(member.referenced_value().address)
        elif kind == gdb.TYPE_CODE_STRUCT:
            yield from _pointers(member, path if field.is_base_class else name, depth + 1)
