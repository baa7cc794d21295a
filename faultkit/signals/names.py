"""Signals and their codes by name, and in words: include/uapi/asm-generic/siginfo.h, x86_64."""

from __future__ import annotations

from collections.abc import Iterator

(SIGHUP, SIGINT, SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGKILL, SIGUSR1, SIGSEGV,
 SIGUSR2, SIGPIPE, SIGALRM, SIGTERM, SIGSTKFLT, SIGCHLD, SIGCONT, SIGSTOP, SIGTSTP, SIGTTIN,
 SIGTTOU, SIGURG, SIGXCPU, SIGXFSZ, SIGVTALRM, SIGPROF, SIGWINCH, SIGIO, SIGPWR,
 SIGSYS) = range(1, 32)  # fmt: skip
SIGRTMIN, SIGRTMAX = 34, 64  # glibc keeps 32 and 33 for itself, musl 34 too

_NAMES = (
    "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP "
    "TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS"
).split()

# What happens where the program does not say otherwise: signal(7), include/linux/signal.h.
IGNORED = frozenset((SIGCHLD, SIGCONT, SIGURG, SIGWINCH))
STOPPING = frozenset((SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU))
DUMPING = frozenset((SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGFPE, SIGSEGV, SIGBUS, SIGSYS, SIGXCPU,
                     SIGXFSZ))  # fmt: skip

# si_code of whatever signal
SI_USER, SI_KERNEL = 0, 0x80
SI_QUEUE, SI_TIMER, SI_MESGQ, SI_ASYNCIO, SI_SIGIO, SI_TKILL = -1, -2, -3, -4, -5, -6
_COMMON = {
    SI_USER: ("SI_USER", "sent by kill()"),
    SI_KERNEL: ("SI_KERNEL", "sent by the kernel"),
    SI_QUEUE: ("SI_QUEUE", "sent by sigqueue()"),
    SI_TIMER: ("SI_TIMER", "a POSIX timer expired"),
    SI_MESGQ: ("SI_MESGQ", "a POSIX message queue got a message"),
    SI_ASYNCIO: ("SI_ASYNCIO", "asynchronous I/O completed"),
    SI_SIGIO: ("SI_SIGIO", "queued SIGIO"),
    SI_TKILL: ("SI_TKILL", "sent by tgkill() or raise()"),
    -7: ("SI_DETHREAD", "sent by execve() to the other threads"),
    -60: ("SI_ASYNCNL", "a name lookup completed"),
}
_CODES: dict[int, tuple[tuple[str, str], ...]] = {  # from si_code 1 on
    SIGILL: (
        ("ILL_ILLOPC", "illegal opcode"),
        ("ILL_ILLOPN", "illegal operand"),
        ("ILL_ILLADR", "illegal addressing mode"),
        ("ILL_ILLTRP", "illegal trap"),
        ("ILL_PRVOPC", "privileged opcode"),
        ("ILL_PRVREG", "privileged register"),
        ("ILL_COPROC", "coprocessor error"),
        ("ILL_BADSTK", "internal stack error"),
        ("ILL_BADIADDR", "unimplemented instruction address"),
    ),
    SIGFPE: (
        ("FPE_INTDIV", "integer division"),
        ("FPE_INTOVF", "integer overflow"),
        ("FPE_FLTDIV", "floating-point division by zero"),
        ("FPE_FLTOVF", "floating-point overflow"),
        ("FPE_FLTUND", "floating-point underflow"),
        ("FPE_FLTRES", "inexact floating-point result"),
        ("FPE_FLTINV", "invalid floating-point operation"),
        ("FPE_FLTSUB", "subscript out of range"),
        ("FPE_DECOVF", "decimal overflow"),
        ("FPE_DECDIV", "decimal division by zero"),
        ("FPE_DECERR", "packed decimal error"),
        ("FPE_INVASC", "invalid ASCII digit"),
        ("FPE_INVDEC", "invalid decimal digit"),
        ("FPE_FLTUNK", "floating-point exception"),
        ("FPE_CONDTRAP", "trap on condition"),
    ),
    SIGSEGV: (
        ("SEGV_MAPERR", "nothing is mapped at the address"),
        ("SEGV_ACCERR", "the mapping does not permit the access"),
        ("SEGV_BNDERR", "failed address bound checks"),
        ("SEGV_PKUERR", "the protection key does not permit the access"),
        ("SEGV_ACCADI", "memory tag not enabled"),
        ("SEGV_ADIDERR", "disrupting memory tag mismatch"),
        ("SEGV_ADIPERR", "precise memory tag mismatch"),
        ("SEGV_MTEAERR", "asynchronous memory tag error"),
        ("SEGV_MTESERR", "synchronous memory tag error"),
        ("SEGV_CPERR", "control protection: the shadow stack"),
    ),
    SIGBUS: (
        ("BUS_ADRALN", "misaligned address"),
        ("BUS_ADRERR", "the mapping has no memory there"),
        ("BUS_OBJERR", "hardware error of the object"),
        ("BUS_MCEERR_AR", "hardware memory error, consumed by this access"),
        ("BUS_MCEERR_AO", "hardware memory error, found but not consumed yet"),
    ),
    SIGTRAP: (
        ("TRAP_BRKPT", "breakpoint"),
        ("TRAP_TRACE", "single step"),
        ("TRAP_BRANCH", "branch trap"),
        ("TRAP_HWBKPT", "hardware breakpoint or watchpoint"),
        ("TRAP_UNK", "trap"),
        ("TRAP_PERF", "perf event"),
    ),
    SIGCHLD: (
        ("CLD_EXITED", "a child exited"),
        ("CLD_KILLED", "a child was killed by a signal"),
        ("CLD_DUMPED", "a child was killed by a signal and dumped core"),
        ("CLD_TRAPPED", "a traced child has trapped"),
        ("CLD_STOPPED", "a child has stopped"),
        ("CLD_CONTINUED", "a stopped child went on"),
    ),
    SIGIO: (
        ("POLL_IN", "data can be read"),
        ("POLL_OUT", "data can be written"),
        ("POLL_MSG", "a message can be read"),
        ("POLL_ERR", "I/O error"),
        ("POLL_PRI", "urgent data can be read"),
        ("POLL_HUP", "the other side is gone"),
    ),
    SIGSYS: (
        ("SYS_SECCOMP", "seccomp"),
        ("SYS_USER_DISPATCH", "system call user dispatch"),
    ),
}


