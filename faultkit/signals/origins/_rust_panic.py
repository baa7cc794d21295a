"""Rust's panics: where, and with what message, by what the panic machinery keeps on the stack."""

from __future__ import annotations

import struct

from faultkit.record import NamedTuple
from faultkit.signals.case import Case
from faultkit.signals.origins._stack_scan import stack_words
from faultkit.target import FaultkitError

LONGEST = 1024
BEFORE = 6  # words before and behind the location's pointer that may lead to the message


class Panic(NamedTuple):
    """`place` is "src/main.rs:10:5"; `message` is "" where it could not be found."""

    place: str
    message: str


def panic(case: Case) -> Panic | None:
    """The panic that the stack tells of: a core::panic::Location ({&str file, u32 line, u32
    column}), and near the pointer to it the payload, a &str or a String."""
    words = list(stack_words(case))
    found: list[Panic] = []
    seen: dict[int, str | None] = {}
    for index, (_, word) in enumerate(words):
        if word < 1 << 16 or word >> 47 or word & 7:
            continue
        if word not in seen:
            seen[word] = _location(case, word)
        place = seen[word]
        if place is not None:
            near = [value for _, value in words[max(0, index - BEFORE) : index + BEFORE]]
            found.append(Panic(place, _message(case, near, place)))
    # one in the program's own code, with its message, tells most; then any with a message
    found.sort(key=lambda one: (is_library(one.place), not one.message))
    said = next((one for one in found if one.message), None)
    return said if said is not None and is_library(found[0].place) else found[0] if found else None


def is_library(place: str) -> bool:
    """Whether the file is Rust's own."""
    return (
        place.startswith(("/rustc/", "library/"))
        or "/library/core/" in place
        or ("/library/std/" in place or "/library/alloc/" in place)
    )


def _location(case: Case, address: int) -> str | None:
    try:
        file, size, line, column = struct.unpack("<2Q2I", case.process.read(address, 24))
        if not (4 <= size <= 512 and 0 < line < 1 << 24 and 0 < column < 1 << 16):
            return None
        name = case.process.read(file, size).decode("utf-8")
    except (FaultkitError, UnicodeDecodeError):
        return None
    return f"{name}:{line}:{column}" if name.endswith(".rs") and name.isprintable() else None


def _message(case: Case, near: list[int], place: str) -> str:
    """The text that one of these words leads to as &&str or &String; the longest of them."""
    found = []
    for word in near:
        if word < 1 << 16 or word >> 47 or word & 7:
            continue
        try:
            triple = case.process.words(word, 3)
        except FaultkitError:
            continue
        for data, size in ((triple[0], triple[1]), (triple[1], triple[2]), (triple[0], triple[2])):
            text = _text(case, data, size)
            if text and text not in place:
                found.append(text)
    return max(found, key=len) if found else ""


def _text(case: Case, data: int, size: int) -> str:
    if not 3 <= size <= LONGEST or data < 1 << 16 or data >> 47:
        return ""
    try:
        text = case.process.read(data, size).decode("utf-8")
    except (FaultkitError, UnicodeDecodeError):
        return ""
    return text if all(c.isprintable() or c in "\n\t" for c in text) else ""
