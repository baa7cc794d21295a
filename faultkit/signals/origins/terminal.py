"""Signals of the terminal, and of job control: sent by the kernel in nobody's name."""

from __future__ import annotations

from faultkit.model import INFERRED, PROVEN
from faultkit.signals.case import Case
from faultkit.signals.model import TERMINAL
from faultkit.signals.names import (
    SI_KERNEL,
    SIGCONT,
    SIGHUP,
    SIGINT,
    SIGQUIT,
    SIGTSTP,
    SIGTTIN,
    SIGTTOU,
    SIGWINCH,
    signal_name,
)
from faultkit.signals.origins import Origin

SIGNALS = frozenset((SIGHUP, SIGINT, SIGQUIT, SIGTSTP, SIGTTIN, SIGTTOU, SIGWINCH, SIGCONT))
PRIORITY = 30
_WORDS = {
    SIGINT: ("Ctrl-C was typed at", "Ctrl-C"),
    SIGQUIT: ("Ctrl-\\ was typed at", "Ctrl-\\"),
    SIGTSTP: ("Ctrl-Z was typed at", "Ctrl-Z"),
    SIGWINCH: ("the window changed its size, of", "window size changed"),
    SIGTTIN: ("a background process read from", "background read from the terminal"),
    SIGTTOU: ("a background process wrote to, or changed the settings of,",
              "background write to the terminal"),
}  # fmt: skip


def explain(case: Case) -> Origin | None:
    """By the line discipline (isig in drivers/tty/n_tty.c), the terminal's hang-up
    (__tty_hangup), or an orphaned process group (kill_orphaned_pgrp in kernel/exit.c)."""
    number = case.info.number
    if case.info.code != SI_KERNEL:
        return None
    name = signal_name(number)
    terminal = _terminal(case)
    evidence = ("si_code is SI_KERNEL: no process sent it",)
    if number in (SIGHUP, SIGCONT):
        what = (
            "its terminal was hung up (window closed, connection lost, the session's leader "
            "ended)" if number == SIGHUP else "it goes on after its group lost its last parent"
        )  # fmt: skip
        return Origin(
            TERMINAL,
            "hang-up" if number == SIGHUP else "orphaned-group",
            f"{name} by the kernel: {what}, or its stopped process group was orphaned.",
            "terminal hung up" if number == SIGHUP else "process group orphaned",
            evidence,
            "to survive the end of a session: nohup, setsid, tmux, or systemd-run",
            INFERRED,
        )
    said, brief = _WORDS[number]
    return Origin(
        TERMINAL,
        "terminal",
        f"{name} from the terminal: {said} {terminal}; the kernel sends it to the whole "
        "foreground process group.",
        f"{brief}" + (" at the terminal" if number in (SIGINT, SIGQUIT, SIGTSTP) else ""),
        evidence,
        confidence=PROVEN,
    )


def _terminal(case: Case) -> str:
    if case.process.live:
        from faultkit.procfs.process import read_proc

        try:
            stat = read_proc(f"/proc/{case.process.pid}/stat")
            number = int(stat[stat.rindex(b")") + 2 :].split()[4])
        except (OSError, ValueError, IndexError):
            number = 0
        major, minor = number >> 8 & 0xFFF, (number & 0xFF) | (number >> 12 & 0xFFF00)
        if 136 <= major <= 143:
            return f"/dev/pts/{minor + (major - 136 << 8)}"
        if major == 4:
            return f"/dev/tty{minor}"
    return "its terminal"
