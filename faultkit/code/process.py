"""One process's code behind one object: what the rest of faultkit asks for."""

from __future__ import annotations

from collections.abc import Mapping as Registers
from collections.abc import Sequence
from contextlib import suppress

from faultkit.code import FormatError, cfi
from faultkit.code.arguments import Value, argument_at_call, index_of
from faultkit.code.images import Images, Read
from faultkit.code.lines import lines_at
from faultkit.code.plt import Import, got_target, plt_target, slot_of
from faultkit.code.symbols import Symbol, addresses_of, symbol_at
from faultkit.code.unwind import Step, call_target, unwind
from faultkit.code.x86 import Instruction, call_before, instructions
from faultkit.model import Frame, SourceLine
from faultkit.places import is_library_image
from faultkit.target import Mapping, ReadError

MAX_FUNCTION = 1 << 18  # bytes of a function that are decoded


class Code:
    """Symbols, frames, lines and instructions of one process, read lazily and kept.

    No method raises for what is in the target: None or an empty result says "not known".
    """

    def __init__(
        self,
        read: Read,
        mappings: Sequence[Mapping],
        pid: int | None = None,
        here: bool = True,
    ) -> None:
        """`pid` only where /proc/PID of this machine is the process (not for a core); `here` as
        for Process."""
        self.read = read
        self.images = Images(read, mappings, pid, here)
        self._functions: dict[int, tuple[Instruction, ...]] = {}

    def prepare(self) -> None:
        """Import what debug information is read with, which takes longer than most of it."""
        with suppress(ImportError):
            import elftools.dwarf.lineprogram
            import elftools.elf.elffile  # noqa: F401

    def symbol(self, address: int) -> Symbol | None:
        """The function or object that covers `address`."""
        image = self.images.at(address)
        return symbol_at(image, address) if image is not None else None

    def addresses(self, name: str) -> list[int]:
        """Where `name` is defined, over all images; reads all their symbol tables."""
        return [address for image in self.images for address in addresses_of(image, name)]

    def lines(self, code_address: int) -> tuple[SourceLine, ...]:
        """The inline chain at a code address, innermost first; () without debug information."""
        image = self.images.at(code_address)
        return lines_at(image, code_address) if image is not None else ()

    def unwind(self, registers: Registers[str, int | None], limit: int = 64) -> list[Step]:
        """The call stack from "rip" and "rsp" (and what else is known), innermost first."""
        return unwind(self.read, self.images, registers, limit)

    def frames(
        self, registers: Registers[str, int | None], limit: int = 64, lines: bool = True
    ) -> tuple[Frame, ...]:
        """The same as model Frames, with symbols and (where there are any) source lines.

        Ends before the first frame that is only likely: a report must not show it as fact.
        The C library's lines are left out: its debug information takes long to unpack.
        """
        frames = []
        for index, step in enumerate(self.unwind(registers, limit)):
            if not step.sure:
                break
            image = self.images.at(step.code_address)
            symbol = symbol_at(image, step.code_address) if image is not None else None
            name = symbol.name if symbol is not None else None
            frames.append(
                Frame(
                    index,
                    step.pc,
                    "<signal handler called>" if step.is_signal_frame else name,
                    symbol.offset + step.pc - step.code_address if symbol else None,
                    image.name if image is not None else None,
                    self.lines(step.code_address)
                    if lines and image is not None and not is_library_image(image.name)
                    else (),
                    step.registers["rsp"],
                    step.function_start,
                    dict(step.registers),
                )
            )
        return tuple(frames)

    def function(self, code_address: int) -> tuple[int, int] | None:
        """[start, end) of the function around a code address, by call frame information (also
        in stripped images), else by its symbol."""
        image = self.images.at(code_address)
        if image is None:
            return None
        try:
            fde = cfi.find_fde(image, code_address)
        except (FormatError, ReadError):
            fde = None
        if fde is not None:
            return fde.start, fde.end
        symbol = symbol_at(image, code_address)
        if symbol is None or not symbol.size:
            return None
        start = code_address - symbol.offset
        return start, start + symbol.size

    def instructions(self, code_address: int) -> tuple[Instruction, ...]:
        """All instructions of the function around a code address; () when unknown."""
        bounds = self.function(code_address)
        if bounds is None or bounds[1] - bounds[0] > MAX_FUNCTION:
            return ()
        if bounds[0] not in self._functions:
            try:
                self._functions[bounds[0]] = tuple(instructions(self.read, *bounds))
            except ReadError:
                self._functions[bounds[0]] = ()
        return self._functions[bounds[0]]

    def called(self, call: Instruction) -> Import | None:
        """What a call or jump reaches: through the PLT, through the GOT, or directly; `slot` is
        0 for a direct one.  None when it is indirect through a register or unknown memory."""
        if call.target is None:
            slot = slot_of(call.source)
            return got_target(self.images, slot) if slot is not None else None
        through = plt_target(self.images, call.target)
        if through is not None:
            return through
        symbol = self.symbol(call.target)
        return Import(symbol.name if symbol and not symbol.offset else None, call.target, 0)

    def stack_offset(self, pc: int) -> int | None:
        """CFA - rsp at `pc`, None where call frame information counts from another register."""
        image = self.images.at(pc)
        if image is None:
            return None
        try:
            fde = cfi.find_fde(image, pc)
            cfa = cfi.row_at(fde, pc).cfa if fde is not None else None
        except (FormatError, ReadError):
            return None
        return cfa[1] if isinstance(cfa, tuple) and cfa[0] == 7 else None

    def argument(
        self, steps: Sequence[Step], number: int, call_address: int, register: str = "rdi"
    ) -> Value | None:
        """What the function of steps[number] had in `register` at its call at `call_address`,
        whether that is the call it is in now (its code_address) or an earlier one.

        `steps` is the whole stack: a parameter's value is what the caller passed.
        """
        frame = steps[number]
        code = self.instructions(frame.code_address)
        current = index_of(code, frame.code_address)
        index = index_of(code, call_address)
        if current is None or index is None:
            return None

        def at_entry(name: str) -> Value | None:
            if number + 1 >= len(steps) or frame.is_signal_frame or name == "rsp":
                return None
            caller = steps[number + 1]
            call = call_before(self.read, caller.pc)
            if call is None or not caller.sure or call_target(self.images, call) != code[0].address:
                return None  # reached by a tail call or a pointer: others set the registers
            return self.argument(steps, number + 1, caller.code_address, name)

        return argument_at_call(
            code,
            index,
            register,
            frame.registers,
            self.read,
            current,
            self.stack_offset,
            at_entry,
        )
