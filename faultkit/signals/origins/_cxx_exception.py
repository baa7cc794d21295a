"""The C++ exception that nobody caught: its type, and what it says.

The header in front of a thrown object is that of the Itanium C++ ABI (2.2.1), as libstdc++
(libsupc++/unwind-cxx.h) and libc++abi (cxa_exception.h) lay it out alike behind its type.
"""

from __future__ import annotations

from faultkit.record import NamedTuple
from faultkit.signals.case import Case
from faultkit.signals.origins._stack_scan import stack_words, text_at
from faultkit.target import FaultkitError

CLASSES = (b"\0++CCUNG", b"\1++CCUNG", b"\0++CGNLC", b"\1++CGNLC")  # little-endian
TYPE = -80  # from the unwind header: exceptionType; handlerCount
HANDLERS = -40
COUNT_GNU, COUNT_LLVM = -96, -88  # referenceCount: an int of libstdc++'s, a size_t of libc++abi's
MOST_REFERENCES = 64
OBJECT = 32  # the thrown object is behind the unwind header
DEEPEST = 8
MOST_CANDIDATES = 4096
_WITH_MESSAGE = ("St13runtime_error", "St11logic_error")  # hold a char * behind their vptr


class Exception_(NamedTuple):
    """`type` as written in C++, `what` its message or value, "" if it has none we can read."""

    type: str
    what: str


def uncaught(case: Case, sure: bool) -> Exception_ | None:
    """The exception whose header the stack leads to.  Unless it is `sure` that there is one, its
    handler count must show that it is being handled."""
    seen = set()
    values = [word for _, word in stack_words(case)] + list(case.registers.values())
    for word in values:
        if word < 1 << 16 or word >> 47 or word & 7 or word in seen:
            continue
        seen.add(word)
        if len(seen) > MOST_CANDIDATES:
            return None
        for header in (word, word - OBJECT):
            found = _exception(case, header, sure)
            if found is not None:
                return found
    return None


def _exception(case: Case, header: int, sure: bool) -> Exception_ | None:
    try:
        data = case.process.read(header, 8)
        if data not in CLASSES:
            return None
        thrown = header + OBJECT
        if data[:1] == b"\1":  # std::rethrow_exception: a dependent one, which leads to the first
            thrown = case.process.u64(header + TYPE)
            header = thrown - OBJECT
        place, size = (COUNT_GNU, 4) if data[4:5] == b"C" else (COUNT_LLVM, 8)
        count = int.from_bytes(case.process.read(header + place, size), "little")
        if not 1 <= count <= MOST_REFERENCES:
            return None  # freed: it was caught
        handlers = int.from_bytes(case.process.read(header + HANDLERS, 4), "little", signed=True)
        if not sure and not handlers:
            return None
        info = case.process.u64(header + TYPE)
        name = _type_name(case, info)
    except FaultkitError:
        return None
    if not name:
        return None
    return Exception_(demangle(name), _what(case, info, name, thrown))


def _type_name(case: Case, info: int) -> str:
    """The mangled name in a std::type_info ("*" marks local ones)."""
    try:
        name = text_at(case, case.process.u64(info + 8), 400).lstrip("*")
    except FaultkitError:
        return ""
    return name if name and name.isascii() and " " not in name else ""


def _what(case: Case, info: int, name: str, thrown: int) -> str:
    try:
        if name in ("i", "j", "l", "m", "x", "y"):
            size = 4 if name in "ij" else 8
            data = case.process.read(thrown, size)
            return str(int.from_bytes(data, "little", signed=name in "ilx"))
        if name in ("PKc", "Pc"):
            return text_at(case, case.process.u64(thrown))
        if name.startswith("NSt7__cxx1112basic_string") or name == "Ss":
            return text_at(case, case.process.u64(thrown))
        if any(base in _WITH_MESSAGE for base in _bases(case, info, 0)):
            return text_at(case, case.process.u64(thrown + 8))
    except FaultkitError:
        pass
    return ""


def _bases(case: Case, info: int, depth: int) -> list[str]:
    """The mangled names of a class and of those that it derives from at offset 0."""
    name = _type_name(case, info)
    if not name or depth > DEEPEST:
        return []
    try:
        base = case.process.u64(info + 16)  # __si_class_type_info
        if _type_name(case, base):
            return [name, *_bases(case, base, depth + 1)]
        base = case.process.u64(info + 24)  # the first base of a __vmi_class_type_info
        return [name, *_bases(case, base, depth + 1)]
    except FaultkitError:
        return [name]


_BUILTIN = {
    "i": "int", "j": "unsigned int", "l": "long", "m": "unsigned long", "x": "long long",
    "y": "unsigned long long", "c": "char", "b": "bool", "d": "double", "f": "float",
    "s": "short", "t": "unsigned short", "h": "unsigned char", "PKc": "char const*",
    "Pc": "char*", "Ss": "std::string",
    "NSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE": "std::string",
}  # fmt: skip


def demangle(name: str) -> str:
    """A class's mangled name as written in C++ ("St13runtime_error": std::runtime_error); names
    with templates as they are."""
    if name in _BUILTIN:
        return _BUILTIN[name]
    rest, parts = name, []
    nested = rest.startswith("N")
    rest = rest[1:] if nested else rest
    if rest.startswith("St"):
        parts.append("std")
        rest = rest[2:]
    while rest:
        if nested and rest == "E":
            break
        if rest.startswith("12_GLOBAL__N_1"):
            parts.append("(anonymous namespace)")
            rest = rest[14:]
            continue
        digits = len(rest) - len(rest.lstrip("0123456789"))
        size = int(rest[:digits]) if 0 < digits < 4 else 0
        if not size or len(rest) < digits + size:
            return name
        parts.append(rest[digits : digits + size])
        rest = rest[digits + size :]
    return "::".join(part for part in parts if not part.startswith("__cxx")) or name
