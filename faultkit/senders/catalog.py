"""The sites of one vmlinux, found once and kept by its build-id."""

from __future__ import annotations

from collections.abc import Sequence

from faultkit.debuginfo.cache import Cache
from faultkit.record import NamedTuple
from faultkit.senders.text import KernelText
from faultkit.senders.trace import Site, Trace
from faultkit.target import FaultkitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


# Of what is kept: to be raised with every change of what is found.
EDITION = "1"
_KIND = "senders"


class Catalog(NamedTuple):
    """All sites, in order of addresses; `release` as the kernel's banner says it."""

    path: str
    build_id: str | None
    release: str | None
    sites: tuple[Site, ...]


def catalog(path: str) -> Catalog:
    """The sites of the vmlinux at `path`.  Raises FaultkitError for what is none."""
    import json

    text = KernelText(path)
    cache = Cache(f"{text.build_id}-{text.size:x}" if text.build_id else "")
    kept = _kept(cache)
    if kept is not None:
        return Catalog(path, text.build_id, text.release, kept)
    trace = Trace(text)
    if not trace.found_primitives:
        raise FaultkitError(
            f"{path} has none of the functions that queue signals",
            "name the vmlinux of a kernel, with all its symbols",
        )
    sites = tuple(site for _, site in sorted(trace.run().sites.items()))
    cache.put(_KIND, {EDITION: json.dumps(sites)})
    return Catalog(path, text.build_id, text.release, sites)


def of_modules(path: str, modules: Sequence[str]) -> list[tuple[str, Site, tuple[int, int]]]:
    """(file, site, (section, offset)) of the sites in modules' files, for the kernel of the vmlinux
    at `path`.  Raises FaultkitError for what is none."""
    from faultkit.senders.module import ModuleText

    texts = [ModuleText(module) for module in modules]
    found: list[tuple[str, Site, tuple[int, int]]] = []
    if not texts:
        return found
    sinks = Trace(KernelText(path)).run().sinks
    for text in texts:
        known = [
            sink._replace(start=text.outside[sink.name])
            for sink in sinks
            if sink.name in text.outside
        ]
        trace = Trace(text, known) if known else None
        for address, site in sorted(trace.run().sites.items()) if trace is not None else ():
            found.append((text.path, site, text.place(address)))
    return found


def _kept(cache: Cache) -> tuple[Site, ...] | None:
    import json

    text = cache.get(_KIND, (EDITION,)).get(EDITION)
    try:
        return tuple(_site(values) for values in json.loads(text)) if text is not None else None
    except (ValueError, TypeError):
        return None


def _site(values: Any) -> Site:
    """Raises TypeError, ValueError where it is no site."""
    address, function, signals, codes, reasons, way = values
    if not isinstance(address, int) or not isinstance(function, str):
        raise TypeError
    return Site(
        address,
        function,
        tuple(map(int, signals)),
        tuple(map(int, codes)),
        tuple(map(str, reasons)),
        tuple(map(str, way)),
    )
