"""The lines that `faultkit install` adds to a gdbinit or crashrc: which file, what to add, how to
take it out.

Everything works on bytes: a gdbinit may be in any encoding.  A comment marks the line as ours, and
notes what taking it out has to restore besides (`NO_NEWLINE`, `NEW_FILE`).
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import shutil
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from faultkit.target import FaultkitError

NO_NEWLINE = b" (and the newline before)"
NEW_FILE = b" (and the file)"


@dataclass(frozen=True)
class Debugger:
    """How a debugger is told to load faultkit at its start: a command, and a file to load, whose
    path ends in `tail`; `options` are those of `faultkit install`."""

    name: str
    command: bytes
    does: str
    tail: tuple[str, str]
    options: str
    other_file: str

    @property
    def mark(self) -> bytes:
        """The comment above the line that is ours."""
        take_out = f"faultkit install{self.options} --remove"
        return f'# Added by "faultkit install{self.options}"; "{take_out}" takes it out'.encode()

    @property
    def ours(self) -> re.Pattern[bytes]:
        """The lines that are ours."""
        return re.compile(
            rb"(?P<newline>\n?)^%s(?P<note>[^\n]*)\n%s (?P<path>[^\n]+)(?:\n|\Z)"
            % (re.escape(self.mark), self.command),
            re.MULTILINE,
        )

    @property
    def any(self) -> re.Pattern[bytes]:
        """Any line with the command."""
        return re.compile(rb"^[ \t]*%s[ \t]+(?P<path>\S.*?)[ \t\r]*$" % self.command, re.MULTILINE)


GDB = Debugger("gdb", b"source", "sources", ("gdb_ext", "faultkit.py"), "", "--gdbinit FILE")
CRASH = Debugger(
    "crash", b"extend", "loads", ("crash_ext", "faultkit.so"), " --crash", "--crashrc FILE"
)


@dataclass(frozen=True)
class Change:
    """A change of one file: `before` and `after` are its contents, None where it does not exist."""

    file: Path
    before: bytes | None
    after: bytes | None

    @property
    def needed(self) -> bool:
        """Whether there is anything to do."""
        return self.before != self.after

    def diff(self) -> str:
        """The change as a unified diff."""
        return "".join(
            line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
            for line in difflib.unified_diff(
                _lines(self.before), _lines(self.after), str(self.file), str(self.file), n=2
            )
        )


def _lines(content: bytes | None) -> list[str]:
    return (content or b"").decode("utf-8", "replace").splitlines(keepends=True)


def crashrc() -> Path:
    """The file that crash reads at start before the one in the current directory (crash: main.c,
    "rc file in $HOME")."""
    return Path.home() / ".crashrc"


def default_file(gdb: str = "gdb") -> Path:
    """The file that gdb reads at start: ~/.gdbinit, or gdb/gdbinit in the XDG directory.

    gdb reads the first that exists, the XDG one before ~/.gdbinit, but only gdb 11 and newer know
    it (gdbsupport/pathstuff.cc, find_gdb_home_config_file); `gdb --help` names the one it reads.
    """
    home = Path.home() / ".gdbinit"
    xdg = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "gdb" / "gdbinit"
    if not xdg.exists():
        return home
    try:
        usage = subprocess.run(
            [gdb, "--help"], stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return xdg
    return xdg if os.fsencode(xdg) in usage else home


def read(file: Path, debugger: Debugger = GDB) -> bytes | None:
    """The file's content, None if there is none.  Raises FaultkitError if it is no plain file."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            what = "a directory" if file.is_dir() else "not a regular file"
            raise FaultkitError(f"{file} is {what}", f"name another one with {debugger.other_file}")
        return file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FaultkitError(
            f"cannot read {file}: {error.strerror}", f"check its rights: ls -ld {file}"
        ) from error


def loaded(content: bytes | None, debugger: Debugger = GDB) -> list[Path]:
    """faultkit's files that `content` has the debugger load, by our line or one written by hand."""
    paths = [
        Path(os.path.expanduser(os.fsdecode(match["path"])))
        for match in debugger.any.finditer(content or b"")
    ]
    return [path for path in paths if path.parts[-2:] == debugger.tail]


