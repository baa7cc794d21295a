"""What a kernel's log tells of signals, as findings: OOM kills, faults, poisoned memory..."""

from __future__ import annotations

import re
import time as clock
from collections.abc import Iterator, Sequence

from faultkit.klog.faults import Fault, parse_fault
from faultkit.klog.kills import Kill, parse_kill, seccomp_action
from faultkit.klog.lines import Line
from faultkit.klog.oom import OomKill, parse_oom
from faultkit.model import PROVEN, Task
from faultkit.signals.model import (
    DELIVERED,
    FATAL,
    FAULT,
    KERNEL,
    OOM_KILLER,
    RLIMIT,
    SECCOMP,
    SignalFinding,
    Table,
)
from faultkit.signals.names import (
    SI_KERNEL,
    SIGBUS,
    SIGFPE,
    SIGILL,
    SIGKILL,
    SIGSEGV,
    SIGTRAP,
    signal_name,
)
from faultkit.syscalls import syscall_name

PAGE = 4096
NEAR_NULL = 1 << 16
NEAR_STACK = 1 << 16
BOOT_TIME = 1e8  # clocks since boot show less, those since 1970 more

# The traps' words: signal, cause, what they mean
_TRAPS = {
    "general protection": (SIGSEGV, "general-protection", "an address that is not canonical, or an "
                           "instruction that programs may not use"),
    "divide error": (SIGFPE, "division", "a division by zero, or whose result does not fit"),
    "invalid opcode": (SIGILL, "illegal-instruction", "an instruction that does not exist, or ud2, "
                       "with which compilers and programs stop themselves"),
    "int3": (SIGTRAP, "breakpoint", "a breakpoint instruction without a debugger"),
    "debug": (SIGTRAP, "debug", "a debug exception without a debugger"),
    "overflow": (SIGSEGV, "overflow", "the instruction into"),
    "bounds": (SIGSEGV, "bounds", "the instruction bound"),
    "stack segment": (SIGBUS, "stack-segment", "an address that is not canonical, used through "
                      "the stack pointer"),
    "segment not present": (SIGBUS, "segment", "a segment that is not present"),
    "invalid TSS": (SIGSEGV, "segment", "an invalid task state segment"),
    "coprocessor segment overrun": (SIGFPE, "coprocessor", "a coprocessor segment overrun"),
    "alignment check": (SIGBUS, "alignment", "a misaligned access"),
    "control protection": (SIGSEGV, "shadow-stack", "a return to elsewhere than the shadow stack "
                           "says: a corrupted return address, or code that is not fit for it"),
    "bad frame": (SIGSEGV, "bad-frame", "sigreturn with a signal frame that is damaged"),
    "sigaltstack": (SIGSEGV, "stack-overflow", "a signal handler has used up its alternate stack"),
    "stack-overflow": (SIGSEGV, "stack-overflow", "the stack was used up"),
}  # fmt: skip


def logged_signals(lines: Sequence[Line], pid: int | None = None) -> list[SignalFinding]:
    """All signals that the log tells of, in its order; only those to the process or thread `pid`,
    if given."""
    found: list[tuple[int, SignalFinding]] = []
    for number, line in enumerate(lines):
        fault = parse_fault(line.text)
        if fault is not None:
            found.append((number, _fault(fault, line)))
            continue
        kill = parse_kill(line.text)
        if kill is not None:
            found.append((number, _kill(kill, line)))
    places = _places_of_kills(lines)
    for oom in parse_oom(lines):
        found.append((next(places, len(lines)), oom_finding(oom)))
    found.sort(key=lambda one: one[0])
    return [one for _, one in found if pid is None or pid in (one.task.pid, one.task.tid)]


def _places_of_kills(lines: Sequence[Line]) -> Iterator[int]:
    return (n for n, line in enumerate(lines) if "illed process" in line.text)


def time_words(seconds: float | None) -> str:
    """When it was, in words."""
    if seconds is None:
        return ""
    if seconds < BOOT_TIME:
        return f"{seconds:.3f} s after boot"
    if seconds < 9.5e8:  # lines of syslog, which have no year
        return clock.strftime("on %b %e at %H:%M:%S", clock.gmtime(seconds))
    return clock.strftime("on %Y-%m-%d at %H:%M:%S", clock.gmtime(seconds))


def _finding(
    line: Line,
    pid: int,
    name: str | None,
    number: int,
    origin: str,
    cause: str,
    why: str,
    address: int | None = None,
    next_: str = "",
    state: str = FATAL,
    code: int | None = None,
) -> SignalFinding:
    at = time_words(line.time)
    return SignalFinding(
        Task(pid, pid, name),
        number,
        origin,
        why[0].upper() + why[1:] + (f" ({at})." if at else "."),
        code=code,
        cause=cause,
        address=address,
        state=state,
        confidence=PROVEN,
        evidence=(line.text.strip(),),
        next=next_,
        when=line.time,
    )


