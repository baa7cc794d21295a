"""One way through a function's code, block after block, and what it gave in the end."""

from __future__ import annotations

from faultkit.code.encoding import REGISTERS
from faultkit.code.x86 import Instruction
from faultkit.infer.blocks import Block, Changes, Graph
from faultkit.infer.path import Event, Path, Summary
from faultkit.infer.values import Value, in_frame, unknown


class Walk:
    """What following one function gave; `narrow` says that only the ways which known registers
    allow were followed."""

    def __init__(self, graph: Graph, narrow: bool = False) -> None:
        self.graph = graph
        self.narrow = narrow
        self.at_stop: Path | None = None
        self.site = 0  # of the instruction where it is stopped
        self.live: Instruction | None = None  # the call or system call that it is stopped in
        self.at_return: Path | None = None
        self.events: list[Event] = []
        self.takes: list[tuple[int, Value]] = []  # (site, lock) of acquisitions
        self.atomics: list[Value] = []
        self.took = False  # locks, itself or in functions that it calls
        self.names: set[str] = set()  # of the functions called
        self.opaque: list[int] = []  # sites of calls to nobody knows what
        self.cut = False  # calls far down were not looked into
        self.unreached: set[int] = set()  # blocks that a known condition keeps from being reached


def summarise(walk: Walk) -> Summary:
    """What calling the function amounts to."""
    path = walk.at_return
    events = tuple(walk.events[:16])
    if path is None:
        return Summary(events=events, unknown=bool(walk.opaque), took=walk.took, cut=walk.cut)
    stores = tuple(
        (address, value, width)
        for address, (value, width) in path.memory.items()
        if not in_frame(address)
    )
    return Summary(
        tuple(path.held.items()),
        path.released,
        events,
        stores[:16],
        path.registers["rax"],
        unknown=bool(walk.opaque),
        passed=path.passed,
        kept=tuple(path.kept),
        took=walk.took,
        cut=walk.cut,
    )


def jump(arriving: dict[int, Path], graph: Graph, instruction: Instruction, path: Path) -> None:
    """The state of a jump is that of where it leads, too."""
    target = graph.by_start.get(instruction.target or 0)
    source = graph.block_of(instruction.address)
    if target is not None and source is not None:
        arrive(arriving, target, path, source)


def arrive(arriving: dict[int, Path], target: Block, path: Path, source: Block) -> None:
    """A path gets from one block to another, where it meets those that did before."""
    if target.position <= source.position:
        return  # the way back of a loop
    waiting = arriving.get(target.start)
    if waiting is None:
        arriving[target.start] = path.copy()
    else:
        waiting.merge(path, target.start)


def leave(walk: Walk, path: Path) -> None:
    """A path gets to the function's end."""
    if walk.at_return is None:
        walk.at_return = path.copy()
    else:
        walk.at_return.merge(path, -1)


def forget(path: Path, changes: Changes, address: int) -> None:
    """At a loop's start: what it changes is not known, it may have gone round before."""
    for memory in changes.stores:
        where = path.address(memory)
        if where is not None:
            path.store(where, unknown(address, "memory"), 8)
            path.memory.pop(where, None)
    for index, name in enumerate(REGISTERS):
        if changes.writes >> index & 1 and name != "rsp":
            path.registers[name] = unknown(("loop", address), name)
