"""Signals that a program sent: kill, tgkill, sigqueue, by the process itself or by another."""

from typing import Optional

from faultkit.signals.case import Case
from faultkit.signals.model import KILL, SIGQUEUE, TGKILL, Sender
from faultkit.signals.names import SI_QUEUE, SI_TKILL, SI_USER, signal_name
from faultkit.signals.origins import Origin

SIGNALS = None
PRIORITY = 90


def explain(case: Case) -> Optional[Origin]:
    """A signal with si_code SI_USER, SI_TKILL or another of those that programs may give."""
    info, sender = case.info, case.sender
    if sender is None:
        return None
    name = signal_name(info.number)
    who = sender_words(sender)
    if info.code == SI_TKILL:
        return Origin(TGKILL, "tgkill", f"{name} was sent to this very thread, by {who}.",
                      f"sent by {brief_words(sender)} with tgkill()")  # fmt: skip
    if info.code == SI_QUEUE:
        return Origin(
            SIGQUEUE,
            "sigqueue",
            f"{name} was sent by {who}, by sigqueue() with the value {value_words(info.value)}.",
            f"sent by {brief_words(sender)} with sigqueue()",
        )
    if info.code == SI_USER:
        return Origin(KILL, "kill", f"{name} was sent by {who}, by kill().",
                      f"sent by {brief_words(sender)}")  # fmt: skip
    return None


def value_words(value: Optional[int]) -> str:
    """A sigval as an int, and as a pointer where it does not fit into one."""
    if value is None:
        return "(unknown)"
    low = value & 0xFFFFFFFF
    number = low - (1 << 32) if low >> 31 else low
    return str(number) if value >> 32 in (0, 0xFFFFFFFF) else f"{value:#x}"


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
    return f"{words}, which {sender.fate}" if sender.fate.startswith(("is ", "still")) else (
        f"{words} ({sender.fate})" if sender.fate else words
    )
