"""The lists that an object is on: who gets at one of them gets to the object, though it has no
pointer to it while it sleeps."""

from __future__ import annotations

import struct
from collections.abc import Callable

from faultkit.kernel.objects import is_kernel_pointer, ring
from faultkit.kernel.system import System
from faultkit.record import NamedTuple
from faultkit.target import FaultkitError

AROUND = 512  # bytes of an object to either side of the address that is known
MOST_NODES = 1024  # of one list
MOST_LISTS = 16  # that are walked
MOST_ASKED = 64  # nodes, for the slab cache that they lie in
MOST_FOUND = 8  # that are looked for in code, or on stacks


class Nodes(NamedTuple):
    """List_heads in variables, which code names by their addresses, and in other objects."""

    variables: tuple[int, ...] = ()
    objects: tuple[int, ...] = ()


def nodes_beside(system: System, address: int, is_inside: Callable[[int], bool]) -> Nodes:
    """The list_heads, outside of the object around `address`, of the lists that it is on: their
    heads, and those of the others on them, a few of each kind.  Waiters' own, on stacks, are left
    out.  `is_inside` tells whether an address may be the object's."""
    kernel = system.kernel
    found: dict[int, bool] = {}  # whether it is a variable's
    walked = 0
    for start in (max(0, address - AROUND) & ~7, address & ~7):
        try:
            data = kernel.read(start, AROUND + 8)
        except FaultkitError:
            continue
        words = struct.unpack(f"<{len(data) // 8}Q", data)
        for number, (following, previous) in enumerate(zip(words, words[1:])):
            node = start + 8 * number
            if node in (following, previous) or walked >= MOST_LISTS:
                continue
            if not (is_kernel_pointer(following) and is_kernel_pointer(previous)):
                continue
            if not is_inside(node):
                continue
            try:
                if kernel.u64(following + 8) != node or kernel.u64(previous) != node:
                    continue
                walked += 1
                others = [other for other in ring(kernel, node, MOST_NODES) if not is_inside(other)]
            except FaultkitError:
                continue
            for other in others:
                if system.stack_owner(other) is None:
                    found[other] = system.symbol_at(other) is not None
    variables = [node for node, in_variable in found.items() if in_variable]
    objects = [node for node, in_variable in found.items() if not in_variable][:MOST_ASKED]
    own = _cache(system, address)
    objects.sort(key=lambda node: _cache(system, node) == own)  # a head is of another kind
    return Nodes(tuple(variables[:MOST_FOUND]), tuple(objects[:MOST_FOUND]))


def _cache(system: System, address: int) -> str | None:
    slab = system.kernel.slab(address)
    return slab.cache if slab is not None else None
