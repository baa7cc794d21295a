"""A kernel's tasks, indexed, with what providers ask about them again and again."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import cached_property

from faultkit.kernel import states
from faultkit.kernel.modules import ModuleSymbols
from faultkit.kernel.objects import (
    Layout,
    Members,
    UnknownLayout,
    first_offset,
    need,
    pointer,
    unsigned,
)
from faultkit.kernel.target import Kernel, Symbol
from faultkit.model import Frame, Task
from faultkit.record import NamedTuple
from faultkit.target import FaultkitError, ReadError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    T = TypeVar("T")


# Suffixes that gcc and clang give to clones of a function: mutex_lock.constprop.0, x.isra.0.cold
_CLONES = (".constprop.", ".isra.", ".part.", ".cold", ".llvm.", ".lto_priv.")
_MOST_NAMES = 200_000


Read = Callable[[int, int], bytes]

STACK_SIZES = (8192, 16384, 32768, 65536)
PT_REGS = (
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi",
    "rdi", "orig_rax", "rip", "cs", "eflags", "rsp", "ss",
)  # fmt: skip
_REGISTERS = struct.Struct(f"<{len(PT_REGS)}Q")
_CS, _SS = PT_REGS.index("cs"), PT_REGS.index("ss")
CODE_64, CODE_32, DATA = 0x33, 0x23, 0x2B  # arch/x86/include/asm/segment.h: __USER_CS...


class UserRegisters(NamedTuple):
    """What a task had in its registers when it entered the kernel; `orig_rax` is the system
    call's number."""

    orig_rax: int
    rip: int
    rsp: int
    args: tuple[int, ...]  # rdi, rsi, rdx, r10, r8, r9
    rax: int  # -ENOSYS until the call has a result
    is_64: bool  # else the number is that of a 32-bit program's call


