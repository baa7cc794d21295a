"""Libraries' last words: what assert(), malloc and the stack protector say before they abort."""

from __future__ import annotations

from faultkit.record import NamedTuple
from faultkit.signals.case import Case
from faultkit.signals.origins._stack_scan import text_at
from faultkit.target import PAGE, FaultkitError

LONGEST = 2048
KEPT = (("__abort_msg", 4), ("__glib_assert_msg", 0))  # glibc's behind its size; GLib's
MOST_PAGES = 1 << 12  # of anonymous memory that are searched


class Message(NamedTuple):
    """The text, the kind of abort that it tells of, what it means in words; where it was."""

    text: str
    cause: str
    words: str
    next: str
    source: str = "the message was found by the form in which glibc keeps it for debuggers"


_KINDS = (
    ("ERROR:", "assertion", "An assertion of GLib's failed",
     "look at the condition, and at the variables of that function"),
    ("Assertion '", "assertion", "An assertion failed",
     "look at the condition, and at the variables of that function"),
    ("Assertion `", "assertion", "An assertion failed",
     "look at the condition, and at the variables of that function"),
    ("stack smashing detected", "stack-smashing",
     "A function found the guard on its stack overwritten: a local array was overrun",
     "look for an overrun in the function that calls __stack_chk_fail (the first of the program's "
     "own on the stack); compile with -fsanitize=address"),
    ("buffer overflow detected", "buffer-overflow",
     "A checked function (_FORTIFY_SOURCE) was to write more than its buffer holds",
     "look at the sizes that the caller gives it"),
    ("double free", "double-free", "A block of memory was freed twice",
     "run it under valgrind or -fsanitize=address: they name the first free()"),
    ("free(): invalid", "heap-corruption", "free() was given what malloc() never returned, or the "
     "heap is corrupted",
     "run it under valgrind or -fsanitize=address"),
    ("munmap_chunk(): invalid pointer", "heap-corruption",
     "free() was given what malloc() never returned, or the heap is corrupted",
     "run it under valgrind or -fsanitize=address"),
    ("terminate called", "terminate", "std::terminate() was called", ""),
)  # fmt: skip
_HEAP = ("malloc", "free(", "realloc", "calloc", "corrupt", "unaligned", "unsorted", "tcache",
         "fastbin", "chunk", "sysmalloc", "invalid size")  # fmt: skip


def abort_message(case: Case) -> Message | None:
    """What glibc's __abort_msg says (__libc_message and __assert_fail_base keep a copy of the
    text there for debuggers), None if there is none.

    Without symbols it is found by its form: a mapping of its own that begins with its size
    (struct abort_msg_s in include/stdlib.h)."""
    known = False
    for symbol, offset in KEPT:
        for address in case.code.addresses(symbol):
            known = known or symbol == "__abort_msg"
            pointer = case.word(address)
            text = text_at(case, pointer + offset, LONGEST) if pointer else ""
            if text:
                source = f"the message is where the library keeps it for debuggers ({symbol})"
                return classify(text)._replace(source=source)
    text = "" if known else _search(case)
    return classify(text) if text else None


def classify(text: str) -> Message:
    """The message with its kind."""
    line = " ".join(text.split())
    for mark, cause, words, next_ in _KINDS:
        if mark in line:
            return Message(line, cause, words, next_)
    if any(mark in line for mark in _HEAP):
        return Message(line, "heap-corruption", "malloc found its heap corrupted",
                       "run it under valgrind or -fsanitize=address: the overrun or use after "
                       "free came before")  # fmt: skip
    return Message(line, "abort-message", "The C library gave up", "")


def _search(case: Case) -> str:
    pages = 0
    for mapping in case.process.mappings():
        if mapping.path or mapping.perms[:2] not in ("rw", "") or mapping.start >> 47:
            continue
        for page in range(mapping.start, mapping.end, PAGE):
            pages += 1
            if pages > MOST_PAGES:
                return ""
            try:
                head = case.process.read(page, 16)
            except FaultkitError:
                break
            size = int.from_bytes(head[:4], "little")
            if not size or size % PAGE or page + size > mapping.end:
                continue
            text = text_at(case, page + 4, LONGEST)
            if len(text) >= 8 and text.endswith("\n"):
                return text
    return ""