# Faults


def _fault(fault: Fault, line: Line) -> SignalFinding:
    if fault.trap == "page fault":
        return _page_fault(fault, line)
    trap = fault.trap.removesuffix(" fault")
    number, cause, words = _TRAPS.get(trap, (SIGFPE, "exception", f"the exception {trap}"))
    why = f"thread {fault.tid} met {words}{_at(fault)}"
    return _finding(
        line, fault.tid, fault.name, number, FAULT, cause, why, fault.address, _look(fault)
    )


def _page_fault(fault: Fault, line: Line) -> SignalFinding:
    """The error code: enum x86_pf_error_code, arch/x86/include/asm/trap_pf.h."""
    address = fault.address or 0
    access = "write to" if fault.error & 2 else "read"
    cause = "bad-address"
    if fault.error & 16:
        access, cause = "execute", "execute"
    where = f"address {address:#x}"
    if address < NEAR_NULL:
        cause = "null-pointer" if cause == "bad-address" else cause
        where += ": a null pointer" if not address else ": a member or element of a null pointer"
    elif fault.error & 1:
        where += ", where memory is mapped that does not permit it"
    if fault.error & 32:
        where += " (its protection key does not)"
    elif _near_stack(fault, address):
        where += ", right below the stack pointer, which points to a stack overflow"
        cause = "stack-overflow"
    why = f"thread {fault.tid} tried to {access} {where}{_at(fault)}"
    return _finding(line, fault.tid, fault.name, SIGSEGV, FAULT, cause, why, address, _look(fault))


def _near_stack(fault: Fault, address: int) -> bool:
    if fault.sp is None or address < NEAR_NULL or fault.error & 1:
        return False
    return -PAGE <= fault.sp - address < NEAR_STACK


def _at(fault: Fault) -> str:
    if fault.ip is None:
        return ""
    if not fault.file:
        return f"; its instruction pointer, {fault.ip:#x}, lay in no file"
    return f"; its instruction was in {fault.file}"


def _look(fault: Fault) -> str:
    """Where the instruction is: by the file's offset where the line has it."""
    core = f"coredumpctl info {fault.tid} tells whether a core was kept"
    if fault.ip is None or not fault.file or fault.base is None:
        return core
    if fault.offset is not None:
        return (
            f"the instruction is at file offset {fault.offset:#x} of {fault.file}: objdump -dl "
            f"shows it (addresses may differ from offsets by what readelf -l says); {core}"
        )
    return (
        f"the instruction is {fault.ip - fault.base:#x} bytes into the mapping of "
        f"{fault.file}; {core}"
    )


# The OOM killer


def oom_finding(oom: OomKill) -> SignalFinding:
    """A kill of the OOM killer's, with the table that it printed."""
    table = _table(oom)
    pid = _process_of(oom)
    tables = [Table("MEMORY", tuple((line,) for line in oom.memory))] if oom.memory else []
    if table is not None:
        tables.append(table)
    evidence = [text.strip() for text in oom.text]
    if oom.reaped:
        evidence.append(oom.reaped.strip())
    at = time_words(oom.time)
    return SignalFinding(
        Task(pid, oom.pid, oom.name),
        SIGKILL,
        OOM_KILLER,
        _oom_words(oom) + (f" ({at})." if at else "."),
        code=SI_KERNEL,
        cause="cgroup-oom" if oom.cgroup else _constraint(oom),
        evidence=tuple(evidence),
        next=_oom_next(oom),
        when=oom.time,
        tables=tuple(tables),
    )


def _constraint(oom: OomKill) -> str:
    return {
        "CONSTRAINT_MEMCG": "cgroup-oom",
        "CONSTRAINT_CPUSET": "cpuset-oom",
        "CONSTRAINT_MEMORY_POLICY": "mempolicy-oom",
    }.get(oom.constraint or "", "global-oom")


