"""What the lab keeps between runs: directories made once, whole or not at all.

Everything lies in `${FAULTKIT_CACHE:-~/.cache/faultkit}/lab`.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Callable

FORGET_SECONDS = 3 * 24 * 3600


class LabError(Exception):
    """The lab can't do its part; the text says why, and what to do."""


def lab_directory() -> Path:
    """Where the lab keeps what it has made."""
    fallback = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "faultkit"
    return Path(os.environ.get("FAULTKIT_CACHE") or fallback).absolute() / "lab"


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time has `path`, which need not exist; the others wait."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.parent / f".{path.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def attempt(path: Path) -> Iterator[bool]:
    """Whether nobody else had `path` locked; then it is ours meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.parent / f".{path.name}.lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def once(path: Path, make: Callable[[Path], None]) -> Path:
    """`path`, a directory that `make` fills unless it is there already.

    It is made aside and renamed when it is whole; what `make` raises leaves nothing behind.
    """
    with locked(path):
        if path.is_dir():
            os.utime(path)
        else:
            for left in path.parent.glob(f".{path.name}.*/"):  # by one that was killed
                shutil.rmtree(left, ignore_errors=True)
            aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
            try:
                aside.chmod(0o755)
                make(aside)
                aside.rename(path)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
    return path


def forget(path: Path, others: str) -> None:
    """Delete what has not been used for some days of those beside `path` that match `others`:
    they were made of older sources."""
    for other in path.parent.glob(others):
        if other != path and time.time() - other.stat().st_mtime > FORGET_SECONDS:
            shutil.rmtree(other, ignore_errors=True)


def digest(parts: Iterable[object]) -> str:
    """16 hex digits that stand for the parts: the text of paths' files, the `repr` of others."""
    state = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            state.update(part.name.encode() + b"\0" + part.read_bytes())
        else:
            state.update(repr(part).encode())
        state.update(b"\0")
    return state.hexdigest()[:16]
