"""A function's instructions as blocks, its cold part included, with what leads to each block."""

from __future__ import annotations

from faultkit.code.thunks import is_thunk
from faultkit.code.x86 import Instruction, instructions
from faultkit.senders.text import Function, KernelText

MOST_INSTRUCTIONS = 40_000
# Functions that do not return: what lies behind a call of them is other code.
_NO_RETURN = frozenset((
    "do_exit", "make_task_dead", "do_group_exit", "panic", "nmi_panic", "__stack_chk_fail",
    "rewind_stack_and_make_dead", "rewind_stack_do_exit", "__module_put_and_kthread_exit",
    "kthread_exit", "machine_real_restart", "stop_this_cpu", "fortify_panic", "__fortify_panic",
    "snp_abort", "sev_es_terminate", "ex_handler_msr_mce", "x86_64_start_reservations",
))  # fmt: skip
_RETURNS = ("__x86_return_thunk", "srso_", "zen_untrain_ret", "its_return_thunk", "retbleed_")


class Block:
    """A run of instructions entered only at its start; `leads` are the blocks before it."""

    def __init__(self, body: list[Instruction]) -> None:
        self.body = body
        self.start = body[0].address
        self.leads: list[Block] = []


class Body:
    """One function's blocks; `sites` are its instructions by address."""

    def __init__(self, text: KernelText, function: Function) -> None:
        self.text = text
        self.function = function
        self.sites: dict[int, tuple[Block, int]] = {}
        self.blocks: dict[int, Block] = {}
        code = [self._decode(function)]
        targets = {one.target for one in code[0] if one.kind in ("jcc", "jmp")}
        targets.update(at for one in code[0] for at in text.hidden.get(one.address, ()))
        # Of several functions with one name each has its own cold part: the one it leads to.
        parts = [
            part
            for part in text.parts.get(function.name, ())
            if any(at is not None and part.start <= at < part.end for at in targets)
        ]
        code += [self._decode(part) for part in parts]
        pieces = [function, *parts]
        leaders = {piece.start for piece in pieces}
        for piece in code:
            for instruction in piece:
                if instruction.kind in ("jcc", "jmp", "ret", "trap"):
                    leaders.add(instruction.end)
                    if instruction.target is not None:
                        leaders.add(instruction.target)
                for target in text.hidden.get(instruction.address, ()):
                    leaders.update((instruction.end, target))
        for piece in code:
            self._split(piece, leaders)
        for piece in code:
            self._link(piece)
        self._drop_padding()
        self._link_lone_blocks()

    def _decode(self, piece: Function) -> list[Instruction]:
        found = []
        for instruction in instructions(self.text.read, piece.start, piece.end):
            found.append(instruction)
            if len(found) >= MOST_INSTRUCTIONS:
                break
        return found

    def _split(self, code: list[Instruction], leaders: set[int]) -> None:
        run: list[Instruction] = []
        for instruction in code:
            if instruction.address in leaders and run:
                self._add(run)
                run = []
            run.append(instruction)
        if run:
            self._add(run)

    def _add(self, run: list[Instruction]) -> None:
        block = self.blocks[run[0].address] = Block(run)
        for index, instruction in enumerate(run):
            self.sites[instruction.address] = block, index

    def _link(self, code: list[Instruction]) -> None:
        falls: list[tuple[Block, Block]] = []
        for instruction in code:
            block = self.sites[instruction.address][0]
            if block.body[-1] is not instruction:
                continue
            for target in self.text.hidden.get(instruction.address, ()):
                if target in self.blocks:
                    self.blocks[target].leads.append(block)
            if instruction.kind in ("jcc", "jmp") and instruction.target in self.blocks:
                self.blocks[instruction.target or 0].leads.append(block)
            behind = self.blocks.get(instruction.end)
            if behind is None or self.ends(instruction):
                continue
            if instruction.kind == "trap":
                falls.append((block, behind))
            else:
                behind.leads.append(block)
        for block, behind in falls:
            # ud2 is WARN, and goes on, or BUG, and does not; a block that something else leads to
            # loses nothing without it.
            if not behind.leads:
                behind.leads.append(block)

    def _drop_padding(self) -> None:
        """NOPs between a jump and an aligned block lead nowhere."""
        padding = {
            block.start
            for block in self.blocks.values()
            if not block.leads and all(one.kind == "nop" for one in block.body)
        } - {self.function.start}
        for block in self.blocks.values():
            block.leads = [lead for lead in block.leads if lead.start not in padding]

    def ends(self, instruction: Instruction) -> bool:
        """Whether what lies behind the instruction is not reached through it."""
        if instruction.kind in ("jmp", "ret"):
            return True
        return instruction.kind == "call" and self.callee(instruction) in _NO_RETURN

    def _link_lone_blocks(self) -> None:
        """A jump through a table leads to blocks that nothing else leads to."""
        switches = [
            block
            for block in self.blocks.values()
            if block.body[-1].kind == "jmp" and self._is_switch(block.body[-1])
        ]
        if not switches:
            return
        for block in self.blocks.values():
            if not block.leads and block.start != self.function.start:
                block.leads.extend(switches[:8])

    def _is_switch(self, instruction: Instruction) -> bool:
        if instruction.target is None:
            return True
        return is_thunk(self.callee(instruction) or "")

    def callee(self, instruction: Instruction) -> str | None:
        """The name of the function that a direct call or jump leads to."""
        if instruction.target is None:
            return None
        found = self.text.starting(instruction.target)
        return found.base if found is not None else None
