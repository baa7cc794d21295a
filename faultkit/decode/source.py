"""Lines of source around a place, from whatever tree of sources is found or given.

Debug information names files as the build had them: below a directory that is elsewhere now, or
relative to it.  That prefix is stripped, once per directory, against the trees there are.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence

MAX_FILE = 8 << 20  # bytes
MAX_LINE = 400  # characters of a line that are kept
MOST_FILES = 32  # kept at a time
NEAR = 3  # lines that a function's name may stand away from where debug information has it
_KERNEL_TREES = (
    "/lib/modules/{release}/source",
    "/usr/src/linux-source-{version}",
    "/usr/src/linux-{version}",
    "/usr/src/debug/kernel-{release}/linux-{release}",
    "/usr/src/kernels/{release}",
    "/usr/src/linux",
)
# What macros make of a system call's name (include/linux/syscalls.h)
_MADE = re.compile(r"^(__do_sys_|__se_sys_|__x64_sys_|__ia32_sys_|__do_compat_sys_|__se_compat_sys_"
                   r"|__x64_compat_sys_|__ia32_compat_sys_)")  # fmt: skip


class Sources:
    """The source trees that are here, given ones first."""

    def __init__(self, given: Sequence[str] = (), release: str | None = None) -> None:
        """`given` are directories to look in, `release` is a kernel's, whose tree is then looked
        for in the usual places."""
        self.roots = [os.path.realpath(os.path.expanduser(root)) for root in given]
        self.given = list(self.roots)
        self.release = release
        version = re.match(r"\d+\.\d+", release or "")
        if release and version and "/" not in release:
            for place in _KERNEL_TREES:
                root = place.format(release=release, version=version[0])
                if os.path.isdir(root):
                    self.roots.append(os.path.realpath(root))
        self._found: dict[str, str | None] = {}
        self._directories: dict[str, tuple[str, str] | None] = {}
        self._lines: dict[str, list[str]] = {}
        self._texts: dict[str, str] = {}
        self.missing: set[str] = set()

    def find(self, file: str) -> str | None:
        """Where the file that debug information names so lies here; None if it does not."""
        if file not in self._found:
            self._found[file] = self._find(os.path.normpath(file))
            if self._found[file] is None:
                self.missing.add(file)
        return self._found[file]

    def _find(self, file: str) -> str | None:
        directory, name = os.path.split(file)
        known = self._directories.get(directory)
        if known is not None and _is_file(os.path.join(*known, name)):
            return os.path.join(*known, name)
        parts = [part for part in file.split("/") if part and part != ".."]
        for root in self.roots:
            for skipped in range(len(parts)):
                inner = parts[skipped:]
                if len(inner) == 1 and skipped and root not in self.given:
                    break  # a name alone says too little
                path = os.path.join(root, *inner)
                if _is_file(path):
                    self._directories[directory] = root, os.path.join("", *inner[:-1])
                    return path
        if os.path.isabs(file) and not self.given and _is_file(file):
            return file
        return None

    def lines(self, file: str) -> list[str]:
        """The file's lines, without their ends; [] if it is not here."""
        path = self.find(file)
        if path is None:
            return []
        if path not in self._lines:
            if len(self._lines) >= MOST_FILES:
                self._lines.clear()
                self._texts.clear()
            try:
                with open(path, encoding="utf-8", errors="replace") as opened:
                    text = opened.read(MAX_FILE)
            except OSError:
                text = ""
            self._texts[path], self._lines[path] = text, text.split("\n")
        return self._lines[path]

    def window(self, file: str, line: int, context: int) -> list[tuple[int, str]]:
        """(number, text) of the lines from `context` before `line` to as many behind it."""
        lines = self.lines(file)
        if not 0 < line <= len(lines):
            return []
        first, last = max(line - context, 1), min(line + context, len(lines))
        while last > line and not lines[last - 1].strip():
            last -= 1
        return [
            (number, lines[number - 1][:MAX_LINE].expandtabs(8))
            for number in range(first, last + 1)
        ]

    def mismatch(
        self, file: str, line: int | None, function: str | None, declared: int | None
    ) -> str | None:
        """Why the file here can't be the one that was built from; None if nothing speaks against.

        `declared` is the line at which debug information has the function's name: a file in
        which that name stands, but elsewhere, is another version.
        """
        path = self.find(file)
        lines = self.lines(file)
        if path is None or not lines:
            return None
        if line is not None and line > len(lines):
            return f"{path} has {len(lines)} lines, the build's had at least {line}"
        wrong = self._wrong_release(path)
        if wrong:
            return wrong
        if function and declared and declared > 0:
            name = _MADE.sub("", function.split(".", 1)[0])
            word = re.compile(rf"\b{re.escape(name)}\b")
            near = lines[max(declared - 1 - NEAR, 0) : declared + NEAR]
            text = self._texts.get(path, "")
            if not any(map(word.search, near)) and name in text and word.search(text):
                return f"{path} is another version: {name} is not at line {declared}"
        return None

    def _wrong_release(self, path: str) -> str | None:
        """Whether the tree's own Makefile names another release than the kernel's."""
        if not self.release:
            return None
        root = next((r for r in self.roots if path.startswith(r.rstrip("/") + "/")), None)
        head = "\n".join(self.lines_of(os.path.join(root, "Makefile"))[:12]) if root else ""
        version = re.search(r"^VERSION = (\d+)$", head, re.MULTILINE)
        patch = re.search(r"^PATCHLEVEL = (\d+)$", head, re.MULTILINE)
        running = re.match(r"(\d+)\.(\d+)", self.release)
        if not version or not patch or not running:
            return None
        if (version[1], patch[1]) == running.groups():
            return None
        return f"{root} is Linux {version[1]}.{patch[1]}, the kernel is {self.release}"

    def lines_of(self, path: str) -> list[str]:
        """The lines of a file by its path here; [] if it can't be read."""
        if path not in self._lines:
            try:
                with open(path, encoding="utf-8", errors="replace") as opened:
                    self._lines[path] = opened.read(MAX_FILE).split("\n")
            except OSError:
                self._lines[path] = []
        return self._lines[path]


def _is_file(path: str) -> bool:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size <= MAX_FILE
