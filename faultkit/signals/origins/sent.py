"""Signals that a program sent: kill, tgkill, sigqueue, by the process itself or by another."""

from __future__ import annotations

from faultkit.signals.case import Case
from faultkit.signals.model import KILL, SIGQUEUE, TGKILL, UNKNOWN, Sender
from faultkit.signals.names import SI_QUEUE, SI_TKILL, SI_USER, code_words, signal_name
from faultkit.signals.origins import Origin
from faultkit.signals.origins._calls_made import Call, last_call, signed32
from faultkit.signals.siginfo import Siginfo

SIGNALS = None
PRIORITY = 90
KILLS = ("kill", "tkill", "tgkill")


def explain(case: Case) -> Origin | None:
    """A signal with si_code SI_USER, SI_TKILL or another of those that programs may give."""
    info, sender = case.info, case.sender
    if sender is None:
        return None
    name = signal_name(info.number)
    who, brief = sender_words(sender), brief_words(sender)
    if is_parent(case, sender):
        who, brief = f"its parent, {who}", f"its parent, {brief},"
    said = _next(case, sender)
    if info.code == SI_TKILL:
        by = _own_call(case) or f"{name} was sent to this very thread, by {who}"
        return Origin(TGKILL, "raise" if sender.itself else "tgkill", f"{by}.",
                      f"sent by {brief} with tgkill() or raise()", next=said)  # fmt: skip
    if info.code == SI_QUEUE:
        value = value_words(info)
        return Origin(
            SIGQUEUE,
            "sigqueue",
            f"{name} was sent by {who}, by sigqueue() with the value {value}.",
            f"sent by {brief} with sigqueue(), value {value}",
            next=said,
        )
    if info.code == SI_USER:
        by = _own_call(case) or f"{name} was sent by {who}, by kill()"
        return Origin(
            KILL,
            "kill",
            f"{by}.",
            f"sent by {brief} with {_own_way(case)}()",
            _lost_parent(case),
            said,
        )
    by = f"{name} was sent by {who}: {code_words(info.number, info.code) or 'a code of its own'}"
    return Origin(UNKNOWN if info.code > 0 else SIGQUEUE, "sent", f"{by}.", f"sent by {brief}",
                  next=said)  # fmt: skip


def _sends(call: Call | None) -> bool:
    """Whether the signal may have been sent by that call: by itself, or before it, which lets
    through what C libraries block while they send."""
    return call is not None and call.name in (*KILLS, "pidfd_send_signal", "rt_sigprocmask")


def is_parent(case: Case, sender: Sender) -> bool:
    """Whether the sender is the receiver's parent: of a live process, where both ids mean the
    same pid namespace."""
    process = case.process
    if process.live and case.senders.own_pid != process.pid:
        return False
    return bool(sender.pid) and process.parent() == sender.pid


def _own_way(case: Case) -> str:
    """The call by which a signal with SI_USER was sent, as far as it is known."""
    call = last_call(case) if case.by_itself else None
    return "pidfd_send_signal" if call is not None and call.name == "pidfd_send_signal" else "kill"


def _own_call(case: Case) -> str:
    """What the process did where it has sent the signal to itself, by its system call."""
    if not case.by_itself:
        return ""
    name = signal_name(case.info.number)
    call = last_call(case)
    place = case.own_place()
    by = f" by {place}" if place and case.registers else ""
    way = ", with raise() or pthread_kill()" if case.info.code == SI_TKILL else ""
    if case.registers and (call is None or call.nr >= 0) and not _sends(call):
        came = f"in {call.name}()" if call is not None else "outside of any system call"
        return (
            f"The process sent {name} to itself{way}; not here, where it came {came}: another "
            "thread did, or this one while it was blocked"
        )
    if call is None or call.name not in KILLS:
        return f"The process sent {name} to itself{way}{by}"
    if call.name != "kill":
        return f"The process sent {name} to itself, with raise() or pthread_kill(){by}"
    target = signed32(call.arguments[0])
    if target == 0:
        return f"The process sent {name} to its own process group, with kill(0, ...){by}"
    if target == -1:
        return f"The process sent {name} to every process that it may, with kill(-1, ...){by}"
    if target < 0:
        return f"The process sent {name} to process group {-target}, its own, with kill(){by}"
    return f"The process sent {name} to itself, with kill(){by}"


def _lost_parent(case: Case) -> tuple[str, ...]:
    """A note for a signal of a process that is gone, and may have been the parent."""
    sender, parent = case.sender, case.process.parent()
    if sender is None or sender.alive is not False or not sender.pid or parent == sender.pid:
        return ()
    if parent != 1 or sender.pid > case.senders.own_pid:
        return ()
    return (
        "the process has lost its parent (it is 1 now): if that was the sender, it may have been "
        "prctl(PR_SET_PDEATHSIG), set before an execve(), instead of a kill()",
    )


def _next(case: Case, sender: Sender) -> str:
    if sender.itself:
        return "look why the program does that"
    if sender.own_pid == 1 and sender.alive:
        return (
            "pid 1 stops services: `systemctl status` and `journalctl -b` say why (stop, watchdog, "
            "timeout, memory)"
        )
    if sender.pid == 0 or sender.alive is False:
        return "for the next time: `sigsrc --arm` records who sends signals"
    pid = sender.own_pid
    return f"look what {pid} does: its log, ps -fp {pid}" if sender.alive else ""


def value_words(info: Siginfo) -> str:
    """A sigval as an int, or as a pointer where it does not fit into one."""
    value = info.number_sent
    if value is None:
        return "(unknown)"
    return str(value) if -(1 << 31) <= value < 1 << 31 else f"{value:#x}"


def brief_words(sender: Sender) -> str:
    """The sender in few words."""
    if sender.itself:
        return "itself"
    return f"pid {sender.pid}" + (f' "{sender.name}"' if sender.name else "")


def sender_words(sender: Sender) -> str:
    """The sender in words: pid, name, user, and what has become of it."""
    if sender.itself:
        return "the process itself"
    words = brief_words(sender)
    if sender.uid is not None:
        words += f" of uid {sender.uid}" + (f" ({sender.user})" if sender.user else "")
    return (
        f"{words}, which {sender.fate}"
        if sender.fate.startswith(("is ", "still"))
        else (f"{words} ({sender.fate})" if sender.fate else words)
    )
