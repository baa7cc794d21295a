"""Arguments and locals of a frame: each with its value and where that is from, or why there is
none.

Nothing is guessed: what was in a register that a callee may have changed is unavailable, and what
only the function's entry would tell is taken from the call that led there, if that call surely
called this very function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from faultkit.code import FormatError
from faultkit.code.expression import DWARF_REGISTERS
from faultkit.code.thunks import thunk_register
from faultkit.code.x86 import call_before
from faultkit.debuginfo.debugfile import BROKEN
from faultkit.debuginfo.lookup import Lookup
from faultkit.debuginfo.units import Unit
from faultkit.decode.location import (
    MAX_DEPTH,
    Context,
    Place,
    Unavailable,
    locate,
    value_of,
)
from faultkit.decode.model import Value
from faultkit.decode.types import Types
from faultkit.decode.variables import Scope, Variable, call_site, scope_at
from faultkit.record import NamedTuple
from faultkit.target import ReadError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing_extensions import TypeAlias


MASK = (1 << 64) - 1
MOST_BYTES = 256  # of one variable that are read

Read = Callable[[int, int], bytes]
# What a pointer points to, in words: of (its value, its type in C, the structure's name)
Describe: TypeAlias = "Callable[[int, str, str | None], str | None]"


class Found(NamedTuple):
    """A variable and what is known of it: its first bytes, its address if it is in memory."""

    variable: Variable
    types: Types
    origin: str | None = None
    data: bytes | None = None
    address: int | None = None
    reason: str | None = None  # why there is no value


class Code(NamedTuple):
    """Where a frame is in debug information: `shift` leads from runtime addresses of its code to
    the file's own ones, `runtime` from any of the file's own to the target's (None: unknown)."""

    file: Lookup
    shift: int
    runtime: Callable[[int], int | None]


