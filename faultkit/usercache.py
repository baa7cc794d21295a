"""Files that are kept for the next time: in $FAULTKIT_CACHE, else faultkit below the user's cache
directory."""

import os
from contextlib import suppress
from typing import Optional

MOST = 64 << 20  # bytes of a file that is read


def directory() -> str:
    """Where they lie; it may not exist."""
    chosen = os.environ.get("FAULTKIT_CACHE")
    if chosen:
        return os.path.abspath(chosen)
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(caches, "faultkit")


def load(*names: str) -> Optional[str]:
    """The file's text, None if there is none that can be read."""
    try:
        with open(os.path.join(directory(), *names), encoding="utf-8") as file:
            return file.read(MOST)
    except (OSError, ValueError):
        return None


def save(text: str, *names: str) -> None:
    """Keep the text, as a whole or not at all; a disk that is full or not ours is no error."""
    path = os.path.join(directory(), *names)
    aside = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(aside, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(aside, path)
    except OSError:
        with suppress(OSError):
            os.unlink(aside)
