"""The file that a debug file shares with others, which dwz makes of what several packages' files
have in common: it is named, with its build-id, in .gnu_debugaltlink (DWARF 5, 7.3.6)."""

from __future__ import annotations

import os

from faultkit.code.elf import ElfFile
from faultkit.debuginfo.lookup import build_id_of
from faultkit.debuginfo.packed import open_file

DEBUG = "/usr/lib/debug"


def find_supplement(file: ElfFile, path: str) -> tuple[ElfFile, str] | None:
    """The file beside the one at `path`, and where it is; None if there is none, or another."""
    name, _, build_id = file.section_data(".gnu_debugaltlink").partition(b"\0")
    if not name or len(build_id) < 2:
        return None
    link, wanted = os.fsdecode(name), build_id.hex()
    beside = os.path.join(os.path.dirname(os.path.realpath(path)), link)
    for place in (beside, f"{DEBUG}/.build-id/{wanted[:2]}/{wanted[2:]}.debug"):
        if os.path.isfile(place):
            found = open_file(place)
            if found is not None and build_id_of(found) == wanted:
                return found, place
    return None
