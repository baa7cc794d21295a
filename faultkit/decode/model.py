"""What kdecode takes in and gives out: plain data, whoever asks and whoever shows it.

Plain classes and NamedTuples, for the reason that faultkit.model gives.
"""

from __future__ import annotations

from collections.abc import Sequence

from faultkit.model import SourceLine
from faultkit.record import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from faultkit.debuginfo.lookup import Lookup

NO_CODE = "no code can be there: a call or jump through a null pointer"

Inline = SourceLine  # one level of an inline chain: function, file, line, column


class Instruction(NamedTuple):
    """One instruction around a frame's address.

    `current` marks the one that the frame is at: for a return address, the call before it.
    `note` says what is special: "patched: fentry", "call of kfree"; `target` is where it jumps.
    """

    address: int
    bytes: bytes
    text: str
    file: str | None = None
    line: int | None = None
    current: bool = False
    note: str | None = None
    target: int | None = None


class Value(NamedTuple):
    """An argument or local: its value in words and where that is from, or why there is none."""

    name: str
    type: str | None
    text: str | None = None
    origin: str | None = None  # "rdi", "stack at rsp+8", "constant"
    unavailable: str | None = None
    meaning: str | None = None  # symbol, slab cache, task, file
    function: str | None = None  # the inlined one that it belongs to, None: the frame's own


class Address(NamedTuple):
    """A place in code as it is asked for: by a runtime address, by symbol+offset/size, or both.

    `exact` tells the address of an instruction (an exception's, a symbol's start) from a return
    address, which belongs to the call before it.  `unreliable` marks what the kernel prints with
    a question mark.  `offset` is None where only a function is named.  `module` is the module's
    name, None for the kernel itself or where unknown; for user code, the program's path.
    `build_id` in hex where the trace gives it.
    """

    address: int | None = None
    exact: bool = False
    symbol: str | None = None
    offset: int | None = None
    size: int | None = None
    module: str | None = None
    unreliable: bool = False
    registers: dict[str, int] | None = None
    build_id: str | None = None


class Decoded:
    """One frame, decoded.  `address` is the runtime one, or the file's own where no runtime one
    is known; `inlines` has the innermost function first; `place` is the address in the file
    `debug_file`, None where it was not found.  `placed` is False where `address` says nothing to
    people: of a module that is not known to be loaded anywhere."""

    def __init__(
        self,
        index: int,
        address: int,
        exact: bool,
        symbol: str | None = None,
        offset: int | None = None,
        size: int | None = None,
        module: str | None = None,
    ) -> None:
        self.index = index
        self.address = address
        self.exact = exact
        self.symbol = symbol
        self.offset = offset
        self.size = size
        self.module = module
        self.unreliable = False
        self.placed = True
        self.place: int | None = None
        self.debug_file: str | None = None
        self.lookup: Lookup | None = None  # that file
        self.inlines: list[Inline] = []
        self.source: list[tuple[int, str]] = []  # around the innermost function's line
        self.inline_text: list[str | None] = []  # the line itself, of each of `inlines`
        self.instructions: list[Instruction] = []
        self.arguments: list[Value] = []
        self.locals: list[Value] = []
        self.notes: list[str] = []


class CodeBytes(NamedTuple):
    """The `Code:` line of an oops: `data[at]` is the first byte of the faulting instruction."""

    data: bytes
    at: int


class Trace:
    """One back trace as it was found in a text.

    `kind` is "oops", "warning", "lockdep", "hung-task", "task", "stack", "perf", "ftrace",
    "addresses", "bt"...; `title` the line that says what happened; `registers` are those of the
    first exact entry, by lower-case names ("rsp", "rdi", "cr2"), `code` the bytes around it.
    `offset` is what KASLR added to the kernel's addresses, None where the text does not tell;
    `architecture` one that is not decoded, None for x86_64; `happened` the kinds of what the text
    tells of at it, the trace's own among them.
    """

    def __init__(self, kind: str, title: str = "") -> None:
        self.kind = kind
        self.title = title
        self.task: str | None = None
        self.pid: int | None = None
        self.cpu: int | None = None
        self.release: str | None = None
        self.build_id: str | None = None
        self.offset: int | None = None
        self.architecture: str | None = None
        self.entries: list[Address] = []
        self.registers: dict[str, int] = {}
        self.code: CodeBytes | None = None
        self.notes: list[str] = []
        self.happened: set[str] = {kind}


class DecodedTrace(NamedTuple):
    """A trace and its frames, in the order of its entries."""

    trace: Trace
    frames: Sequence[Decoded]
