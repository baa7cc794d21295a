"""Other signals that the kernel sends in nobody's name."""

from __future__ import annotations

from faultkit.signals.case import Case
from faultkit.signals.model import IO_READY, KERNEL
from faultkit.signals.names import SI_KERNEL, SIGIO, SIGKILL, SIGTERM, SIGURG, signal_name
from faultkit.signals.origins import Origin

SIGNALS = frozenset((SIGTERM, SIGKILL, SIGIO, SIGURG))
PRIORITY = 60


def explain(case: Case) -> Origin | None:
    """SI_KERNEL: sysrq (send_sig_all in drivers/tty/sysrq.c), SIGIO and SIGURG without a siginfo of
    their own (send_sigio_to_task, send_sigurg in fs/fcntl.c)."""
    if case.info.code != SI_KERNEL:
        return None
    name = signal_name(case.info.number)
    evidence = ("si_code is SI_KERNEL: no process sent it",)
    if case.info.number in (SIGTERM, SIGKILL):
        key = "e" if case.info.number == SIGTERM else "i"
        return Origin(
            KERNEL,
            "sysrq",
            f"{name} by the kernel itself: sysrq-{key} sends it to all processes.",
            f"sent by the kernel, as sysrq-{key} does",
            evidence,
            'look in dmesg for "sysrq": who wrote to /proc/sysrq-trigger, or used the keyboard',
        )
    what = "is ready" if case.info.number == SIGIO else "has urgent (out-of-band) data"
    return Origin(
        IO_READY,
        "io",
        f"{name}: a descriptor {what}. The program has asked for it by fcntl(F_SETOWN); which one "
        "it is, the kernel does not tell without F_SETSIG.",
        f"a descriptor {what}",
        evidence,
    )
