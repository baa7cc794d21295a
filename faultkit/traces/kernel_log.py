"""Reports in a kernel log: oopses, warnings, lockups, lockdep, hung tasks, sysrq listings, and
whatever else calls dump_stack(), by kernels from 3.10 to 7.x.

The lines are those of arch/x86/kernel/dumpstack.c (show_trace_log_lvl(), show_opcodes()),
process_64.c (__show_regs()), lib/dump_stack.c (dump_stack_print_info()), kernel/panic.c,
kernel/locking/lockdep.c, kernel/sched/core.c (sched_show_task()).
"""

from __future__ import annotations

import re

from faultkit.decode.model import Address, CodeBytes
from faultkit.traces import architectures
from faultkit.traces.events import (
    KERNEL_HALF,
    Aside,
    Code,
    End,
    Event,
    Foreign,
    Head,
    Offset,
    Place,
    Registers,
    Skip,
    module_name,
)  # fmt: skip

SYMBOL = r"(?P<symbol>[A-Za-z_.$][\w.$:<>@~]*)\+0x(?P<offset>[0-9a-f]+)/0x(?P<size>[0-9a-f]+)"
MODULE = r"(?: \[(?P<module>[\w.-]+)(?: (?P<build_id>[0-9a-f]{16,64}))?[^\]]*\])?"
_POINTER = r"\[<(?P<address>[0-9a-f]+)>\] *"

FRAME = re.compile(rf"(?:^|[\s>\]]|at: )(?:{_POINTER})?(?P<unsure>\? +)?{SYMBOL}{MODULE}\s*$")
_NAMELESS = re.compile(
    r"^\s+(?:\[<[0-9a-f]+>\] *)?(?P<unsure>\? +)?0x(?P<address>[0-9a-f]{8,16})\s*$"
)
_RIP = re.compile(
    rf"\bRIP(?:: (?P<segment>[0-9a-f]{{4}}):| +)(?:{_POINTER})*(?:{SYMBOL}{MODULE}|"
    r"0x(?P<bare>[0-9a-f]+))?"
)
_REGISTER = re.compile(
    r"\b(ORIG_RAX|R[A-D]X|R[SD]I|R[BS]P|R(?:0?[89]|1[0-5])|EFLAGS|CR[0234]|[FG]S|CS|DS|ES|SS):\s*"
    r"(?:([0-9a-f]{4}):)?([0-9a-f]{4,16})(?=[\s(]|$)"
)
_CODE = re.compile(r"\bCode: *((?:(?:<[0-9a-f]{2}>|\([0-9a-f]{2}\)|[0-9a-f]{2})(?: |$)){2,})")
_CPU = re.compile(
    r"CPU: *(?P<cpu>\d+) +(?:UID: *\d+ +)?PID: *(?P<pid>\d+) +Comm: (?P<comm>.*?) +"
    r"(?:Kdump: loaded +)?(?:Not tainted|Tainted:[ A-Z]*)[ -]+(?P<release>\d+\.[^ ]*)(?P<rest>.*)"
)
_OLD_CPU = re.compile(r"^Pid: (?P<pid>\d+), comm: (?P<comm>.*?) .*?(?P<release>\d+\.\d+\.[^ ]+) #")
_NOT_TAINTED = re.compile(r"^\s+(?:Not tainted|Tainted:[ A-Z]+?)[ -]+(?P<release>\d+\.\d+[^ ]*)")
_BUILD_ID = re.compile(r"\b[0-9a-f]{40}\b")
_OFFSET = re.compile(r"Kernel Offset: (?:0x(?P<offset>[0-9a-f]+) from|disabled)")
_VMCOREINFO = re.compile(r"^KERNELOFFSET=(?P<offset>[0-9a-f]+)$")
_TASK = re.compile(
    r"task:(?P<name>.{0,64}?) +state:\S(?: +running task)? +stack: *-?\d+ +pid: *(?P<pid>\d+)"
)
_OLD_TASK = re.compile(
    r"^(?P<name>\S.{0,14}?) +[RSDTtXZPIWKN] +(?:running task +|[0-9a-f]{8,16} +)?"
    r"-?\d+ +(?P<pid>\d+) +\d+ +0x[0-9a-f]+ *$"
)
_HUNG = re.compile(r"INFO: task (?P<name>.+):(?P<pid>\d+) blocked (?:in I/O wait )?for more than")
_LOCK_CHAIN = re.compile(r"^-> #\d+ ")
# Stacks of the past, of objects and pages: mm/kasan, mm/kfence, mm/slub.c, mm/page_owner.c,
# mm/kmemleak.c
_HISTORY = re.compile(
    r"^(?:[Aa]llocated|[Ff]reed) by task|^(?:INFO: )?(?:Allocated|Freed) in .+ age=|"
    r"^page last (?:allocated|free)|^unreferenced object 0x|^Last potentially related|"
    r"^Second to last potentially related"
)
_LOCKS = re.compile(r"^\d+ locks? held by|^Showing all locks")
_LOCK = re.compile(r", at: (?:\[<|[A-Za-z_.$])")  # where it was taken
_SKIPPED = re.compile(
    r"^\s*(?:(?:Call Trace|Call trace|stack backtrace|Stack):|</?(?:TASK|IRQ|NMI|EOE|EOI|SOFTIRQ|"
    r"ENTRY_TRAMPOLINE|#\w+)>|--- .* ---|=+$|Modules linked in:|Hardware name:|Workqueue:|"
    r"Stopper:|Tainted: \[|Unloaded tainted modules:|PKRU:|FS:|CS:|CR2:|DR\d:|"
    r"Not tainted|\"echo 0)"
)
# What a machine says of itself: drivers/edac, arch/x86/kernel/cpu/mce, drivers/acpi/apei,
# arch/x86/kernel/nmi.c, mm/memory-failure.c
_HARDWARE = re.compile(
    r"^(?:mce: |\{\d+\}|BERT: )?\[Hardware Error\]: |^EDAC \w+: \d+ [CU]E |^Memory failure: 0x|"
    r"^NMI: (?:PCI system error|IOCK error|memory parity error)|^Uhhuh\. NMI received"
)
# Lines that name a place in code, which is no frame of a stack: lib/smp_processor_id.c,
# print_irqtrace_events(), nmi_cpu_backtrace()
_MENTION = re.compile(
    r"^caller is |^(?:hard|soft)irqs last +(?:en|dis)abled at|^NMI backtrace for cpu \d+ skipped"
)
# What stands before "kernel BUG at" or below "cut here", and says what was found wrong.
_CHECK = re.compile(
    r"^list_(?:add|del) corruption|^refcount_t: |^usercopy: |^kernel tried to execute NX|"
    r"^BUG [\w-]+ \((?:Not t|T)ainted|^CFI failure at "
)
_MARKER = re.compile(r"^\s*(?:Call Trace|Call trace|Backtrace):")
_END = re.compile(r"---\[ end |^sysrq: (?:SysRq : )?Show |^SysRq : Show ")

