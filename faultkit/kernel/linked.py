"""The lists that an object is on: who gets at one of them gets to the object, though it has no
pointer to it while it sleeps."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from faultkit.kernel.objects import is_kernel_pointer, ring
from faultkit.kernel.system import System
from faultkit.kernel.target import Kernel
from faultkit.record import NamedTuple
from faultkit.target import FaultkitError

AROUND = 512  # bytes of an object to either side of the address that is known
MOST_NODES = 1024  # of one list
MOST_LISTS = 16  # that are walked
MOST_ASKED = 64  # nodes, for the slab cache that they lie in
MOST_ABOVE = 64  # nodes of a tree, or of a hash table's list
MOST_FOUND = 8  # that are looked for in code, or on stacks


class Nodes(NamedTuple):
    """List_heads in variables, which code names by their addresses, and in other objects."""

    variables: tuple[int, ...] = ()
    objects: tuple[int, ...] = ()


def nodes_beside(system: System, address: int, is_inside: Callable[[int], bool]) -> Nodes:
    """The list_heads, outside of the object around `address`, of the lists that it is on: their
    heads, and those of the others on them, a few of each kind; of hash tables' lists and of trees
    likewise, as far as they lead upwards.  Waiters' own, on stacks, are left out.  `is_inside`
    tells whether an address may be the object's."""
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
            if links_of_deferred(system, node, words[number : number + 6]):
                continue
            nodes = _nodes_on(kernel, node, following, previous)
            if nodes is None or not is_inside(node):  # crash takes long to tell the latter
                continue
            walked += 1
            for other in nodes:
                if not is_inside(other) and system.stack_owner(other) is None:
                    found[other] = system.symbol_at(other) is not None
    variables = [node for node, in_variable in found.items() if in_variable]
    objects = [node for node, in_variable in found.items() if not in_variable][:MOST_ASKED]
    own = _cache(system, address)
    objects.sort(key=lambda node: _cache(system, node) == own)  # a head is of another kind
    return Nodes(tuple(variables[:MOST_FOUND]), tuple(objects[:MOST_FOUND]))


def links_of_deferred(system: System, node: int, words: Sequence[int]) -> int:
    """How many words at `node`, of which `words` are the first, link a timer, a high-resolution
    timer or a work item with others of its kind, which may be anybody's; 0 if it is in none.

    struct timer_list, timerqueue_node and hrtimer, work_struct: what they call is behind that."""
    kernel, room = system.kernel, len(words)
    try:
        if room > 3 and system.is_code(words[3]) and is_kernel_pointer(words[1]):
            return 2 if kernel.u64(words[1]) == node else 0
        if room > 2 and system.is_code(words[2]) and all(map(is_kernel_pointer, words[:2])):
            return 2 if kernel.u64(words[0] + 8) == node == kernel.u64(words[1]) else 0
        if room > 5 and system.is_code(words[5]):
            parent = words[0] & ~3
            below = is_kernel_pointer(parent) and node in kernel.words(parent, 3)[1:]
            children = filter(is_kernel_pointer, words[1:3])
            return 3 if below or any(kernel.u64(child) & ~3 == node for child in children) else 0
    except FaultkitError:
        pass
    return 0


def _nodes_on(kernel: Kernel, node: int, following: int, previous: int) -> list[int] | None:
    """The nodes above one of a tree or of a hash table's list, or all others of the list_head's
    list; None if it, whose first words are given, is none of these."""
    above = _above_in_tree(kernel, node, following)
    if not above and is_kernel_pointer(previous) and not _is_circular(kernel, node):
        above = _above_in_hash(kernel, node, previous)
    if above:
        return above
    if not (is_kernel_pointer(following) and is_kernel_pointer(previous)):
        return None
    try:
        if kernel.u64(following + 8) != node or kernel.u64(previous) != node:
            return None
    except FaultkitError:
        return None
    try:
        return list(ring(kernel, node, MOST_NODES))
    except FaultkitError:
        return []


def _is_circular(kernel: Kernel, node: int) -> bool:
    """Whether it is a list_head: an hlist_node looks the same, but its list ends."""
    try:
        for _ in ring(kernel, node, MOST_NODES):
            pass
    except FaultkitError:
        return False
    return True


def _above_in_hash(kernel: Kernel, node: int, back: int) -> list[int]:
    """The nodes before an hlist_node (include/linux/list.h), and the list's head: what its `pprev`
    leads to.  [] if it is none."""
    found: list[int] = []
    for _ in range(MOST_ABOVE):
        if not is_kernel_pointer(back) or back & 7:
            break
        try:
            if kernel.u64(back) != node:
                break
            found.append(back)
            node, back = back, kernel.u64(back + 8)  # behind a list's head lies something else
        except FaultkitError:
            break
    return found


def _above_in_tree(kernel: Kernel, node: int, parent_and_colour: int) -> list[int]:
    """The nodes above an rb_node (include/linux/rbtree_types.h), the uppermost one last; [] if it
    is none, or has none above it."""
    found: list[int] = []
    for _ in range(MOST_ABOVE):
        parent = parent_and_colour & ~3
        if not is_kernel_pointer(parent) or parent & 7:
            break
        try:
            parent_and_colour, right, left = kernel.words(parent, 3)
        except FaultkitError:
            break
        if node not in (right, left):
            break
        found.append(parent)
        node = parent
    return found


def _cache(system: System, address: int) -> str | None:
    slab = system.kernel.slab(address)
    return slab.cache if slab is not None else None