def signal_name(number: int) -> str:
    """ "SIGSEGV", "SIGRTMIN+3" as glibc counts, "SIG33" of the C library's own, "signal 77" for
    what is none."""
    if 1 <= number <= len(_NAMES):
        return f"SIG{_NAMES[number - 1]}"
    if SIGRTMIN <= number <= SIGRTMAX:
        return "SIGRTMIN" if number == SIGRTMIN else f"SIGRTMIN+{number - SIGRTMIN}"
    return f"SIG{number}" if 0 < number < SIGRTMIN else f"signal {number}"


def signal_number(name: str) -> int | None:
    """The number of "SIGSEGV", "segv", "11", "SIGRTMIN+3", "SIGRTMAX-1"; None if there is none."""
    text = name.strip().upper()
    if text.isascii() and text.isdecimal():
        return int(text) if len(text) < 3 and 1 <= int(text) <= SIGRTMAX else None
    text = text[3:] if text.startswith("SIG") else text
    if text in _NAMES:
        return _NAMES.index(text) + 1
    aliases = {"POLL": SIGIO, "CLD": SIGCHLD, "IOT": SIGABRT}
    if text in aliases:
        return aliases[text]
    for base, start, sign in (("RTMIN", SIGRTMIN, 1), ("RTMAX", SIGRTMAX, -1)):
        if text.startswith(base):
            rest = text[len(base) :].lstrip("+-") or "0"
            number = start + sign * int(rest) if rest.isdecimal() and len(rest) < 3 else 0
            return number if SIGRTMIN <= number <= SIGRTMAX else None
    return None


def code_name(number: int, code: int) -> str:
    """The name of a si_code of that signal; the number where it has none."""
    known = _code(number, code)
    return known[0] if known is not None else str(code)


def code_words(number: int, code: int) -> str:
    """What a si_code of that signal means, in words; "" where that is not known."""
    known = _code(number, code)
    return known[1] if known is not None else ""


def _code(number: int, code: int) -> tuple[str, str] | None:
    own = _CODES.get(number, ())
    if 1 <= code <= len(own):
        return own[code - 1]
    if number == SIGTRAP and code & 0xFF == SIGTRAP and 0 < code >> 8 < 256:
        return f"PTRACE_EVENT {code >> 8}", "a stop for the debugger"
    if 1 <= code <= len(_CODES[SIGIO]):  # by F_SETSIG (siginfo_layout() in kernel/signal.c)
        return _CODES[SIGIO][code - 1]
    return _COMMON.get(code)


def signals_in(mask: int) -> Iterator[int]:
    """The signals of a mask: bit n-1 is signal n."""
    for number in range(1, SIGRTMAX + 1):
        if mask >> (number - 1) & 1:
            yield number


def mask_words(mask: int) -> str:
    """The signals of a mask by name, "none" or "all" where it is so."""
    full = (1 << SIGRTMAX) - 1
    unblockable = 1 << (SIGKILL - 1) | 1 << (SIGSTOP - 1)
    own = 3 << 31  # glibc lets nobody block its own two
    if not mask:
        return "none"
    if (mask | unblockable | own) & full == full:
        return "all"
    missing = [n for n in signals_in(~(mask | unblockable | own) & full)]
    if len(missing) <= 6:
        return "all but " + ", ".join(map(signal_name, missing))
    return ", ".join(map(signal_name, signals_in(mask)))
