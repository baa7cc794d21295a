"""One program of a kernel's dump as a Process: its threads, memory and mappings."""

from __future__ import annotations

from collections.abc import Sequence

from faultkit.coded import CodedProcess
from faultkit.kernel.files import Files
from faultkit.kernel.mm import are_all, mappings
from faultkit.kernel.objects import need
from faultkit.kernel.system import PT_REGS, System, UserRegisters
from faultkit.model import Task
from faultkit.target import RUNNING, FaultkitError, Mapping, ReadError, Syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from faultkit.code.process import Code

PAGE = 4096
MOST_PAGES = 1024  # that are remembered
MOST_CALL = 1024  # system call numbers are below
NO_RESULT = (1 << 64) - 38  # -ENOSYS, which entry_SYSCALL_64 sets
SAVED = ("r15", "r14", "r13", "r12", "rbp", "rbx", "rip", "rsp")


class DumpProcess(CodedProcess):
    """The user's side of the tasks that share one address space."""

    kind = "vmcore"
    live = False
    here = False

    def __init__(self, files: Files, pid: int, tasks: Sequence[Task]) -> None:
        super().__init__()
        self._files = files
        self.system: System = files.system
        self.pid = pid
        self.stopped = not self.system.kernel.live
        self._tasks = tasks
        self._with_memory = self._find_memory()
        self._pages: dict[int, bytes | None] = {}
        self._mappings: list[Mapping] | None = None
        self._of_files: list[Mapping] | None = None

    @property
    def name(self) -> str:
        return str(self.pid)

    def _find_memory(self) -> tuple[Task | None, int]:
        """A task that has the address space, and its mm_struct: an exited leader has none."""
        kernel = self.system.kernel
        offset = need(kernel, "task_struct", "mm")
        for task in self._tasks:
            try:
                mm = kernel.u64((task.address or 0) + offset)
            except FaultkitError:
                continue
            if mm:
                return task, mm
        return None, 0

    @property
    def mm(self) -> int:
        """The mm_struct's address, 0 if there is none."""
        return self._with_memory[1]

    def tasks(self) -> Sequence[Task]:
        return self._tasks

    def syscall(self, task: Task) -> Syscall | None:
        if self.system.on_cpu(task) or self.system.state(task) == 0:
            return RUNNING
        return call_of(self.system.user_registers(self.system.stack_base(task)))

    def read(self, address: int, size: int) -> bytes:
        """By pages, which are remembered: neighbouring words are asked for one by one."""
        if not 0 <= address < address + size <= 1 << 57:
            raise ReadError(address, size)
        at = address % PAGE
        if at + size <= PAGE:
            page = self._page(address - at)
            if page is None:
                raise ReadError(address, size)
            return page[at : at + size]
        task = self._with_memory[0]
        if task is None:
            raise ReadError(address, size)
        return self.system.kernel.read_user(task, address, size)

    def _page(self, start: int) -> bytes | None:
        if start not in self._pages:
            if len(self._pages) >= MOST_PAGES:
                self._pages.clear()
            task = self._with_memory[0]
            page = None
            if task is not None:
                try:
                    page = self.system.kernel.read_user(task, start, PAGE)
                except ReadError:
                    pass
            self._pages[start] = page
        return self._pages[start]

    def hold(self, address: int, around: int) -> None:
        """Nothing: pages are remembered, and stay as they are."""

    def mappings(self) -> Sequence[Mapping]:
        if self._mappings is None:
            try:
                self._mappings = mappings(self._files, self.mm) if self.mm else []
            except FaultkitError:
                self._mappings = []
        return self._mappings

    def knows_mappings(self) -> bool:
        return are_all(self._files, self.mm, self.mappings())

    def files(self) -> Sequence[Mapping]:
        if self._of_files is None:
            try:
                found = mappings(self._files, self.mm, only_files=True) if self.mm else []
            except FaultkitError:
                found = []
            self._of_files = [mapping for mapping in found if mapping.path.startswith("/")]
        return self._of_files

    def _load_code(self) -> Code:
        """As far as its pages are in the dump; symbols of files of this machine that have the
        same build-id."""
        from faultkit.code.process import Code

        return Code(self.read, self.mappings(), here=False)

    def registers(self, task: Task) -> dict[str, int]:
        """Those that a task in the kernel will come back with, but for what a call changes: its
        back trace is from where it entered the kernel."""
        if self.system.on_cpu(task):
            return {}
        words = self.system.user_words(self.system.stack_base(task))
        if words is None:
            return {}
        found = dict(zip(PT_REGS, words))
        return {name: found[name] for name in SAVED}


def call_of(registers: UserRegisters | None) -> Syscall | None:
    """The system call that a task is in; None for one that is in the kernel otherwise (a page
    fault, on its way out of a call), and for 32-bit programs."""
    if registers is None or not registers.is_64 or registers.rax != NO_RESULT:
        return None
    if not 0 <= registers.orig_rax < MOST_CALL:
        return None
    return Syscall(registers.orig_rax, registers.args, registers.rsp, registers.rip)