# (what a title begins with or holds, the kind of its trace), the first that fits.
_TITLES = tuple(
    (re.compile(pattern), kind)
    for pattern, kind in (
        (r"^(?:(?:NMI )?watchdog: )?"
         r"(?:BUG: soft lockup|(?:CPU ?\d+: )?Watchdog detected hard LOCKUP)", "lockup"),
        (r"possible circular locking dependency|possible recursive locking|^\[ (?:BUG|INFO): |"
         r"^WARNING: (?:inconsistent lock state|bad unlock|suspicious RCU|possible irq lock|"
         r"held lock freed|nested lock|lock held when|SOFTIRQ-|HARDIRQ-)|"
         r"^BUG: Invalid wait context|INFO: possible|^the existing dependency chain|"
         r"INFO: suspicious RCU|^stack backtrace:", "lockdep"),
        (r"^BUG: (?:unable to handle|kernel NULL|KASAN|KFENCE|KCSAN|KMSAN|(?:\w+ )?stack guard)|"
         r"^general protection fault|^Oops|^kernel BUG at|^invalid opcode|^divide error|"
         r"^double fault|^PANIC: double fault|^PANIC: early exception|^stack segment|^int3:|"
         r"^traps: PANIC|^#PF:|^Unable to handle", "oops"),
        (r"^WARNING: CPU: |^WARNING: .+ at .+:\d+|^WARNING: \S+:\d+ at |"
         r"^------------\[ cut here", "warning"),
        (r"INFO: task .+ blocked", "hung-task"),
        (r"^(?:rcu: )?INFO: rcu\w* (?:self-)?detected|^rcu: \w+ kthread|^rcu_\w+: INFO", "stall"),
        (r"^Kernel panic - not syncing", "panic"),
        (r"^BUG: workqueue lockup|^BUG: spinlock lockup", "lockup"),
        (r"^NMI backtrace for cpu", "task"),
        (r"^BUG: |^UBSAN: |: page allocation failure|invoked oom-killer|"
         r"^unchecked MSR|^BUG:", "warning"),
    )
)  # fmt: skip


# What most lines of a long log are, with the prefix that dmesg gives them.
_PLAIN = re.compile(
    rf"(?:\[ *\d+\.\d+\] )?\s{{1,8}}(?:{_POINTER})?(?P<unsure>\? +)?"
    rf"{SYMBOL}{MODULE}\s*$"
)


def plain_frame(line: str) -> Address | None:
    """The frame in a line of a call trace, None for any other line."""
    match = _PLAIN.match(line)
    return _address(match) if match is not None else None


