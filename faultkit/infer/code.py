"""A process's functions: where they begin and end, what they are called, what they call."""

from __future__ import annotations

import math
import os.path
import re
import time
from collections.abc import Iterator

from faultkit.code.cfi import Fde, find_fde
from faultkit.code.images import Images
from faultkit.code.plt import got_target, plt_target, slot_of
from faultkit.code.symbols import addresses_of, symbol_at
from faultkit.code.thunks import is_thunk
from faultkit.code.x86 import Instruction, instructions
from faultkit.infer.functions import Role, interprets, role_of
from faultkit.infer.values import State, Value
from faultkit.model import Frame
from faultkit.record import NamedTuple
from faultkit.target import FaultkitError, Process, ReadError
from faultkit.world import World

TYPE_CHECKING = False
if TYPE_CHECKING:
    from faultkit.infer.blocks import Graph

MAX_FUNCTION = 1 << 15  # bytes of one function that are looked at
MAX_INSTRUCTIONS = 150_000  # in one inference, so that it takes a second or two at most
MAX_SECONDS = 3.0
ASKED_PER_LOOK = 64
MAX_DEPTH = 5  # of calls within calls
WAITS_WITHIN = 2  # of calls within calls: from what waits for a lock to where it sleeps

# Libraries whose functions are known by name; no look into their bodies
SYSTEM_LIBRARIES = ("libc.", "libc-", "libpthread", "ld-", "libm.", "libm-", "libstdc++", "libc++",
                    "libgcc_s", "librt", "libdl", "linux-vdso")  # fmt: skip
_INTERPRETERS = re.compile(r"(lib)?python[\d.]*d?(\.so|$)")  # the files of CPython's own code


class Function:
    """One function's code.  `instructions` are in address order from `start` to `end`."""

    def __init__(self, start: int, body: list[Instruction]) -> None:
        self.start = start
        self.body = body
        self.end = body[-1].end if body else start
        self.graph: Graph | None = None  # of its blocks, once it was followed

    def contains(self, address: int | None) -> bool:
        """Whether the address is one of this function's."""
        return address is not None and self.start <= address < self.end

    @property
    def calls_system(self) -> bool:
        """Whether its own code makes system calls."""
        return any(instruction.kind == "syscall" for instruction in self.body)


class Inlined(NamedTuple):
    """What an inlined function does, to which lock, and what it is called."""

    role: Role
    lock: Value
    name: str