class FrameView:
    """One frame with what is known of its registers, for the values of its variables.

    `start` is where its function begins; `caller` is the frame that called it, None where that
    is not known or where an exception lies between them.
    """

    def __init__(
        self,
        address: int,
        exact: bool,
        start: int | None,
        code: Code | None,
        registers: dict[str, int],
        origins: dict[str, str],
        cfa: int | None,
        read: Read,
    ) -> None:
        self.address = address
        self.exact = exact
        self.start = start
        self.end: int | None = None  # of the function, where known
        self.in_program = False  # and not in a kernel
        self.code = code
        self.read = read
        self.caller: FrameView | None = None
        self.name_of: Callable[[int], str | None] = lambda address: None
        self._is_open = False
        self._unit: Unit | None = None
        self._position: int | None = None
        self._scope: Scope | None = None
        self._types: Types | None = None
        runtime = code.runtime if code is not None else None
        self.context = Context(read, registers, cfa, None, runtime, origins)
        self.context.entry_value = self._entry_value

    @property
    def scope(self) -> Scope | None:
        """What is in scope, None where that is not known; read when first asked for."""
        self._open()
        return self._scope

    @property
    def types(self) -> Types | None:
        """The types of its unit."""
        self._open()
        return self._types

    @property
    def unit(self) -> tuple[Unit, int] | None:
        """Its unit, and the position of its function there."""
        self._open()
        if self._unit is None or self._position is None:
            return None
        return self._unit, self._position

    @property
    def place(self) -> int:
        """The address of the instruction that the frame is at, in its file."""
        shift = self.code.shift if self.code is not None else 0
        return self.address - (not self.exact) + shift & MASK

    def _open(self) -> None:
        code = self.code
        if self._is_open or code is None:
            return
        self._is_open = True
        try:
            offset = code.file.debug.unit_at(self.place)
            if offset is None:
                return
            unit, functions = code.file.debug.unit(offset)
            position = functions.at(self.place)
            if position is None:
                return
            self._unit, self._position = unit, position
            scope = self._scope = scope_at(unit, position, self.place)
        except BROKEN:
            return
        shared: dict[int, Types] = code.file.__dict__.setdefault("_types", {})
        types = shared.setdefault(offset, Types(unit))
        if types.unit is not unit:  # it was read anew
            types = shared[offset] = Types(unit)
        self._types = types
        self.context.frame_base = scope.frame_base
        self.context.base_type = types.base
        self.context.indexed = lambda index: _number(unit.indexed_address(index))

    def found(self) -> list[Found]:
        """Its variables, the innermost inlined function's first."""
        if self.scope is None or self.types is None:
            return []
        return [self._evaluate(variable, self.types) for variable in self.scope.variables]

    def values(self, describe: Describe | None = None) -> tuple[list[Value], list[Value]]:
        """(arguments, locals), in words."""
        arguments: list[Value] = []
        local: list[Value] = []
        for found in self.found():
            value = in_words(found, describe)
            (arguments if found.variable.is_argument else local).append(value)
        return arguments, local

    def _evaluate(self, variable: Variable, types: Types) -> Found:
        try:
            size = types.size(variable.type_at)
            if variable.location is None and variable.constant is not None:
                return _constant(variable, types, size or 8)
            if variable.location is None:
                return Found(variable, types, reason="optimized out" + " here" * variable.elsewhere)
            if size is None:
                size = 0
            places = locate(variable.location, self.context, size)
            return self._fetch(variable, types, places, size)
        except Unavailable as error:
            return Found(variable, types, reason=str(error))
        except BROKEN:
            return Found(variable, types, reason="its debug information can't be read")

    def _fetch(self, variable: Variable, types: Types, places: Sequence[Place], size: int) -> Found:
        place = places[0]
        if len(places) == 1 and (place.bits in (None, 8 * size) and not place.shift):
            if place.address is not None:
                return self._from_memory(variable, types, place, size)
            if place.value is None:
                return Found(variable, types, reason="optimized out")
            if size > len(place.value):
                if place.origin != "constant":
                    return Found(variable, types, reason="partly optimized out")
                padded = place.value + bytes(size - len(place.value))
                return Found(variable, types, place.origin, padded)
            return Found(variable, types, place.origin, place.value[:size])
        whole, at = 0, 0
        for part in places:
            bits = part.bits or 0
            if part.address is not None:
                length = (part.shift + bits + 7) // 8
                if length > MOST_BYTES:
                    return Found(variable, types, reason="in too many parts")
                try:
                    data = self.read(part.address & MASK, length)
                except ReadError as error:
                    return Found(variable, types, reason=str(error))
            elif part.value is not None:
                data = part.value
            elif at < 8 * size:
                return Found(variable, types, reason="partly optimized out")
            else:
                data = b""
            number = int.from_bytes(data, "little") >> part.shift & (1 << bits) - 1
            whole |= number << at
            at += bits
        if at < 8 * size:
            return Found(variable, types, reason="partly optimized out")
        origins = dict.fromkeys(part.origin for part in places)
        whole &= (1 << 8 * size) - 1
        return Found(variable, types, " and ".join(origins), whole.to_bytes(size, "little"))

    def _from_memory(self, variable: Variable, types: Types, place: Place, size: int) -> Found:
        address = (place.address or 0) & MASK
        try:
            data = self.read(address, min(size, MOST_BYTES)) if size else b""
        except ReadError as error:
            return Found(variable, types, place.origin, None, address, str(error))
        return Found(variable, types, place.origin, data, address)

    def _entry_value(self, name: str, depth: int) -> tuple[int, str]:
        """What a register had when the frame's function was entered, by the call that did it."""
        why = f"only {name} at the function's entry would tell"
        caller = self.caller
        if caller is None or caller.code is None or self.start is None or depth >= MAX_DEPTH:
            raise Unavailable(f"{why}, and its caller is not known")
        if caller.unit is None or name not in DWARF_REGISTERS:
            raise Unavailable(f"{why}, and its caller has no debug information")
        try:
            place = caller.address + caller.code.shift & MASK
            site = call_site(*caller.unit, place)
            if site is None:
                raise Unavailable(f"{why}, and its caller's debug information does not")
            if not self._is_called(caller, site.target, depth):
                raise Unavailable(f"{why}, and it was not surely called from where it returns to")
            code = site.values.get(DWARF_REGISTERS.index(name))
            if code is None:
                raise Unavailable(f"{why}, and its caller did not keep it")
            value, _ = value_of(code, caller.context, depth + 1)
        except BROKEN:
            raise Unavailable(f"{why}, and its caller's debug information can't be read") from None
        return value, f"{name} at entry, by the call"

    def _is_called(self, caller: FrameView, target: bytes | None, depth: int) -> bool:
        """Whether the call that returns to the caller surely entered this very function, and not
        another one that ended in a jump to it."""
        call = call_before(self.read, caller.address)
        if call is None:
            return False
        if call.target == self.start:
            return True
        register = call.source if call.target is None else self._by_way_of(call.target)
        if isinstance(register, str):
            return caller.context.registers.get(register) == self.start
        if target is None:
            return False
        try:
            return value_of(target, caller.context, depth + 1)[0] == self.start
        except Unavailable:
            return False

    def _by_way_of(self, target: int) -> str | None:
        """The register through which a retpoline that is called calls on; None if the target is
        none."""
        return thunk_register(self.name_of(target) or "")


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _constant(variable: Variable, types: Types, size: int) -> Found:
    constant = variable.constant
    if isinstance(constant, int):
        constant = (constant & (1 << 8 * size) - 1).to_bytes(size, "little")
    data = (constant or b"")[:size]
    return Found(variable, types, "constant", data + bytes(size - len(data)))


def in_words(found: Found, describe: Describe | None = None) -> Value:
    """The variable for people."""
    variable, types = found.variable, found.types
    try:
        name = types.name(variable.type_at)
    except BROKEN:
        name = "?"
    if found.reason is not None or found.data is None:
        return Value(
            variable.name, name, None, None, found.reason or "unknown", None, variable.function
        )
    text: str | None = None
    meaning: str | None = None
    try:
        text = types.text(variable.type_at, found.data, found.address)
        size = types.size(variable.type_at)
        if found.address is not None and len(found.data) < (size or 0):
            text = f"{{...}}, {size} bytes at {found.address:#x}"
        elif found.address is not None and size is None:
            text = f"{{...}} at {found.address:#x}"
        if describe is not None and types.is_pointer(variable.type_at):
            pointee = types.pointee(variable.type_at)
            number = int.from_bytes(found.data[:8], "little")
            meaning = describe(number, name, types.structure(pointee))
    except (*BROKEN, FormatError):
        pass
    if text is None:
        text = found.data[::-1].hex()
    return Value(variable.name, name, text, found.origin, None, meaning, variable.function)