def plan_install(file: Path, extension: Path, debugger: Debugger = GDB) -> Change:
    """The change that makes `file` load `extension`; none where it does so already.

    Raises FaultkitError where the file can't be read or the path can't be written in it.
    """
    before = read(file, debugger)
    content = before or b""
    path = os.fsencode(extension)
    if b"\n" in path or path != path.strip():
        raise _unloadable(extension, debugger)
    if debugger is CRASH and path.split() != [path]:  # words end at blanks, whatever is quoted
        raise _unloadable(extension, debugger)
    ours = debugger.ours.search(content)
    if ours is not None:
        after = content[: ours.start("path")] + path + content[ours.end("path") :]
        return Change(file, before, after)
    if extension in loaded(content, debugger):
        return Change(file, before, before)
    note = newline = b""
    if before is None:
        note = NEW_FILE
    elif content and not content.endswith(b"\n"):
        note, newline = NO_NEWLINE, b"\n"
    lines = debugger.mark + note + b"\n" + debugger.command + b" " + path + b"\n"
    return Change(file, before, content + newline + lines)


def _unloadable(extension: Path, debugger: Debugger) -> FaultkitError:
    command = debugger.command.decode()
    return FaultkitError(
        f"{debugger.name} cannot {command} {str(extension)!r}", "install under another path"
    )


def plan_remove(file: Path, debugger: Debugger = GDB) -> Change:
    """The change that takes out what `plan_install` put in, and nothing else."""
    before = read(file, debugger)
    ours = debugger.ours.search(before or b"")
    if before is None or ours is None:
        return Change(file, before, before)
    rest = before[ours.end() :]
    # The newline was ours to add; what was written below the line since needs it.
    restore = ours["note"] == NO_NEWLINE and not rest
    after = before[: ours.start()] + (b"" if restore else ours["newline"]) + rest
    if ours["note"] == NEW_FILE and not after:
        return Change(file, before, None)
    return Change(file, before, after)


def apply(change: Change) -> Path | None:
    """Write the change; returns the backup made first, None where there was nothing to back up.

    A symbolic link stays one, the file keeps its mode, owner and extended attributes, and a reader
    sees the old content or the new one, never a part.  Raises FaultkitError.
    """
    target = Path(os.path.realpath(change.file))
    if not target.parent.is_dir():
        raise FaultkitError(
            f"cannot write {target}: no such directory", f"make it: mkdir -p {target.parent}"
        )
    try:
        backup = _back_up(change)
        if change.after is None:
            target.unlink()  # a link to it was there before
        else:
            _write(target, change.after)
    except OSError as error:
        raise FaultkitError(
            f"cannot write {target}: {error.strerror}", f"check its rights: ls -ld {target.parent}"
        ) from error
    return backup


def _back_up(change: Change) -> Path | None:
    if change.before is None:
        return None
    for number in range(1000):
        suffix = f".{number}" if number else ""
        backup = change.file.with_name(f"{change.file.name}.faultkit-backup{suffix}")
        if not os.path.lexists(backup):
            shutil.copy2(change.file, backup)
            return backup
        if backup.is_file() and backup.read_bytes() == change.before:
            return backup
    raise FaultkitError(
        f"a thousand backups lie beside {change.file}", f"remove some: rm {change.file}.faultkit-b*"
    )


def _write(target: Path, content: bytes) -> None:
    """Replace `target` by `content` in one step.  Raises OSError."""
    descriptor, name = tempfile.mkstemp(prefix=".faultkit-", dir=target.parent)
    try:
        with open(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(descriptor)
        if target.exists():
            shutil.copystat(target, name)
            owner = target.stat()
            with contextlib.suppress(PermissionError):  # somebody else's file: keep what we may
                os.chown(name, owner.st_uid, owner.st_gid)
        else:
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(name, 0o666 & ~umask)
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise
