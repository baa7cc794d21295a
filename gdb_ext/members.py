"""Which pointer is null, and which of its members was wanted: by debug information."""

from __future__ import annotations

import linecache
import re
from collections.abc import Iterator
from functools import partial

import gdb

from faultkit.target import Member
from gdb_ext.backtrace import told

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


DEEPEST = 3  # pointers that are followed from a variable
MOST_VALUES = 600  # that are looked at
MOST_FIELDS = 64  # of one structure
POINTERS = (gdb.TYPE_CODE_PTR, gdb.TYPE_CODE_REF, gdb.TYPE_CODE_RVALUE_REF)
STRUCTS = (gdb.TYPE_CODE_STRUCT, gdb.TYPE_CODE_UNION)


def members_in(frame: gdb.Frame, pointer: int, offset: int) -> list[Member]:
    """The pointers in scope in the frame that are `pointer`, with the member at `offset` in what
    they point to: those first that the source line names, then those nearest to a variable."""
    place = frame.find_sal()
    text = ""
    if place.symtab is not None and place.line:
        text = linecache.getline(told(place.symtab.fullname) or "", place.line)
    found: list[tuple[bool, bool, bool, int, Member]] = []
    for depth, name, value in _pointers(frame, text):
        try:
            if int(value) & (1 << 64) - 1 != pointer:
                continue
            target = _complete(value.type.strip_typedefs().target().strip_typedefs())
            member = _member_at(target, offset)
        except (gdb.error, ValueError, OverflowError):
            continue
        name = re.sub(r"(\.|->)_M_(ptr|t|p|head_impl)\b", "", re.sub(r"\._M_t\b.*", "", name))
        last = re.split(r"->|\.", name)[-1]
        if member is None:
            if target.sizeof and re.search(rf"\b{re.escape(last)}\s*\[", text):
                member = f"[{offset // target.sizeof}]"
            else:
                continue
        wanted = "" if member.startswith("_vptr") else re.split(r"[.\[]", member)[0]
        named = bool(text) and bool(re.search(rf"\b{re.escape(last)}\b", text))
        member_named = (
            bool(text)
            and bool(wanted)
            and bool(re.search(rf"(->|\.)\s*{re.escape(wanted)}\b", text))
        )
        inner = last.startswith("_")  # of a library's class: hardly what the source calls it
        found.append((not (named and (member_named or not wanted)), inner, not named, depth,
                      Member(name, member, told(partial(str, target)) or "")))  # fmt: skip
    found.sort(key=lambda one: one[:4])
    best = [one[4] for one in found if not one[0]]
    return best[:1] or [one[4] for one in found[:4]]


def _pointers(frame: gdb.Frame, text: str) -> Iterator[tuple[int, str, gdb.Value]]:
    """(depth, expression, value) of pointers to be had from the variables in scope and the
    globals that the source line names, breadth first, each pointed-to object once."""
    queue: list[tuple[int, str, gdb.Value]] = [*_variables(frame), *_globals(frame, text)]
    seen: set[tuple[int, str]] = set()
    looked_at = 0
    while queue and looked_at < MOST_VALUES:
        depth, name, value = queue.pop(0)
        looked_at += 1
        try:
            type_ = value.type.strip_typedefs()
            if type_.code in (gdb.TYPE_CODE_REF, gdb.TYPE_CODE_RVALUE_REF):
                value = value.referenced_value().address
                type_ = value.type.strip_typedefs()
            if type_.code == gdb.TYPE_CODE_PTR:
                if value.is_optimized_out:
                    continue
                yield depth, name, value
                target = type_.target().strip_typedefs()
                address = int(value)
                key = address, str(target)
                if target.code not in STRUCTS or key in seen or depth >= DEEPEST or not address:
                    continue
                seen.add(key)
                queue += _fields(value.dereference(), f"{name}->", depth + 1)
            elif type_.code in STRUCTS:
                queue += _fields(value, f"{name}.", depth)
        except (gdb.error, ValueError, OverflowError, RuntimeError):
            continue


def _fields(value: gdb.Value, prefix: str, depth: int) -> Iterator[tuple[int, str, gdb.Value]]:
    for field in value.type.strip_typedefs().fields()[:MOST_FIELDS]:
        if not hasattr(field, "bitpos"):
            continue  # a static member
        code = field.type.strip_typedefs().code
        if code in POINTERS or code in STRUCTS:
            hidden = field.is_base_class or not field.name
            name = prefix.rstrip(".") if hidden and prefix.endswith(".") else prefix
            named = name if hidden else f"{name}{field.name}"
            yield depth, named.rstrip("->") if hidden else named, value[field]


def _variables(frame: gdb.Frame | None) -> Iterator[tuple[int, str, gdb.Value]]:
    """The variables in scope in a frame, and in those that it is inlined in."""
    while frame is not None:
        try:
            block: Any = frame.block()
        except RuntimeError:  # no debug information here
            return
        while block is not None:
            for symbol in block:
                if symbol.is_variable or symbol.is_argument:
                    try:
                        yield 0, told(partial(getattr, symbol, "name")) or "", symbol.value(frame)
                    except (gdb.error, ValueError, RuntimeError):
                        continue
            if block.function is not None:
                break
            block = block.superblock
        frame = frame.older() if frame.type() == gdb.INLINE_FRAME else None


def _globals(frame: gdb.Frame, text: str) -> Iterator[tuple[int, str, gdb.Value]]:
    """The global and static variables that a line of source names."""
    for name in dict.fromkeys(re.findall(r"[A-Za-z_]\w*", text)[:MOST_FIELDS]):
        try:
            symbol = gdb.lookup_global_symbol(name) or gdb.lookup_static_symbol(name)
            if symbol is not None and symbol.is_variable and not symbol.needs_frame:
                yield 0, name, symbol.value()
        except (gdb.error, ValueError, RuntimeError, AttributeError):
            continue


def _complete(type_: gdb.Type) -> gdb.Type:
    """The type with its members, where this is only a declaration of it."""
    if type_.code in STRUCTS and not type_.fields():
        try:
            return gdb.lookup_type(told(partial(str, type_)) or "").strip_typedefs()
        except gdb.error:
            pass
    return type_


def _member_at(type_: gdb.Type, offset: int) -> str | None:
    """The member path at `offset` bytes in a type ("header.length", "slots[3]"), "" where there
    is none in one that fits; None if the offset lies outside of it."""
    if type_.code == gdb.TYPE_CODE_VOID or type_.code == gdb.TYPE_CODE_FUNC:
        return "" if not offset else None
    if type_.code == gdb.TYPE_CODE_ARRAY:
        element = type_.target().strip_typedefs()
        if not element.sizeof:
            return None
        index, rest = divmod(offset, element.sizeof)
        inner = _member_at(element, rest) if element.code in STRUCTS else ""
        return f"[{index}]" + (f".{inner}" if inner else "")
    if type_.code not in STRUCTS:
        # what an index reaches is no member
        return "" if 0 <= offset < max(type_.sizeof, 1) else None
    if not 0 <= offset < type_.sizeof:
        return None
    for field in type_.fields():
        if not hasattr(field, "bitpos") or (not field.name and not field.type):
            continue
        start, size = field.bitpos // 8, max(field.type.sizeof, 1)
        if not start <= offset < start + size:
            continue
        kind = field.type.strip_typedefs()
        inner = None
        if kind.code in STRUCTS or kind.code == gdb.TYPE_CODE_ARRAY:
            inner = _member_at(kind, offset - start)
        if field.is_base_class or not field.name:
            return inner or ""
        if not inner:
            return str(field.name)
        return f"{field.name}{inner}" if inner.startswith("[") else f"{field.name}.{inner}"
    return ""
