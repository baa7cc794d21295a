"""The kernel's trees: red-black trees, xarrays (and so IDRs), maple trees; bounded, none trusted.

What is walked is yielded as far as it could be read: a damaged branch ends there.
"""

import struct
from collections.abc import Iterator

from faultkit.kernel.objects import is_kernel_pointer, need
from faultkit.kernel.target import Kernel
from faultkit.target import ReadError

MOST_NODES = 100_000  # of one tree
MOST_DEPTH = 64  # of a red-black tree of 2^32 nodes


def rb_nodes(
    kernel: Kernel, top: int, limit: int = MOST_NODES, strict: bool = False
) -> Iterator[int]:
    """The rb_nodes of the tree whose topmost node is `top`, in order; with `strict` all of them,
    or ReadError."""
    pending: list[tuple[int, bool]] = [(top, False)]
    for _ in range(2 * limit):
        if not pending:
            return
        node, is_open = pending.pop()
        if is_open:
            yield node
            continue
        if not is_kernel_pointer(node) or node & 7 or len(pending) > 3 * MOST_DEPTH:
            continue
        try:
            # struct rb_node: __rb_parent_color, rb_right, rb_left
            _, right, left = kernel.words(node, 3)
        except ReadError:
            if strict:
                raise
            continue
        pending += [(right, False), (node, True), (left, False)]


# lib/xarray.c: internal entries have bits 10, and are nodes from 4096 on
_INTERNAL, _LEAST_NODE = 2, 4096
_SLOTS = 64


def xarray_load(kernel: Kernel, xarray: int, index: int) -> int:
    """The entry at an index of a struct xarray, 0 if there is none.  Raises ReadError,
    UnknownLayout."""
    entry = kernel.u64(xarray + need(kernel, "xarray", "xa_head"))
    shift_at, slots_at = need(kernel, "xa_node", "shift"), need(kernel, "xa_node", "slots")
    for depth in range(12):
        if entry & 3 != _INTERNAL or entry <= _LEAST_NODE:
            return entry if depth or index == 0 else 0
        node = entry - _INTERNAL
        shift = kernel.read(node + shift_at, 1)[0]
        place = index >> shift
        if depth == 0 and place >= _SLOTS:
            return 0
        entry = kernel.u64(node + slots_at + 8 * (place & (_SLOTS - 1)))
        if shift == 0:
            break
    return 0 if entry & 3 == _INTERNAL else entry


# include/linux/maple_tree.h
_NODE_BYTES = 256
_LEAF, _RANGE, _ARANGE = 1, 2, 3
_COUNTS = {_LEAF: 16, _RANGE: 16, _ARANGE: 10}  # slots, after a parent and one pivot less
_DEEPEST = 32  # levels, MAPLE_HEIGHT_MAX


def maple_entries(kernel: Kernel, tree: int, limit: int = MOST_NODES) -> Iterator[int]:
    """The entries of a struct maple_tree in the order of their indices, null ones left out.
    Raises ReadError for the tree itself, UnknownLayout."""
    root = kernel.u64(tree + need(kernel, "maple_tree", "ma_root"))
    if root & 3 != _INTERNAL or root <= _LEAST_NODE:
        yield from (root,) if root and not root & 3 else ()
        return
    pending = [(root, (1 << 64) - 1)]
    for _ in range(limit):
        if not pending:
            return
        node, most = pending.pop()
        kind = node >> 3 & 0xF
        count = _COUNTS.get(kind)
        if count is None or len(pending) > 16 * _DEEPEST:
            continue
        try:
            words = struct.unpack("<32Q", kernel.read(node & -_NODE_BYTES, _NODE_BYTES))
        except ReadError:
            continue
        pivots, slots = words[1:count], words[count : 2 * count]
        # a pivot of zero behind the first, or of the node's own end, ends it: the slot reaches
        # to its end
        used = next(
            (at for at, last in enumerate(pivots) if last >= most or (last == 0 and at)),
            len(pivots),
        )
        found = slots[: used + 1]
        if kind == _LEAF:
            yield from filter(None, found)
        else:
            ends = (*pivots[:used], most)
            pending += [(slot, last) for slot, last in zip(found, ends) if slot][::-1]
