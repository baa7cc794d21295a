"""`sigsrc --kernel`: every place in a kernel build that can send a signal."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from faultkit.debuginfo.lookup import Lookup
from faultkit.debuginfo.sections import PLACE
from faultkit.model import FOUND, NOT_FOUND, Report, SourceLine
from faultkit.senders.catalog import Catalog, catalog, of_modules
from faultkit.senders.model import Place
from faultkit.senders.module import module_name
from faultkit.senders.trace import Site
from faultkit.senders.words import when
from faultkit.signals.names import signal_name, signal_number
from faultkit.target import FaultkitError


def parse_signal(text: str) -> int | None:
    """The number of the signal that is asked for, None for "all".  Raises FaultkitError."""
    if text.lower() == "all":
        return None
    number = signal_number(text)
    if number is None:
        raise FaultkitError(f"`{text}` is no signal", "name one as in SIGBUS, bus or 7; or all")
    return number


def analyze_senders(
    path: str,
    signal: int | None,
    host: dict[str, str | None],
    modules: Sequence[str] = (),
) -> Report:
    """The places in the vmlinux at `path`, and in the files of `modules`, that send `signal`, those
    that send what they are told last; None: all signals.  Raises FaultkitError."""
    begun = time.monotonic()
    found = catalog(path)
    chosen, told = [], []
    for site in found.sites:
        if signal in site.signals or (signal is None and site.signals):
            chosen.append(place(site))
        elif site.open:
            told.append(place(site))
    chosen, told = _with_lines(path, chosen), _with_lines(path, told)
    for file, site, (section, offset) in of_modules(path, modules):
        one = place(site)._replace(module=module_name(file), address=offset)
        one = _at_line(one, _module_lines(file, section, offset))
        if signal in site.signals or (signal is None and site.signals):
            chosen.append(one)
        elif site.open:
            told.append(one)
    report = Report(
        "sigsrc",
        host,
        {"kind": "kernel", "name": os.path.basename(path), "release": found.release},
        FOUND if chosen or told else NOT_FOUND,
        _summary(found, signal, chosen, told),
    )
    report.senders = [*chosen, *told]
    report.counts = {"places": len(chosen), "open": len(told)}
    which = "modules that are not named" if modules else "modules"
    report.limits.append(
        f"{which} were not read: drivers among them may send signals, too (--module FILE)"
    )
    report.elapsed_seconds = time.monotonic() - begun
    return report


def place(site: Site) -> Place:
    """The site with what is said of it."""
    words = when(site.function)
    return Place(
        site.address,
        site.function,
        site.signals,
        tuple(code - (code >> 31 << 32) for code in site.codes),
        site.way[0] if site.way else None,
        site.way,
        words or _untold(site),
        site.open,
    )


def _with_lines(path: str, places: list[Place]) -> list[Place]:
    """The same, each with the inline chain of its call; words, too, by the inlined function."""
    try:
        chains = Lookup(path).chains(one.address for one in places)
    except FaultkitError:
        return places
    return [_at_line(one, chains.get(one.address, ())) for one in places]


def _module_lines(file: str, section: int, offset: int) -> tuple[SourceLine, ...]:
    """The inline chain of a place in a module, if its file has debug information."""
    address = section << PLACE | offset
    try:
        return Lookup(file).chains((address,)).get(address, ())
    except FaultkitError:
        return ()


def _at_line(one: Place, chain: tuple[SourceLine, ...]) -> Place:
    inlined = (when(level.function or "") for level in chain[:-1])
    words = next(filter(None, inlined), "") or one.when
    if not words or words == "; ".join(one.open):
        words = when(one.function, chain[0].file if chain else None) or words
    return one._replace(lines=chain, when=words)


def _untold(site: Site) -> str:
    return "" if site.signals else "; ".join(site.open)


def _summary(found: Catalog, signal: int | None, chosen: list[Place], told: list[Place]) -> str:
    what = "signals" if signal is None else signal_name(signal)
    functions = len({one.function for one in chosen})
    if not chosen:
        words = f"no place in this kernel chooses {what}"
    else:
        words = f"{len(chosen)} place{'s' * (len(chosen) != 1)} in {functions} function"
        words += f"{'s' * (functions != 1)} send{'s' * (len(chosen) == 1)} {what}"
    if told:
        words += f"; {len(told)} send what they are told"
    return words
