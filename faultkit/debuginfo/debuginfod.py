"""Debug information from debuginfod servers, as elfutils' client gets and keeps it."""

from __future__ import annotations

import os
from collections.abc import Sequence

from faultkit.debuginfo.progress import tell

TIMEOUT = 90.0  # seconds without a byte: $DEBUGINFOD_TIMEOUT of debuginfod-find(1)
PIECE = 1 << 16


def server_urls() -> tuple[str, ...]:
    """The servers that $DEBUGINFOD_URLS names."""
    words = os.environ.get("DEBUGINFOD_URLS", "").split()
    return tuple(word for word in words if word.startswith(("http://", "https://", "file://")))


def fetch(build_id: str, urls: Sequence[str]) -> str | None:
    """The path of the debug information of a build-id, in the cache that debuginfod's own client
    uses; None if no server has it."""
    folder = os.path.join(_cache(), build_id)
    path = os.path.join(folder, "debuginfo")
    if os.path.isfile(path) and os.path.getsize(path):
        return path
    for url in urls:
        temporary = f"{path}.faultkit-{os.getpid()}"
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            if _download(f"{url.rstrip('/')}/buildid/{build_id}/debuginfo", temporary):
                os.replace(temporary, path)
                return path
        except (OSError, ValueError):
            continue
        finally:
            try:
                os.unlink(temporary)
            except OSError:
                pass
    return None


def _cache() -> str:
    given = os.environ.get("DEBUGINFOD_CACHE_PATH")
    if given:
        return given
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "debuginfod_client")


def _download(url: str, path: str) -> bool:
    from urllib.request import urlopen

    try:
        timeout = float(os.environ.get("DEBUGINFOD_TIMEOUT", ""))
    except ValueError:
        timeout = TIMEOUT
    with urlopen(url, timeout=timeout) as answer, open(path, "wb") as file:
        size = int(answer.headers.get("Content-Length") or 0)
        done = 0
        while True:
            piece = answer.read(PIECE)
            if not piece:
                break
            file.write(piece)
            done += len(piece)
            of = f" of {size >> 20}" if size else ""
            tell(f"downloading debug information: {done >> 20}{of} MB")
    if size and done != size:
        raise OSError("the download broke off")
    return os.path.getsize(path) > 0
