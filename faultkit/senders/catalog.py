"""The sites of one vmlinux, found once and kept by its build-id."""

from typing import Any, NamedTuple, Optional

from faultkit import usercache
from faultkit.senders.text import KernelText
from faultkit.senders.trace import Site, Trace
from faultkit.target import FaultkitError

# Of what is kept: to be raised with every change of what is found.
EDITION = 1
_FOLDER = "senders"


class Catalog(NamedTuple):
    """All sites, in order of addresses; `release` as the kernel's banner says it."""

    path: str
    build_id: Optional[str]
    release: Optional[str]
    sites: tuple[Site, ...]


def catalog(path: str) -> Catalog:
    """The sites of the vmlinux at `path`.  Raises FaultkitError for what is none."""
    text = KernelText(path)
    kept = _kept(text.build_id)
    if kept is not None:
        return Catalog(path, text.build_id, text.release, kept)
    trace = Trace(text)
    if not trace.found_primitives:
        raise FaultkitError(
            f"{path} has none of the functions that queue signals",
            "name the vmlinux of a kernel, with all its symbols",
        )
    sites = tuple(site for _, site in sorted(trace.run().sites.items()))
    if text.build_id:
        _keep(text.build_id, sites)
    return Catalog(path, text.build_id, text.release, sites)


def _name(build_id: str) -> str:
    return f"{build_id}-{EDITION}.json"


def _keep(build_id: str, sites: tuple[Site, ...]) -> None:
    import json

    usercache.save(json.dumps(sites), _FOLDER, _name(build_id))


def _kept(build_id: Optional[str]) -> Optional[tuple[Site, ...]]:
    import json

    text = usercache.load(_FOLDER, _name(build_id)) if build_id else None
    if text is None:
        return None
    try:
        return tuple(_site(values) for values in json.loads(text))
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
