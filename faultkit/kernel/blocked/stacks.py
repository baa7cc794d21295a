"""The functions on a sleeping task's stack, the whole call chain, with as few unwinds as can be."""

from __future__ import annotations

import struct

from faultkit.kernel.registers import frames_with_registers
from faultkit.kernel.sleeper import ENTRIES, SWITCHED, Sleeper
from faultkit.kernel.system import base_name
from faultkit.target import FaultkitError

LONGEST = 64  # frames


def call_chain(sleeper: Sleeper) -> tuple[str, ...]:
    """The functions of the back trace, innermost first, without clone suffixes.

    Tasks that sleep in the same way have the same chain: it is followed by the calls that were met
    on other stacks (see Sleeper.callers), and only what leaves these is unwound.  () where the
    stack can't be read.
    """
    if _has_unknown_modules(sleeper):
        # the host knows no modules, and leaves their frames out
        frames = frames_with_registers(sleeper.system, sleeper.task)
        return tuple(base_name(frame.symbol or "") for frame in frames[:LONGEST])
    walked = _walk(sleeper)
    if walked is None:
        sleeper.learn()
        return tuple(
            base_name(frame.symbol or "")
            for frame in sleeper.frames[:LONGEST]
            if frame.address >> 63
        )
    return walked


def _has_unknown_modules(sleeper: Sleeper) -> bool:
    """Whether the host lacks symbols that a stack was seen to have."""
    try:
        return bool(sleeper.functions) and sleeper.system.modules.answered
    except FaultkitError:
        return False


def _walk(sleeper: Sleeper) -> tuple[str, ...] | None:
    known = sleeper.system.calls
    try:
        window = sleeper.window
    except FaultkitError:
        return ()
    words = struct.unpack_from(f"<{len(window) // 8}Q", window)
    at = SWITCHED // 8
    names: list[str] = []
    while len(names) < LONGEST:
        name, steps = known.get(words[at] if at < len(words) else 0, ("", ()))
        fits = [
            step // 8
            for step, outer in steps
            if not step or (at + step // 8 < len(words) and words[at + step // 8] == outer)
        ]
        if name in ENTRIES:
            return (*names, name)
        if len(fits) != 1:
            return None
        names.append(name)
        if not fits[0]:
            break
        at += fits[0]
    return tuple(names)
