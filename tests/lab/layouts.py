#!/usr/bin/env python3
"""Which struct members that the kernel half relies on a kernel's debug information lacks.

    tests/lab/layouts.py [KERNEL...]        as 6.1; all if none is named

The members are those of faultkit/kernel/layouts.py; nothing is booted, only types are looked at.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    sys.path.insert(1, str(Path(__file__).resolve().parent.parent.parent))

from lab.kernels import SOURCES, Kernel, complete, kernel
from lab.store import LabError

Place = tuple[str, str]
SECONDS = 600

# Run by gdb: of the groups of alternatives, those of which the loaded file has none.
LOOK = """
import json

import gdb

def type_of(name):
    for words in (f"struct {name}", f"union {name}", name):
        try:
            return gdb.lookup_type(words).strip_typedefs()
        except gdb.error:
            pass

def member(kind, name):
    for field in kind.fields() if kind.code in (gdb.TYPE_CODE_STRUCT, gdb.TYPE_CODE_UNION) else ():
        if field.name == name:
            return field.type.strip_typedefs()
        if not field.name:
            inner = member(field.type.strip_typedefs(), name)
            if inner is not None:
                return inner

def has(place):
    if place[0] not in types:
        types[place[0]] = type_of(place[0])
    kind = types[place[0]]
    for name in place[1].split("."):
        kind = kind and member(kind, name)
    return kind is not None

types = {}
with open(PATH) as file:
    groups = json.load(file)
found = [index for index, group in enumerate(groups) if any(has(place) for place in group)]
with open(PATH, "w") as file:
    json.dump(found, file)
"""


def missing(checked: Kernel, groups: Iterable[Sequence[Place]]) -> list[Sequence[Place]]:
    """The groups of (type, member) of which the kernel has none, and none of its modules either."""
    left = list(groups)
    for image in (checked.vmlinux, *sorted(checked.debug.glob("*.ko.debug"))):
        if left:
            found = _found(image, left)
            left = [group for index, group in enumerate(left) if index not in found]
    return left


def _found(image: Path, groups: list[Sequence[Place]]) -> set[int]:
    with tempfile.TemporaryDirectory() as name:
        asked = Path(name) / "groups"
        asked.write_text(json.dumps(groups))
        script = Path(name) / "look.py"
        script.write_text(f"PATH = {str(asked)!r}\n{LOOK}")
        command = ["gdb", "-nx", "-batch", "-ex", f"source {script}", str(image)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        answer = json.loads(asked.read_text())
    if any(not isinstance(index, int) for index in answer):
        raise LabError(f"gdb could not look at {image}: {done.stderr[-500:]}")
    return set(answer)


def main() -> int:
    from faultkit.kernel.layouts import NEEDED

    lacking = 0
    for name in sys.argv[1:] or SOURCES:
        checked = complete(kernel(name))
        gone = missing(checked, NEEDED)
        lacking += len(gone)
        print(f"{checked.abi}: {len(NEEDED)} members, {len(gone)} missing")
        for group in gone:
            print("  " + " or ".join(f"{kind}.{member}" for kind, member in group))
    return 1 if lacking else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LabError as error:
        sys.exit(f"tests/lab/layouts.py: {error}")
