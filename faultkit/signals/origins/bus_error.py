"""SIGBUS: file mappings without a page behind them, hardware memory errors, misalignment."""

from __future__ import annotations

import os

from faultkit.model import INFERRED
from faultkit.signals.case import Case
from faultkit.signals.model import FAULT
from faultkit.signals.names import SIGBUS
from faultkit.signals.origins import Origin
from faultkit.signals.origins._words import access_words, mapping_words
from faultkit.signals.siginfo import FAULTED, MCEERR_AO, MCEERR_AR
from faultkit.target import PAGE, Mapping

SIGNALS = frozenset((SIGBUS,))
PRIORITY = 20
ADRALN, ADRERR = 1, 2


def explain(case: Case) -> Origin | None:
    """A SIGBUS with an address."""
    info = case.info
    if info.layout != FAULTED or info.address is None:
        return None
    if info.code in (MCEERR_AR, MCEERR_AO):
        return _machine_check(case, info.address)
    words = access_words(case, case.access)
    if info.code == ADRALN:
        return Origin(
            FAULT,
            "misaligned",
            f"Misaligned address: {words} at {info.address:#x}, while alignment checks are on "
            "(EFLAGS.AC), or the access crosses a cache line where split locks are fatal.",
            "misaligned address",
            (f"eflags is {case.registers.get('eflags', 0):#x}",),
            "look for a cast to a type that wants more alignment, and for split locks in dmesg",
        )
    mapping = case.mapping(info.address)
    if mapping is None or not mapping.path:
        what = mapping_words(case, info.address) or "unmapped memory"
        return Origin(
            FAULT,
            "bus-error",
            f"The kernel found no memory for {words} in {what}: no page was left for it, it could "
            "not be read back from swap, or the program's own userfaultfd refuses it.",
            f"no memory behind {what}",
            (f"si_addr is {info.address:#x}",),
            "look in dmesg for I/O errors and for a full tmpfs or no free huge pages",
            INFERRED,
        )
    return _file(case, info.address, mapping, words)


def _machine_check(case: Case, address: int) -> Origin:
    action = case.info.code == MCEERR_AR
    lsb = case.info.lsb or 0
    size = 1 << lsb if 0 < lsb < 40 else PAGE
    what = mapping_words(case, address) or "memory"
    when = (
        "this access hit it" if action else
        "the kernel has found it, and warns (PR_MCE_KILL_EARLY); nothing has read it yet"
    )  # fmt: skip
    return Origin(
        FAULT,
        "hardware-memory-error",
        f"Hardware memory error: the memory at {address:#x}, {size >> 10} KiB of {what}, is "
        f"broken and was taken out of use; {when}. The program is not to blame.",
        f"hardware memory error at {address:#x}",
        (f"si_addr_lsb is {lsb}: {size} bytes are lost",),
        'look in dmesg and rasdaemon for the DIMM (mce, EDAC, "Memory failure"), and replace it',
    )


def _file(case: Case, address: int, mapping: Mapping, words: str) -> Origin:
    offset = mapping.offset + (address - mapping.start & -PAGE)
    size = _size_of(case, mapping)
    name = mapping.path
    evidence = [f"si_addr is {address:#x}, byte {offset:#x} of {name}"]
    if size is not None and size <= offset:
        evidence.append(f"the file has {size} bytes now")
        return Origin(
            FAULT,
            "truncated-mapping",
            f"File mapping beyond the end of its file: {words} hit byte {offset:#x} of {name}, "
            f"which has only {size} bytes: it was truncated, or mapped for more than it has.",
            f"{os.path.basename(name)} is shorter than its mapping",
            tuple(evidence),
            f"look who truncates or rewrites {name} while it is mapped; replace files by rename()",
        )
    if name.startswith(("/dev/shm/", "/memfd:", "/SYSV")) or "hugepage" in name:
        reason = "tmpfs or the huge pages are full, or it was truncated meanwhile"
    else:
        reason = "reading it failed (I/O error, network), or it was truncated meanwhile"
        if case.access is not None and case.access.mode == "write":
            reason = f"its file system had no room for one that it lacked (full, a quota), {reason}"
    evidence.append(
        f"the file has {size} bytes now" if size is not None else "the file can't be asked now"
    )
    room = _room(name) if size is not None else None
    if room is not None:
        evidence.append(f"its file system has {room >> 20} MiB free now")
    return Origin(
        FAULT,
        "failing-mapping",
        f"File mapping without a page: {words} hit byte {offset:#x} of {name}; {reason}.",
        f"no page behind the mapping of {os.path.basename(name)}",
        tuple(evidence),
        "look in dmesg for I/O errors, at df for a full file system, and who truncates the file",
        INFERRED,
    )


def _room(path: str) -> int | None:
    """The bytes that are free in the file's file system, None if that can't be told."""
    try:
        known = os.statvfs(path)
    except OSError:
        return None
    return known.f_bavail * known.f_frsize


def _size_of(case: Case, mapping: Mapping) -> int | None:
    """The mapped file's size in bytes, None if that very file can't be found."""
    process = case.process
    if not process.here:
        return None
    paths = []
    if process.live:
        paths.append(f"/proc/{process.pid}/map_files/{mapping.start:x}-{mapping.end:x}")
    if not mapping.path.endswith(" (deleted)"):
        paths.append(mapping.path)
    for path in paths:
        try:
            known = os.stat(path)
        except OSError:
            continue
        if mapping.inode in (None, known.st_ino):
            return known.st_size
    return None