def events(text: str) -> list[Event] | None:
    """What a line of a kernel log means; None if it is none of these lines."""
    if _MENTION.match(text):
        return [Skip()]
    if _HARDWARE.match(text):
        return [Aside("hardware", text.strip())]
    if _CHECK.match(text):
        return [Aside("check", text.strip())]
    head = _head(text)
    if head is not None:
        return [head]
    architecture = architectures.of_line(text)
    if architecture is not None:
        match = FRAME.search(text) if architectures.is_counter(text) else None
        place = [Place(_address(match, exact=True), "oops")] if match is not None else []
        return [Foreign(architecture), *place]
    if text.startswith("IP: "):  # before 4.19: what RIP says once more
        return [Skip()]
    if "RIP" in text:
        found = _instruction(text)
        if found is not None:
            return found
    match = FRAME.search(text)
    if match is not None:
        joined = _LOCK.search(text) is None
        return [Place(_address(match), "stack" if joined else "locks")]
    match = _CODE.search(text)
    if match is not None:
        code = _code(match[1])
        return [Code(code)] if code is not None else [Skip()]
    registers = _registers(text)
    if registers is not None:
        return [registers]
    if _END.search(text):
        return [End()]
    match = _OFFSET.search(text) or _VMCOREINFO.match(text)
    if match is not None:
        return [Offset(int(match["offset"] or "0", 16))]
    match = _NAMELESS.match(text)
    if match is not None and int(match["address"], 16) >= KERNEL_HALF:
        address = int(match["address"], 16)
        if address == (1 << 64) - 1:  # where old kernels end a stack
            return [Skip()]
        return [Place(Address(address, unreliable=bool(match["unsure"])), "stack")]
    if _MARKER.match(text):
        return [Head("", "", joins=True)]
    return [Skip()] if _SKIPPED.match(text) else None


def _head(text: str) -> Head | None:
    match = _CPU.search(text)
    if match is not None and not text.startswith("WARNING: CPU"):
        build_id = _BUILD_ID.search(match["rest"])
        return Head(
            "", "", match["comm"], int(match["pid"]), int(match["cpu"]), match["release"],
            build_id[0] if build_id else None,
        )  # fmt: skip
    match = _OLD_CPU.match(text)
    if match is not None:
        return Head("", "", match["comm"], int(match["pid"]), release=match["release"])
    match = _TASK.search(text) or _OLD_TASK.match(text)
    if match is not None:
        return Head("task", text.strip(), match["name"].strip(), int(match["pid"]))
    match = _NOT_TAINTED.match(text)
    if match is not None:
        return Head("", "", release=match["release"])
    match = _HUNG.search(text)
    if match is not None:
        return Head("hung-task", text.strip(), match["name"], int(match["pid"]))
    if _LOCK_CHAIN.match(text):
        return Head("lockdep", text.strip(), joins=False)
    if _HISTORY.match(text):
        return Head("history", text.strip(), joins=False)
    if _LOCKS.match(text):
        return Head("locks", text.strip(), joins=False)
    for pattern, kind in _TITLES:
        if pattern.search(text):
            return Head(kind, "" if text.startswith("-----") else text.strip())
    return None


def _address(match: re.Match[str], exact: bool = False) -> Address:
    address = match["address"]
    # Since 4.10 the kernel prints [<0>], or nothing.
    known = int(address, 16) if address is not None and len(address) > 7 else None
    unsure = bool(match.groupdict().get("unsure"))
    return Address(
        known or None,
        exact,
        match["symbol"],
        int(match["offset"], 16),
        int(match["size"], 16),
        module_name(match["module"]),
        unsure,
        build_id=match["build_id"],
    )


def _instruction(text: str) -> list[Event] | None:
    """What a line with RIP says; user space's is no frame of the kernel's."""
    match = _RIP.search(text)
    if match is None or text[: match.start()].endswith("opcode bytes at "):
        return None  # "Code: Unable to access opcode bytes at RIP 0x...", until 5.18
    if match["segment"] in ("0033", "0023"):
        return [Registers({}, user=True)]
    found: list[Event] = []
    if match["symbol"] is not None:
        found.append(Place(_address(match, exact=True), "oops"))
    else:
        bare = match["bare"] or match["address"]
        address = int(bare, 16) if bare else 0
        if address >= KERNEL_HALF or bare:
            found.append(Place(Address(address, True), "oops"))
        else:
            return None
    registers = _registers(text[match.end() :])
    return [*found, registers] if registers is not None else found


def _registers(text: str) -> Registers | None:
    found = _REGISTER.findall(text)
    if not found:
        return None
    values = {}
    user = False
    for name, segment, value in found:
        user |= segment in ("002b", "0033")
        name = name.lower()
        if name in ("r08", "r09", "r8", "r9"):
            name = f"r{name[-1]}"
        values[name] = int(value, 16)
    return Registers(values, user)


def _code(text: str) -> CodeBytes | None:
    words = text.split()
    marked = [index for index, word in enumerate(words) if not word.isalnum()]
    data = bytes(int(word.strip("<>()"), 16) for word in words)
    return CodeBytes(data, marked[0]) if len(marked) == 1 else None
