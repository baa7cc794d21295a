"""A function's basic blocks, in an order in which every block comes after those that lead to it
(loops aside), and what its loops may change."""

from __future__ import annotations

from faultkit.code.encoding import REGISTERS, Memory
from faultkit.code.x86 import Instruction
from faultkit.infer.code import Function
from faultkit.infer.values import CLOBBERED
from faultkit.record import NamedTuple

SCRATCH = sum(1 << REGISTERS.index(name) for name in CLOBBERED)


class Changes(NamedTuple):
    """What a loop may change: registers as in Instruction.writes, and places in the frame."""

    writes: int
    stores: tuple[Memory, ...]


class Block:
    """A run of instructions entered only at its start; `follows` are the blocks behind it."""

    def __init__(self, body: list[Instruction]) -> None:
        self.body = body
        self.start = body[0].address
        self.follows: list[Block] = []
        self.leads: list[Block] = []  # the blocks that lead here
        self.position = -1  # in the order of `ordered`
        self.loop: Changes | None = None  # if it is a loop's head


class Graph:
    """The blocks of a function that its start leads to, in reverse postorder."""

    def __init__(self, function: Function) -> None:
        self.by_start = _split(function)
        blocks = list(self.by_start.values())
        for number, block in enumerate(blocks):
            self._link(function, block, blocks[number + 1] if number + 1 < len(blocks) else None)
        self.ordered: list[Block] = []
        if blocks:
            self._attach_switches(function, blocks)
            self.ordered = _reverse_postorder(blocks[0])
        for position, block in enumerate(self.ordered):
            block.position = position
        for block in self.ordered:
            for head in block.follows:
                if head.position <= block.position:
                    _note_loop(head, block)

    def _link(self, function: Function, block: Block, following: Block | None) -> None:
        last = block.body[-1]
        targets = [self.by_start.get(last.target)] if last.target is not None else []
        if last.kind == "call":
            targets = []
        if last.kind not in ("jmp", "ret", "trap"):
            targets.append(following)
        for target in targets:
            if target is not None:
                block.follows.append(target)
                target.leads.append(block)

    def _attach_switches(self, function: Function, blocks: list[Block]) -> None:
        """A jump through a table leads to blocks that nothing else leads to, but for what only
        fills the room before another."""
        switches = [block for block in blocks if _may_use_table(block.body[-1])]
        for switch in switches[:8]:
            for block in blocks[1:]:
                if not block.leads and not _is_padding(block):
                    switch.follows.append(block)
                    block.leads.append(switch)

    def unreached(self) -> list[Block]:
        """The blocks that nothing leads to from the function's start."""
        return [block for block in self.by_start.values() if block.position < 0]

    def is_switch(self, jump: Instruction) -> bool:
        """Whether a jump goes through a table, of addresses or of offsets, to one of the
        function's blocks; others that leave it call functions, which return to its caller."""
        block = self.block_of(jump.address)
        return _may_use_table(jump) and block is not None and bool(block.follows)

    def block_of(self, address: int) -> Block | None:
        """The block that has an instruction at `address`."""
        for block in self.ordered:
            if block.start <= address < block.body[-1].end:
                return block
        return None

    def ahead(self, site: int, here: int) -> bool:
        """Whether the code at `site` can still run once `here` (an instruction) is done."""
        start, goal = self.block_of(here), self.block_of(site)
        if start is None or goal is None:
            return False
        if start is goal and site > here:
            return True
        seen: set[int] = set()
        pending = list(start.follows)
        while pending:
            block = pending.pop()
            if block is goal:
                return True
            if block.start not in seen:
                seen.add(block.start)
                pending.extend(block.follows)
        return False


def _is_padding(block: Block) -> bool:
    return all(instruction.kind == "nop" for instruction in block.body)


def _may_use_table(instruction: Instruction) -> bool:
    """Whether it jumps to where a register says, or an entry of a table."""
    if instruction.kind != "jmp" or instruction.target is not None:
        return False
    source = instruction.source
    return not isinstance(source, Memory) or source.scaled is not None


def graph_of(function: Function) -> Graph:
    """The function's blocks; made once."""
    if function.graph is None:
        function.graph = Graph(function)
    return function.graph


def _split(function: Function) -> dict[int, Block]:
    leaders = {function.start}
    for instruction in function.body:
        if instruction.kind in ("jcc", "jmp", "ret", "trap"):
            leaders.add(instruction.end)
            if function.contains(instruction.target):
                leaders.add(instruction.target or 0)
    blocks: dict[int, Block] = {}
    run: list[Instruction] = []
    for instruction in function.body:
        if instruction.address in leaders and run:
            blocks[run[0].address] = Block(run)
            run = []
        run.append(instruction)
    if run:
        blocks[run[0].address] = Block(run)
    return blocks


def _reverse_postorder(entry: Block) -> list[Block]:
    order: list[Block] = []
    seen = {entry.start}
    stack = [(entry, iter(entry.follows))]
    while stack:
        block, following = stack[-1]
        for target in following:
            if target.start not in seen:
                seen.add(target.start)
                stack.append((target, iter(target.follows)))
                break
        else:
            order.append(block)
            stack.pop()
    return order[::-1]


def _note_loop(head: Block, tail: Block) -> None:
    """Add to the head what the blocks of its loop may change."""
    body = {head.start: head}
    pending = [tail]
    while pending:
        block = pending.pop()
        if block.start not in body and block.position >= 0:
            body[block.start] = block
            pending.extend(block.leads)
    writes, stores = 0, []
    for block in body.values():
        for instruction in block.body:
            if instruction.kind == "call":
                writes |= SCRATCH
            elif instruction.kind not in ("push", "leave"):
                writes |= instruction.writes
            place = instruction.destination
            if isinstance(place, Memory) and place.base in ("rsp", "rbp"):
                stores.append(place)
    before = head.loop or Changes(0, ())
    head.loop = Changes(before.writes | writes, before.stores + tuple(stores))
