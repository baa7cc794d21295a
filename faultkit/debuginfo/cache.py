"""What was found in a file with debug information, kept in the user's cache directory.

One small database for each file, named by its build-id and size: what was found there is true
for ever.  Whatever goes wrong with it costs nothing but the time that it would have saved.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterable, Mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3

FORMAT = 3  # part of the path: change it with the meaning of what is kept
AT_ONCE = 500  # keys of one query
PATIENCE = 2.0  # seconds to wait for another process


def cache_directory() -> str:
    """$FAULTKIT_CACHE, else faultkit in the user's cache directory."""
    given = os.environ.get("FAULTKIT_CACHE")
    if given:
        return given
    base = os.environ.get("XDG_CACHE_HOME") or ""
    if not base.startswith("/"):  # so the XDG base directory specification
        base = os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "faultkit")


class Cache:
    """Texts by kind and key, for one file.  No method raises."""

    def __init__(self, name: str) -> None:
        """`name` identifies the file's content; "" keeps nothing."""
        folder = os.path.join(cache_directory(), f"lines-{FORMAT}")
        self.path = os.path.join(folder, f"{name}.sqlite") if name else ""
        self._database: sqlite3.Connection | None = None

    def get(self, kind: str, keys: Iterable[str]) -> dict[str, str]:
        """What is kept of the keys."""
        wanted = [f"{kind} {key}" for key in keys]
        found: dict[str, str] = {}

        def read(database: sqlite3.Connection) -> None:
            for start in range(0, len(wanted), AT_ONCE):
                some = wanted[start : start + AT_ONCE]
                marks = ",".join("?" * len(some))
                rows = database.execute(
                    f"SELECT key, sum, text FROM kept WHERE key IN ({marks})", some
                )
                for key, told, text in rows:
                    if told != _sum(key, text):
                        raise _damaged()
                    found[key[len(kind) + 1 :]] = text

        if wanted and not self._do(read, create=False):
            found.clear()
        return found

    def put(self, kind: str, texts: Mapping[str, str]) -> None:
        """Keep texts by their keys."""
        rows = [(f"{kind} {key}", _sum(f"{kind} {key}", text), text) for key, text in texts.items()]

        def write(database: sqlite3.Connection) -> None:
            with database:
                database.executemany("INSERT OR REPLACE INTO kept VALUES (?, ?, ?)", rows)

        if rows:
            self._do(write, create=True)

    def _do(self, action: Callable[[sqlite3.Connection], None], create: bool) -> bool:
        """Whether it worked; a damaged file is thrown away."""
        if not self.path:
            return False
        try:
            import sqlite3
        except ImportError:  # a Python that some debugger embeds
            return False
        try:
            if self._database is None:
                if not create and not os.path.exists(self.path):
                    return False
                self._database = self._open()
            action(self._database)
            return True
        except sqlite3.OperationalError:  # locked, full, read-only
            return False
        except (sqlite3.Error, ValueError, TypeError):
            self._throw_away()
            return False
        except OSError:
            return False

    def _open(self) -> sqlite3.Connection:
        import sqlite3

        os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
        database: sqlite3.Connection = sqlite3.connect(self.path, timeout=PATIENCE)
        # Nothing is lost if the machine goes down in between: it can be found again.
        database.execute("PRAGMA synchronous = OFF")
        database.execute(
            "CREATE TABLE IF NOT EXISTS kept (key TEXT PRIMARY KEY, sum INTEGER, text TEXT)"
            " WITHOUT ROWID"
        )
        return database

    def _throw_away(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None
        for path in (self.path, f"{self.path}-journal"):
            try:
                os.unlink(path)
            except OSError:
                pass


def _sum(key: str, text: str) -> int:
    return zlib.crc32(f"{key}\0{text}".encode("utf-8", "surrogatepass"))


def _damaged() -> Exception:
    import sqlite3

    return sqlite3.DatabaseError("a text that is not what was kept")
