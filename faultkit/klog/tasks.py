"""Tasks and their stacks in a kernel log: what sched_show_task() and show_stack() print for
sysrq-w, sysrq-t and hung-task reports, by kernels from 3.10 to 7.x."""

from __future__ import annotations

import re
from collections.abc import Iterable

from faultkit.klog.hung import parse_hung
from faultkit.klog.lines import Line
from faultkit.model import Frame, Task
from faultkit.procfs.tasks import base_name
from faultkit.record import NamedTuple
from faultkit.target import Syscall

MOST_FRAMES = 64

# Since 5.11 (kernel/sched/core.c, sched_show_task()); tgid since 6.10, task_flags since 6.14:
#   task:cat  state:D stack:0     pid:1234  tgid:1234  ppid:1  task_flags:0x400000 flags:0x00004002
_TASK = re.compile(
    r"task:(?P<name>.*?) +state:(?P<state>\S)(?: +running task)? +stack: *-?\d+ +"
    r"pid: *(?P<pid>\d+) +(?:tgid: *(?P<tgid>\d+) +)?ppid: *(?P<parent>\d+)"
)
# Before:   cat             D    0  1234      1 0x00000080     (3.10: an address before the 0)
_OLD_TASK = re.compile(
    r"(?P<name>\S.{0,14}?) +(?P<state>[RSDTtXZPIWKN]) +(?:running task +|[0-9a-f]{8,16} +)?"
    r"-?\d+ +(?P<pid>\d+) +(?P<parent>\d+) +0x[0-9a-f]+ *$"
)
_FRAME = re.compile(
    r"\s*(?:\[<[0-9a-fx]*>\])?\s*(?P<unsure>\? )?\s*(?P<name>[A-Za-z_][\w.$]*)\+0x"
    r"(?P<offset>[0-9a-f]+)/0x[0-9a-f]+(?: \[(?P<module>[\w-]+)[^\]]*\])?\s*$"
)
_BLOCKED = re.compile(r"sysrq: (?:SysRq : )?Show Blocked State|^SysRq : Show Blocked State")
_ALL = re.compile(r"sysrq: (?:SysRq : )?Show State$|^SysRq : Show State$")
_REGISTER = re.compile(
    r"\b(ORIG_RAX|R[A-D]X|R[SD]I|R\d\d|RSP|RIP): (?:[0-9a-f]{4}:)?(0x)?([0-9a-f]+)"
)
_SKIPPED = re.compile(
    r"\s*(?:Call Trace:|</?(?:TASK|IRQ|NMI|EOE|#\w+)>|(?:Workqueue|Tainted|Code|Stopper): .*|"
    r"Not tainted.*|\"echo 0.*)\s*$"
)
_ARGUMENTS = ("rdi", "rsi", "rdx", "r10", "r08", "r09")


class Shown(NamedTuple):
    """One task as it was printed.  `listing` counts the sysrq listings before it; `seconds` are
    those of the hung-task report that it belongs to."""

    task: Task
    parent: int
    frames: tuple[Frame, ...]
    syscall: Syscall | None
    time: float | None
    listing: int
    seconds: float | None

    @property
    def functions(self) -> tuple[str, ...]:
        """The functions of the frames, innermost first, without clone suffixes."""
        return tuple(base_name(frame.symbol or "") for frame in self.frames)


class Listing(NamedTuple):
    """All tasks that a log shows, in its order; how many sysrq listings it holds, and whether the
    last one is of all tasks (sysrq-t) or of the blocked ones."""

    shown: tuple[Shown, ...]
    listings: int
    of_all: bool


def parse_tasks(lines: Iterable[Line]) -> Listing:
    """The tasks among the lines."""
    found: list[_Open] = []
    current: _Open | None = None
    listings = 0
    of_all = False
    hung: dict[int, float] = {}
    for line in lines:
        text = line.text
        if _BLOCKED.search(text) or _ALL.search(text):
            listings += 1
            of_all = _ALL.search(text) is not None
            current = None
            continue
        report = parse_hung(text)
        if report is not None:
            hung[report.tid] = report.seconds
            current = None
            continue
        head = _TASK.search(text) or _OLD_TASK.fullmatch(text.strip())
        if head is not None:
            current = _Open(head, line.time, listings, hung.pop(int(head["pid"]), None))
            found.append(current)
        elif current is not None and not current.take(text):
            current = None
    return Listing(tuple(task.shown() for task in found), listings, of_all)


class _Open:
    """A task whose lines are being read."""

    def __init__(
        self,
        head: re.Match[str],
        time: float | None,
        listing: int,
        seconds: float | None,
    ) -> None:
        groups = head.groupdict()
        self._tid = int(groups["pid"])
        self._task = Task(
            int(groups.get("tgid") or self._tid), self._tid, groups["name"].strip(), groups["state"]
        )
        self._parent = int(groups["parent"])
        self._time, self._listing, self._seconds = time, listing, seconds
        self._frames: list[Frame] = []
        self._registers: dict[str, int] = {}

    def take(self, text: str) -> bool:
        """Take in one more line; False if it does not belong to the task."""
        frame = _FRAME.match(text)
        if frame is not None:
            if not frame["unsure"] and len(self._frames) < MOST_FRAMES and not self._registers:
                offset = int(frame["offset"], 16)
                self._frames.append(
                    Frame(len(self._frames), 0, frame["name"], offset, frame["module"])
                )
            return True
        registers = _REGISTER.findall(text)
        if registers:
            for name, _, value in registers:
                self._registers.setdefault(name.lower(), int(value, 16))
            return True
        return _SKIPPED.match(text) is not None or not text.strip()

    def shown(self) -> Shown:
        return Shown(
            self._task,
            self._parent,
            tuple(self._frames),
            self._syscall(),
            self._time,
            self._listing,
            self._seconds,
        )

    def _syscall(self) -> Syscall | None:
        """What the user registers tell; ORIG_RAX is -1 outside of a system call."""
        number = self._registers.get("orig_rax", 1 << 63)
        if number >> 31:
            return None
        values = self._registers
        arguments = tuple(values.get(name, 0) for name in _ARGUMENTS)
        return Syscall(number, arguments, values.get("rsp", 0), values.get("rip", 0))
