"""What mends something, as this user can paste it into a shell here."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from shlex import quote

import faultkit


def as_root(command: str) -> str:
    """The command by sudo, which root needs not and often has not."""
    return command if os.geteuid() == 0 else f"sudo {command}"


def apt_install(*packages: str) -> str:
    """The command that installs these packages."""
    return as_root(f"apt-get install {' '.join(packages)}")


def own_command(arguments: str) -> str:
    """The console script with these arguments: by its name where that finds this very one."""
    script = Path(sys.argv[0])
    if script.name != "__main__.py":
        found = shutil.which(script.name)
        known = found is not None and os.path.realpath(found) == os.path.realpath(script)
        return f"{script.name if known else quote(str(script.absolute()))} {arguments}"
    home = Path(faultkit.__file__).resolve().parent.parent
    if home.name in ("site-packages", "dist-packages"):
        return f"{quote(sys.executable)} -m faultkit {arguments}"
    return f"cd {quote(str(home))} && python3 -m faultkit {arguments}"