def _oom_words(oom: OomKill) -> str:
    kind = _constraint(oom)
    if oom.cgroup or kind == "cgroup-oom":
        limits = {what: (used, limit) for what, used, limit in oom.limits}
        used = limits.get("memory")
        named = f"cgroup {oom.cgroup}" if oom.cgroup else "a cgroup"
        why = f"the OOM killer chose it, as {named} had reached its memory limit"
        if used is not None:
            why += f" ({used[0]} of {used[1]} kB used)"
        if oom.own_cgroup and oom.own_cgroup != oom.cgroup:
            why += f"; the process was in {oom.own_cgroup}"
    else:
        what = {
            "cpuset-oom": "the memory nodes of a cpuset were used up",
            "mempolicy-oom": "the memory nodes of a memory policy were used up",
        }.get(kind, "the machine's memory was used up")
        if oom.constraint is None and not oom.text:
            what = "memory was used up"
        why = f"the OOM killer chose it, as {what}"
    if oom.invoker:
        asked = f"{1 << (oom.order or 0)} page{'s' * bool(oom.order)}"
        why += f"; {oom.invoker} had asked for {asked}"
        flags = re.search(r"\((.*)\)", oom.gfp or "")
        why += f" ({flags[1] if flags else oom.gfp})"
    sizes = {name: size for name, size in oom.sizes.items() if name.endswith("rss")}
    if sizes:
        why += f"; it used {sum(sizes.values())} kB"
    if oom.whole_group:
        why += "; memory.oom.group is set: all processes of the cgroup were killed"
    return "T" + why[1:]


def _oom_next(oom: OomKill) -> str:
    if oom.cgroup:
        return "raise memory.max of the cgroup, or find out what in it uses the memory"
    return "the table shows who used the memory; oom_score_adj tells whom the kernel was to prefer"


def _process_of(oom: OomKill) -> int:
    """The victim's thread group: the table has it."""
    if oom.table is not None and "tgid" in oom.table.columns[:4]:
        place = oom.table.columns.index("tgid")
        for row in oom.table.rows:
            if row[0] == str(oom.pid) and len(row) > place and row[place].isdecimal():
                return int(row[place])
    return oom.pid


def _table(oom: OomKill) -> Table | None:
    if oom.table is None:
        return None
    chosen = next((n for n, row in enumerate(oom.table.rows) if row[0] == str(oom.pid)), None)
    return Table("TASKS (memory in pages)", oom.table.rows, oom.table.columns, chosen)


# The rest


def _kill(kill: Kill, line: Line) -> SignalFinding:
    detail = kill.detail
    pid, name = kill.pid or 0, kill.name
    if kill.kind in ("poison", "poison-forced", "poison-access"):
        page = f"page {detail['pfn']}" if "pfn" in detail else f"address 0x{detail['address']}"
        why = f"hardware memory error: the process maps {page}, which is poisoned"
        if kill.kind == "poison-access":
            why = f"hardware memory error: the process touched a poisoned page, at {page}"
        if kill.kind == "poison-forced":
            why += "; it could not be unmapped, and so the process was killed"
        address = int(detail["address"][:16], 16) if "address" in detail else None
        hardware = "replace the memory module: mcelog, rasdaemon or the firmware's log names it"
        state = FATAL if kill.signal == SIGKILL else DELIVERED
        return _finding(
            line, pid, name, kill.signal, KERNEL, "hardware-poison", why, address, hardware, state
        )
    if kill.kind == "seccomp":
        return _seccomp(kill, line)
    if kill.kind == "abend":
        why = (
            f"the process ended by {signal_name(kill.signal)}, as the audit subsystem notes; where "
            "it came from is not said"
        )
        return _finding(line, pid, name, kill.signal, "unknown", "audit", why)
    if kill.kind == "limit":
        limit = "RLIMIT_CPU" if detail["which"] == "CPU" else "RLIMIT_RTTIME"
        why = f"the process has used more CPU time than the {detail['kind']} {limit} permits"
        return _finding(line, pid, name, kill.signal, RLIMIT, limit.lower(), why)
    if kill.kind == "oomd":
        why = (
            f"systemd-oomd killed all processes of the cgroup {detail['cgroup']}, due to "
            f"{detail['why'].rstrip('.')}"
        )
        return _finding(line, 0, None, SIGKILL, "kill", "systemd-oomd", why)
    if kill.kind == "earlyoom":
        why = "the daemon earlyoom sent it, for want of memory"
        return _finding(line, pid, name, kill.signal, "kill", "earlyoom", why)
    why = f"sysrq ({detail['what']}): to all processes but init"
    return _finding(line, 0, None, kill.signal, KERNEL, "sysrq", why)


def _seccomp(kill: Kill, line: Line) -> SignalFinding:
    call = kill.detail.get("syscall", "")
    number = int(call) if call.isdecimal() and len(call) < 6 else None
    is_64 = number is not None and kill.detail.get("compat") == "0"
    named = syscall_name(number) if number is not None and is_64 else None
    action = seccomp_action(kill.detail.get("code", ""))
    why = f"a seccomp filter answered the system call {named or call or '?'} with {action}"
    ip = kill.detail.get("ip", "")
    return _finding(
        line,
        kill.pid or 0,
        kill.name,
        kill.signal,
        SECCOMP,
        "seccomp",
        why,
        None,
        f"the call was made at {ip} of {kill.detail.get('exe', '?')}" if ip else "",
    )