class Code:
    """The code of one process, decoded once.

    `pairs_locks` tells that a function which takes locks gives back its own, where it can't be
    told which.  `fixed_reach` is how near to a lock with a fixed address those point, in bytes,
    who may get to it: a program has many variables side by side.  `throws` tells that it may have
    exceptions.
    """

    pairs_locks = False
    throws = True
    fixed_reach = 1

    seconds = MAX_SECONDS

    def __init__(self, process: Process) -> None:
        self.process = process
        pid = process.pid if process.live else None
        self.images = Images(process.read, process.code_mappings(), pid, process.here)
        self.begin()
        self._functions: dict[int, Function] = {}
        self._names: dict[int, str | None] = {}
        self._interprets: dict[int, bool] = {}
        self._constants: dict[tuple[int, int], int | None] = {}
        self._stubs: dict[int, tuple[int | None, str | None]] = {}

    def begin(self, latest: float = math.inf) -> None:
        """A new inference: its allowance of code and time begins.  `latest` is when all of them
        have to end, in time.thread_time()'s seconds."""
        self.budget = MAX_INSTRUCTIONS
        self.deadline = min(time.thread_time() + self.seconds, latest)
        self._asked = 0
        self._late = False

    @property
    def exhausted(self) -> bool:
        """Whether so much code was read that it has to end here."""
        self._asked += 1
        if self._asked % ASKED_PER_LOOK == 0:  # on some machines the clock is slow to read
            self._late = time.thread_time() > self.deadline
        return self.budget <= 0 or self._late

    def name(self, address: int) -> str | None:
        """The name of the function that starts at `address`; None if it has none."""
        if address not in self._names:
            self._names[address] = self._name(address)
        return self._names[address]

    def _name(self, address: int) -> str | None:
        try:
            image = self.images.at(address)
            symbol = symbol_at(image, address) if image is not None else None
            if symbol is not None:
                return symbol.name if symbol.offset == 0 else None
            found = self.process.symbol(address)
        except FaultkitError:
            return None
        return found[0] if found is not None and found[1] == 0 else None

    def constant(self, address: int, width: int) -> int | None:
        """What lies in memory that the process may not write to; None where it may."""
        key = address, width
        if key not in self._constants:
            self._constants[key] = self._read_constant(address, width)
        return self._constants[key]

    def _read_constant(self, address: int, width: int) -> int | None:
        try:
            mapping = self.process.mapping(address)
            if mapping is None or not mapping.perms.startswith("r-") or mapping.shared:
                return None
            return int.from_bytes(self.process.read(address, width), "little")
        except FaultkitError:
            return None

    def is_thunk(self, address: int) -> bool:
        """Whether a call there goes on through a register, with all others as they are."""
        try:
            found = self.process.symbol(address)
        except FaultkitError:
            return False
        return found is not None and is_thunk(found[0])

    def is_system(self, address: int) -> bool:
        """Whether the address is in a library whose functions are known by name."""
        image = self.images.at(address)
        return image is not None and os.path.basename(image.path).startswith(SYSTEM_LIBRARIES)

    def interprets(self, address: int) -> bool:
        """Whether the code at `address` runs a program that it does not tell of itself: all of an
        interpreter's own file, as any of its functions comes to do so."""
        if address not in self._interprets:
            self._interprets[address] = self._is_interpreter(address)
        return self._interprets[address]

    def _is_interpreter(self, address: int) -> bool:
        image = self.images.at(address)
        if image is not None and _INTERPRETERS.match(os.path.basename(image.path)):
            return True
        name = self.name(address)
        return name is not None and interprets(name)

    def role_of(self, name: str, family: str) -> Role | None:
        """What the function called `name` does to locks of the family."""
        return role_of(name, family)

    def inline_role(self, instruction: Instruction, state: State, family: str) -> Inlined | None:
        """What an instruction in the place of a call does, and to which lock."""
        return None

    def passes_over(self, address: int, family: str) -> bool:
        """Whether the function at `address` does nothing to locks of the family but what its
        name says."""
        return self.is_system(address)

    def callee(self, instruction: Instruction) -> tuple[int | None, str | None]:
        """(address, name) of the function that a call or jump goes to, through the PLT or the
        GOT if need be; None for what can't be told."""
        try:
            return self._callee(instruction)
        except FaultkitError:  # a damaged image
            return instruction.target, None

    def _callee(self, instruction: Instruction) -> tuple[int | None, str | None]:
        target = instruction.target
        if target is None:
            slot = slot_of(instruction.source)
            found = got_target(self.images, slot) if slot is not None else None
            if found is None:
                return None, None
            return found.address or self._defined(found.name), found.name
        if target not in self._stubs:
            name = self.name(target)
            address: int | None = target
            if name is None or "@" in name:
                stub = plt_target(self.images, target)
                if stub is not None:
                    name = stub.name or name
                    address = stub.address or self._defined(name)
            self._stubs[target] = address, name
        return self._stubs[target]

    def _defined(self, name: str | None) -> int | None:
        """Where a function that was never called yet (lazy binding) is defined."""
        if name is None:
            return None
        for image in self.images:
            addresses = addresses_of(image, name.partition("@")[0])
            if addresses:
                return addresses[0]
        return None

    def function(self, start: int, reach: int = 0) -> Function:
        """The function that starts at `start`, at least up to `reach`; empty if unreadable."""
        known = self._functions.get(start)
        if known is not None and known.end >= reach:
            return known
        function = Function(start, self._decode(start, reach))
        self._functions[start] = function
        return function

    def _size(self, start: int) -> int | None:
        image = self.images.at(start)
        try:
            symbol = symbol_at(image, start) if image is not None else None
        except FaultkitError:
            symbol = None
        if symbol is not None and symbol.offset == 0 and symbol.size:
            return int(symbol.size)
        fde = self._fde(start)
        return fde.end - start if fde is not None and fde.start == start else None

    def _fde(self, address: int) -> Fde | None:
        image = self.images.at(address)
        try:
            return find_fde(image, address) if image is not None else None
        except FaultkitError:
            return None

    def start(self, frame: Frame) -> int | None:
        """Where the code of the frame's function starts: by call frame information, as that
        knows of parts that were split off; None if unknown."""
        fde = self._fde(frame.address - (frame.index > 0))
        return fde.start if fde is not None else frame.function_start

    def _decode(self, start: int, reach: int) -> list[Instruction]:
        """Without a size the function ends at the first instruction after which nothing goes on
        and that no earlier jump leads beyond."""
        if reach - start > MAX_FUNCTION or self.exhausted:
            return []
        size = self._size(start)
        limit = start + min(MAX_FUNCTION, max(size or MAX_FUNCTION, reach - start))
        body: list[Instruction] = []
        furthest = reach - 1
        try:
            for instruction in instructions(self.process.read, start, limit):
                beyond = furthest < instruction.address != start
                if size is None and beyond and self._is_start(instruction.address):
                    break
                body.append(instruction)
                self.budget -= 1
                target = instruction.target
                if instruction.kind in ("jcc", "jmp") and target is not None:
                    near = 0x400 if instruction.kind == "jmp" else MAX_FUNCTION
                    certain = instruction.kind == "jcc" or self._internal(target)
                    if certain and instruction.address < target < instruction.end + near:
                        furthest = max(furthest, target)
                last = instruction.kind in ("ret", "jmp", "trap")
                if size is None and last and instruction.end > furthest:
                    break
                if self.budget <= 0:
                    break
        except ReadError:
            pass
        return body

    def _is_start(self, address: int) -> bool:
        """Whether a function is known to start there: it has a name, or was seen called."""
        return address in self._stubs or bool(self.name(address))

    def _internal(self, target: int) -> bool:
        """Whether a short forward jump's target looks like the inside of a function: compilers
        align the start of one to 16 bytes and often mark it with endbr64."""
        return target % 16 != 0

    def sleeps(self, start: int) -> bool:
        """Whether the function waits for a futex by glibc's own code, not far down; before 2.34
        each of its files had a copy of that (sysdeps/nptl/futex-internal.h)."""
        return any(map(self._sleeps_itself, self._reached(start, WAITS_WITHIN)))

    def _sleeps_itself(self, start: int) -> bool:
        """Whether the function makes the system call FUTEX_WAIT_BITSET itself: its sixth argument
        is FUTEX_BITSET_MATCH_ANY, which no wake-up has."""
        function = self.function(start)
        return function.calls_system and any(
            instruction.kind == "mov"
            and instruction.destination == "r9"
            and isinstance(instruction.source, int)
            and instruction.source & 0xFFFFFFFF == 0xFFFFFFFF
            for instruction in function.body
        )

    def reaches(self, start: int, goals: frozenset[int], depth: int = MAX_DEPTH) -> bool:
        """Whether the function at `start` calls one of `goals`, itself or through others."""
        return any(address in goals for address in self._reached(start, depth))

    def _reached(self, start: int, depth: int) -> Iterator[int]:
        """The function at `start`, and those that it calls, itself or through others."""
        seen = {start}
        level = [start]
        for _ in range(depth + 1):
            following = []
            for address in level:
                yield address
                function = self.function(address)
                for instruction in function.body:
                    if instruction.kind not in ("call", "jmp"):
                        continue
                    if function.contains(instruction.target):
                        continue
                    target, _ = self.callee(instruction)
                    if target is not None and target not in seen and len(seen) < 200:
                        seen.add(target)
                        following.append(target)
            level = following


def code_of(world: World, process: Process) -> Code:
    """The process's code; the world keeps it."""
    code: Code | None = world.cache.get(f"code {process.pid}")
    if code is None:
        code = world.cache[f"code {process.pid}"] = Code(process)
    return code
