"""PR_SET_PDEATHSIG: a signal that the kernel sends when the parent dies, in the parent's name.

It looks like a kill() by the parent (forget_original_parent in kernel/exit.c sends it without a
siginfo of its own): that it was none, only the program's own call of prctl() shows; and that the
sender was the parent, only that it is older, and that a reaper of orphans is the parent now.
"""

from __future__ import annotations

from faultkit.model import INFERRED
from faultkit.procfs.process import parse_stat, read_proc
from faultkit.procfs.status import innermost_pid
from faultkit.signals.case import Case
from faultkit.signals.model import KILL, PARENT_DEATH, Sender
from faultkit.signals.names import SI_USER, signal_name
from faultkit.signals.origins import Origin
from faultkit.signals.origins.sent import brief_words, is_parent, sender_words
from faultkit.target import FaultkitError, ReadError

SIGNALS = None
PRIORITY = 50
PR_SET_PDEATHSIG = 1
EDI_1 = b"\xbf\x01\x00\x00\x00"  # mov $1, %edi
PRCTL = b"\xb8\x9d\x00\x00\x00"  # mov $157, %eax
MOST_CODE = 1 << 26  # bytes of the program's code that are searched
MOST_PLACES = 4096
# Processes that adopt orphans (PR_SET_CHILD_SUBREAPER), besides pid 1
REAPERS = ("systemd", "containerd-shim", "conmon", "tini", "dumb-init", "catatonit")
WINDOW = 96  # bytes around such a move in which the call must be


def explain(case: Case) -> Origin | None:
    """A signal in the name of a process that is gone and may have been the parent, to one that has
    been adopted, and whose code asks for such a signal."""
    info, sender = case.info, case.sender
    if info.code != SI_USER or sender is None or sender.itself or not sender.pid:
        return None
    if is_parent(case, sender):
        return _by_a_thread(case, sender)
    parent = case.process.parent()
    if sender.alive or parent is None:
        return None
    if sender.pid > case.senders.own_pid or not _reaps(case, parent):
        return None  # a child, or anyone else
    place = _asks_for(case, info.number)
    if place is None:
        return None
    name = signal_name(info.number)
    return Origin(
        PARENT_DEATH,
        "parent-death",
        f"{name} came when the parent, pid {sender.pid}, died: the program has asked for it by "
        f"prctl(PR_SET_PDEATHSIG, {name}). The kernel sends it in the parent's name, so that it "
        f"looks like a kill(). The parent is {parent} now. If {sender.pid} was not the parent, or "
        "the call is made elsewhere than in this process, it was a kill().",
        f"its parent, pid {sender.pid}, died (PR_SET_PDEATHSIG), or sent it by kill()",
        (
            f"{place} calls prctl(PR_SET_PDEATHSIG)",
            f"si_pid {sender.pid} {sender.fate}, and the parent is {parent}",
        ),
        "look why the parent ended; a thread that created the child counts as its parent too",
        INFERRED,
    )


def _by_a_thread(case: Case, sender: Sender) -> Origin | None:
    """The parent is still the parent: it has sent the signal, or only its thread that made the
    process has ended, which counts as the parent's death."""
    place = _asks_for(case, case.info.number)
    if place is None:
        return None
    name, pid = signal_name(case.info.number), sender.pid
    return Origin(
        KILL,
        "kill",
        f"{name} was sent by its parent, {sender_words(sender)}, by kill(); or the thread of {pid} "
        f"that made this process has ended: the program asks for it then, by "
        f"prctl(PR_SET_PDEATHSIG, {name}), and both look alike.",
        f"sent by its parent, {brief_words(sender)}, with kill() or PR_SET_PDEATHSIG",
        (f"{place} calls prctl(PR_SET_PDEATHSIG)", f"si_pid is the parent's, {pid}"),
        f"look what {pid} does, and whether its thread that made this process lives on",
        INFERRED,
    )


def _reaps(case: Case, parent: int) -> bool:
    """Whether the parent is one that orphans are given to."""
    process = case.process
    try:
        if (innermost_pid(parent) if process.live else parent) == 1:
            return True
        name = parse_stat(read_proc(f"/proc/{parent}/stat"))[0] if process.here else ""
    except (OSError, ValueError, IndexError, FaultkitError):
        return False
    return name.startswith(REAPERS)


def _asks_for(case: Case, number: int) -> str | None:
    """The function whose code calls prctl(PR_SET_PDEATHSIG, number), if the number is a constant
    there; of any number else."""
    from faultkit.code.x86 import decode

    wanted = b"\xbe" + number.to_bytes(4, "little")  # mov $number, %esi
    calls = 0
    for mapping in case.process.files():
        if mapping.perms[2:3] != "x" or mapping.end - mapping.start > MOST_CODE:
            continue
        if _is_system(mapping.path):
            continue
        try:
            code = case.process.read(mapping.start, mapping.end - mapping.start)
        except ReadError:
            continue
        at = code.find(EDI_1)
        while at >= 0 and calls < MOST_PLACES:
            calls += 1
            before = code[max(0, at - 24) : at]
            place, end = at, min(at + WINDOW, len(code))
            constant = wanted in before
            while place < end:
                instruction = decode(code, mapping.start + place, place)
                if instruction is None:
                    break
                text = code[place : place + instruction.size]
                constant = constant or text == wanted
                called = instruction.kind == "call" and case.code.called(instruction)
                name = called.name if called else None
                if constant and (name == "prctl" or text == PRCTL):
                    return case.place(mapping.start + at) or f"{mapping.start + at:#x}"
                if instruction.kind in ("call", "ret", "jmp"):
                    break
                place += instruction.size
            at = code.find(EDI_1, at + 1)
    return None


def _is_system(path: str) -> bool:
    from faultkit.places import is_library_image

    return is_library_image(path)