class System:
    """All tasks of one kernel, as they were when first asked for.

    `limits` collects what could not be seen, each with its remedy; `notes` what is worth
    knowing though it leaves nothing open; `cache` is for what providers found out.
    """

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.limits: list[str] = []
        self.notes: list[str] = []
        self.cache: dict[Any, Any] = {}
        self.tasks = list(kernel.tasks())
        self.by_address = {task.address: task for task in self.tasks if task.address}
        self.by_tid = {task.tid: task for task in self.tasks if task.tid}
        self.running = dict(kernel.running())
        self._on_cpu = set(self.running.values())
        self._layouts: dict[tuple[Members, ...], Layout] = {}
        self.names = Names(self)
        self.functions: dict[bytes, tuple[str, ...]] = {}  # by the code words of a stack
        # By return address: the function, and [(distance, its caller's return address)] as back
        # traces had them; (0, 0) of the outermost.
        self.calls: dict[int, tuple[str, list[tuple[int, int]]]] = {}
        self._symbols: dict[int, Symbol | None] = {}
        self._states: dict[int, int] = {}
        self._stacks: dict[int, int] = {}
        self._flags: dict[int, int] = {}

    def layout(self, type_name: str, *members: Members) -> Layout:
        """A Layout, made once.  Raises UnknownLayout."""
        key = (type_name, *members)
        if key not in self._layouts:
            self._layouts[key] = Layout(self.kernel, type_name, *members)
        return self._layouts[key]

    def limit(self, text: str) -> None:
        """Note, once, something that could not be seen."""
        if text not in self.limits:
            self.limits.append(text)

    @cached_property
    def host_limits(self) -> Sequence[str]:
        """What the host can't show in this dump; it is asked once."""
        return self.kernel.limits()

    def note(self, text: str) -> None:
        """Note, once, something worth knowing."""
        if text not in self.notes:
            self.notes.append(text)

    def of_tasks(self, name: str, find: Callable[[System, Task], T | None]) -> list[T]:
        """What `find` finds of each task; looked up once, and remembered by `name`."""
        if name not in self.cache:
            found = (find(self, task) for task in self.tasks)
            self.cache[name] = [one for one in found if one is not None]
        known: list[T] = self.cache[name]
        return known

    def on_cpu(self, task: Task) -> bool:
        """Whether the task is the current one of a CPU."""
        return task in self._on_cpu

    @cached_property
    def _state_offset(self) -> int:
        # 2f064a59a11f ("sched: Change task_struct::state", 5.14) made it unsigned and renamed it
        offset = first_offset(self.kernel, ("task_struct", "__state"), ("task_struct", "state"))
        if offset is None:
            raise UnknownLayout("task_struct", "__state")
        return offset

    def state(self, task: Task) -> int:
        """The task's state bits.  Raises ReadError, UnknownLayout."""
        address = task.address or 0
        known = self._states.get(address)
        if known is None:
            known = self._states[address] = self.kernel.u32(address + self._state_offset)
        return known

    def look_ahead(self) -> None:
        """Read the states, stacks and flags of all tasks in one go: they lie side by side, and
        to read a page of a dump takes longer than all else that a task costs."""
        try:
            layout = self.layout("task_struct", ("__state", "state"), "stack", "flags")
        except UnknownLayout:
            return
        addresses = [task.address for task in self.tasks if task.address]
        for address, found in zip(addresses, layout.read_each(addresses)):
            if found is not None:
                state, self._stacks[address], self._flags[address] = found
                self._states[address] = state & 0xFFFF_FFFF

    def described(self, task: Task) -> Task:
        """The task with its state's letter and for how many seconds it has been off the CPU."""
        if not task.address:
            return task
        try:
            exit_state = unsigned(self.kernel, task.address, "task_struct", "exit_state")
            shown = states.letter(self.state(task), exit_state)
        except FaultkitError:
            return task
        return task._replace(state=shown, seconds=self.seconds_off_cpu(task))

    @cached_property
    def clocks(self) -> dict[int, tuple[int, int]]:
        """(rq.clock, rq.clock_task) by CPU: the second leaves out time stolen by interrupts."""
        runqueues = self.kernel.symbol("runqueues")
        clocks: dict[int, tuple[int, int]] = {}
        for cpu in self.running:
            try:
                rq = self.kernel.per_cpu(runqueues or 0, cpu)
                clocks[cpu] = (
                    pointer(self.kernel, rq, "rq", "clock"),
                    pointer(self.kernel, rq, "rq", "clock_task"),
                )
            except FaultkitError:
                continue
        return clocks

    def seconds_off_cpu(self, task: Task) -> float | None:
        """For how long the task has not run; None if it runs or that can't be told.

        se.exec_start is the task clock of the task's CPU when it was last accounted for
        (kernel/sched/fair.c, update_curr).  An idle CPU's clock stands still, the latest of all
        is now.
        """
        clocks = self.clocks
        if self.on_cpu(task) or not task.address or task.cpu not in clocks:
            return None
        try:
            offset = need(self.kernel, "task_struct", "se") + need(
                self.kernel, "sched_entity", "exec_start"
            )
            left = self.kernel.u64(task.address + offset)
        except FaultkitError:
            return None
        clock, clock_task = clocks[task.cpu]
        now = max(clock for clock, _ in clocks.values())
        seconds = (now - (left + clock - clock_task)) / 1e9
        return round(max(seconds, 0.0), 3) if left and seconds < 1e9 else None

    def frames(self, task: Task) -> tuple[Frame, ...]:
        """The task's back trace as the host has it, () if it can't be told; unwound once."""
        known: dict[int | None, tuple[Frame, ...]] = self.cache.setdefault("frames", {})
        if task.address not in known:
            try:
                known[task.address] = self.kernel.frames(task)
            except FaultkitError:
                known[task.address] = ()
        return known[task.address]

    def function(self, address: int) -> str:
        """The function that a code address lies in, without the suffixes that compilers give to
        its clones; "" if there is none."""
        return self.names[address]

    def symbol_at(self, address: int) -> Symbol | None:
        """As the host's, or a module's that the host does not know; remembered."""
        if address not in self._symbols:
            if len(self._symbols) > _MOST_NAMES:
                self._symbols.clear()
            symbol = self.kernel.symbol_at(address)
            if symbol is None:
                found = self.modules.find(address)
                symbol = found[0] if found is not None else None
            self._symbols[address] = symbol
        return self._symbols[address]

    def function_bounds(self, address: int) -> tuple[int, int] | None:
        """[start, end) of the function that covers a code address, modules' as in symbol_at."""
        bounds = self.kernel.function_bounds(address)
        if bounds is None:
            found = self.modules.find(address)
            bounds = found[1:] if found is not None else None
        return bounds

    @cached_property
    def modules(self) -> ModuleSymbols:
        """What the kernel itself knows of its modules' symbols."""
        return ModuleSymbols(self.kernel)

    @cached_property
    def code_ranges(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """[start, end) of the kernel's own code and of where modules lie: above the kernel image,
        below the fixmap (Documentation/arch/x86/x86_64/mm.rst)."""
        start = self.kernel.symbol("_stext") or 0xFFFF_FFFF_8000_0000
        text_end = self.kernel.symbol("_etext") or start + (64 << 20)
        image_end = self.kernel.symbol("_end") or start + (512 << 20)
        return (start, text_end), (image_end, 0xFFFF_FFFF_FF00_0000)

    def is_code(self, address: int) -> bool:
        """Whether the address is where code may lie: the kernel's own, or modules'."""
        (start, end), (modules, top) = self.code_ranges
        return start <= address < end or modules <= address < top

    @cached_property
    def thread_size(self) -> int:
        """Bytes of a kernel stack: what the linker leaves for the first task's
        (include/asm-generic/vmlinux.lds.h, INIT_TASK_DATA; "stack" since 6.10, "task" before)."""
        for name in ("stack", "task"):
            start = self.kernel.symbol(f"__start_init_{name}")
            end = self.kernel.symbol(f"__end_init_{name}")
            if start and end and end - start in STACK_SIZES:
                return end - start
        size = self.kernel.size("thread_union")
        return size if size is not None and size in STACK_SIZES else 16384

    def stack_base(self, task: Task) -> int:
        """The lowest address of the task's kernel stack.  Raises ReadError."""
        address = task.address or 0
        known = self._stacks.get(address)
        if known is None:
            known = self._stacks[address] = pointer(self.kernel, address, "task_struct", "stack")
        return known

    @cached_property
    def stack_pointer_offset(self) -> int:
        """Where a task_struct keeps the kernel stack pointer that the task was switched out
        with.  Raises UnknownLayout."""
        return need(self.kernel, "task_struct", "thread") + need(self.kernel, "thread_struct", "sp")

    def stack_owner(self, address: int) -> Task | None:
        """Whose kernel stack the address lies in."""
        stacks: dict[int, Task] | None = self.cache.get("stacks")
        if stacks is None:
            stacks = self.cache["stacks"] = {}
            for task in self.tasks:
                try:
                    stacks[self.stack_base(task)] = task
                except ReadError:
                    continue
        # stacks are aligned to their size with CONFIG_VMAP_STACK, and from pages otherwise
        return stacks.get(address & ~(self.thread_size - 1))

    def flags(self, task: Task) -> int:
        """The task's PF_* flags.  Raises ReadError."""
        address = task.address or 0
        known = self._flags.get(address)
        if known is None:
            known = self._flags[address] = unsigned(self.kernel, address, "task_struct", "flags")
        return known

    def is_user(self, task: Task) -> bool:
        """Whether the task is a thread of a program, not a kernel thread."""
        try:
            if self.flags(task) & states.PF_KTHREAD:
                return False
            return pointer(self.kernel, task.address or 0, "task_struct", "mm") != 0
        except FaultkitError:
            return False

    def user_words(self, base: int, read: Read | None = None) -> tuple[int, ...] | None:
        """The registers, in the order of PT_REGS, that the task with the kernel stack at `base`
        entered the kernel with; None for kernel threads.  `read` instead of the kernel's own, if
        given.  Raises ReadError.

        struct pt_regs ends the stack; with FRED (6.9, 65c9cc9e2c14) 16 bytes lie above it, so
        it is where the segments are a user's.
        """
        top = base + self.thread_size - 8 * len(PT_REGS)
        for padding in (0, 16):
            words = _REGISTERS.unpack((read or self.kernel.read)(top - padding, _REGISTERS.size))
            if words[_CS] & 0xFFFF in (CODE_64, CODE_32) and words[_SS] & 0xFFFF == DATA:
                return words
        return None

    def user_registers(self, base: int, read: Read | None = None) -> UserRegisters | None:
        """The same, as what a system call makes of them; None also where they can't be read."""
        try:
            words = self.user_words(base, read)
        except FaultkitError:
            return None
        if words is None:
            return None
        _, _, _, _, _, _, _, r10, r9, r8, rax, _, rdx, rsi, rdi, number, rip, cs, _, rsp, _ = words
        return UserRegisters(
            number, rip, rsp, (rdi, rsi, rdx, r10, r8, r9), rax, cs & 0xFFFF == CODE_64
        )


class Names(dict[int, str]):
    """The functions that code addresses lie in, each looked up when first asked for."""

    def __init__(self, system: System) -> None:
        super().__init__()
        self._system = system

    def __missing__(self, address: int) -> str:
        symbol = self._system.symbol_at(address)
        name = self[address] = base_name(symbol.name) if symbol is not None else ""
        return name


def base_name(name: str) -> str:
    """A function's name without the suffixes of compiler-made clones."""
    for suffix in _CLONES:
        cut = name.find(suffix)
        if cut > 0:
            name = name[:cut]
    return name
