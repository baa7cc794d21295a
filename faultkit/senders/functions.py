"""The kernel's functions that send signals: where the rest is found from, and which of them are
interfaces, whose callers choose.

kernel/signal.c of 5.10 to 7.3; include/linux/sched/signal.h lists the interfaces.
"""

from __future__ import annotations

import re

from faultkit.record import NamedTuple
from faultkit.senders.places import Place, Slot

SIGKILL = 9
SI_CODE = 8  # where it lies in a siginfo; the signal's number lies at 0


class Primitive(NamedTuple):
    """A function that queues a signal: where its number and its si_code are given, or a siginfo
    that may be SEND_SIG_NOINFO or SEND_SIG_PRIV; or the one signal it sends."""

    name: str
    signal: Place | None = None
    code: Place | None = None
    info: Place | None = None
    fixed: int | None = None


# All others end in one of these.
PRIMITIVES = (
    # 157cc18122b4 ("signal: Rename send_signal send_signal_locked", 5.19)
    Primitive("__send_signal_locked", "rdi", None, "rsi"),
    Primitive("__send_signal", "rdi", None, "rsi"),
    Primitive("complete_signal", "rdi"),  # timers queue by themselves, and then call this
    Primitive("force_sig_info_to_task", Slot("rdi", 0), Slot("rdi", SI_CODE)),
    # These set SIGKILL in the pending mask and wake the thread, without a siginfo.
    Primitive("zap_other_threads", fixed=SIGKILL),
    Primitive("zap_process", fixed=SIGKILL),
)

# Interfaces: a constant in one of these is the choice of whoever calls it.
_INTERFACE = re.compile(
    r"_*(?:force_(?:fatal_|exit_)?sig(?:segv|_\w+)?|(?:do_)?send_sig(?:_\w+|nal|nal_locked|trap)?|"
    r"group_send_sig_info|specific_send_sig_info|send_sigqueue|send_group_sigqueue|"
    r"kill_(?:pid|pgrp|proc)(?:_\w+)?|kill_fasync|do_notify_parent(?:_cldstop)?|complete_signal|"
    r"zap_other_threads|do_send_specific|kill_something_info)$"
)
# Not what the name looks like: these choose themselves.
_NOT_INTERFACES = frozenset(("send_signal_irq_work", "send_sig_all", "kill_pid_ns"))


def is_interface(name: str) -> bool:
    """Whether a function passes on what its callers want, whatever constants are in it."""
    return name not in _NOT_INTERFACES and _INTERFACE.match(name) is not None


# Interfaces with an argument `priv`: whether the signal is the kernel's own (SEND_SIG_PRIV)
PRIVILEGE: dict[str, Place] = {
    "send_sig": "rdx",
    "kill_pgrp": "rdx",
    "kill_pid": "rdx",
    "kill_cad_pid": "rsi",
}
# What siginfo may be instead of a pointer (include/linux/sched/signal.h), and send_sig()'s priv.
INFO_CODES = {0: 0, 1: 0x80}  # SI_USER, SI_KERNEL
