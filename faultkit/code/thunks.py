"""Retpolines: what an indirect call goes to where compilers and the kernel guard it, and by which
register it goes on (arch/x86/lib/retpoline.S; gcc's and clang's own have the same names)."""

from __future__ import annotations

_STARTS = ("__x86_indirect_thunk_", "__x86_indirect_call_thunk_", "__x86_indirect_its_thunk_")
_LEGACY = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp")
_REGISTERS = frozenset((*_LEGACY, *(f"r{number}" for number in range(8, 16))))
# An alias for code that runs before the kernel is where it is linked to (arch/x86/boot/startup).
_ALIAS = "__pi_"


def _rest(name: str) -> str | None:
    name = name[len(_ALIAS) :] if name.startswith(_ALIAS) else name
    return next((name[len(start) :] for start in _STARTS if name.startswith(start)), None)


def is_thunk(name: str) -> bool:
    """Whether the function, or the array of them that has that name, is such."""
    return _rest(name) is not None


def thunk_register(name: str) -> str | None:
    """The register through which it calls on; None if it is no such function."""
    register = _rest(name)
    return register if register in _REGISTERS else None
