"""Packages of other Debian releases, by apt with a configuration of its own.

The sites are those of this machine's apt, the signatures are checked with the keyring that is
installed here, and nothing outside the lab's directory changes.
"""

import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from .store import LabError, lab_directory, locked

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
LISTS_SECONDS = 24 * 3600  # lists older than that are fetched again


def _run(command: Sequence[str], cwd: Optional[Path] = None) -> str:
    """Standard output; LabError with the last lines of standard error."""
    try:
        done = subprocess.run(
            command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
    except OSError as error:
        raise LabError(f"{command[0]}: {error.strerror}; the lab needs a Debian machine") from error
    if done.returncode:
        words = " ".join(command[:1] + [word for word in command[1:] if not word.startswith("-o")])
        raise LabError(f"{words}: {' '.join(done.stderr.strip().splitlines()[-3:])}")
    return done.stdout


def sites() -> dict[str, str]:
    """This machine's mirrors: of the archive ("Debian") and of its security updates."""
    found: dict[str, str] = {}
    form = "$(LABEL)\t$(SITE)"
    lines = _run(["apt-get", "indextargets", "--format", form, "Created-By: Packages"])
    for line in lines.splitlines():
        label, site = line.split("\t")
        if label in ("Debian", "Debian-Security"):
            found.setdefault(label, site)
    if "Debian" not in found:
        raise LabError("apt has no Debian package lists here; run: apt-get update")
    if not KEYRING.is_file():
        raise LabError("no Debian keyring here; run: apt-get install debian-archive-keyring")
    return found


class Apt:
    """apt for some suites, as ("bookworm", "bookworm-security")."""

    def __init__(self, suites: Sequence[str]) -> None:
        self.suites = tuple(suites)
        self.directory = lab_directory() / "apt" / "+".join(self.suites)
        state = self.directory / "lists"
        self.options = [
            f"-oDir::Etc::sourcelist={self.directory}/sources.list",
            "-oDir::Etc::sourceparts=-",
            f"-oDir::State::Lists={state}",
            f"-oDir::Cache={self.directory}/cache",
            "-oAPT::Sandbox::User=root",
            "-oAPT::Architecture=amd64",
            "-oAcquire::Retries=3",
        ]

    def refresh(self, force: bool = False) -> None:
        """Fetch the package lists, unless those here are new enough."""
        stamp = self.directory / "fetched"
        with locked(self.directory):
            fresh = stamp.exists() and time.time() - stamp.stat().st_mtime < LISTS_SECONDS
            if fresh and not force:
                return
            for part in ("lists/partial", "cache/archives/partial"):
                (self.directory / part).mkdir(parents=True, exist_ok=True)
            found = sites()
            lines = []
            for suite in self.suites:
                site = found.get("Debian-Security" if suite.endswith("-security") else "Debian")
                if site:
                    lines.append(f"deb [signed-by={KEYRING}] {site} {suite} main\n")
            (self.directory / "sources.list").write_text("".join(lines))
            _run(["apt-get", *self.options, "update", "-qq"])
            stamp.touch()

    def names(self, pattern: str) -> list[str]:
        """The packages whose whole name matches."""
        self.refresh()
        output = _run(["apt-cache", *self.options, "pkgnames", "linux-"])
        return sorted(name for name in output.split() if re.fullmatch(pattern, name))

    def depends(self, package: str) -> list[str]:
        """What the newest version of a package depends on."""
        output = _run(["apt-cache", *self.options, "depends", "--important", package])
        return re.findall(r"Depends: ([^<\s]+)", output)

    def download(self, package: str, directory: Path) -> Path:
        """The package's file, in `directory`."""
        _run(["apt-get", *self.options, "download", "-qq", package], cwd=directory)
        return next(directory.glob(f"{package}_*.deb"))
