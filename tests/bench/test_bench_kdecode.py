"""`faultkit kdecode` beside binutils' addr2line -i: the same addresses of Debian's vmlinux, whole
processes in turns; cold (nothing kept), and with what an earlier run kept.

Run by `make bench`.
"""

import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
from datetime import date
from typing import NamedTuple

import pytest
from chapters import machine, mark, write_chapter
from lab.kernels import kernel
from lines_oracle import module_return_addresses, return_addresses

from faultkit.debuginfo.lookup import Lookup

pytestmark = pytest.mark.bench

FULL = [sys.executable, "-m", "faultkit", "kdecode"]
COMMAND = [*FULL, "--brief"]
LINES = 9000  # of each file of source that is made up


class Cost(NamedTuple):
    """Seconds by the clock, of a processor, and MB at most."""

    seconds: float
    processor: float
    megabytes: float


class Case(NamedTuple):
    """What is decoded, how often; and the most that it may cost: cold and warm in addr2line's
    processor seconds, MB."""

    name: str
    count: int
    module: bool
    rounds: int
    cold: float
    warm: float
    cold_mb: float
    warm_mb: float
    rendered: bool = False  # all there is to show, with source, in colours


CASES = (
    Case("60 of vmlinux", 60, False, 7, 1.0, 0.2, 100, 40),
    Case("2,000 of vmlinux", 2000, False, 3, 2.5, 0.1, 200, 60),
    Case("60 of ext4.ko", 60, True, 7, 3.0, 1.0, 100, 40),
    Case("60 of vmlinux, rendered", 60, False, 7, 1.5, 0.6, 110, 80, rendered=True),
)


# A process of its own, as a child begins with the memory of its parent.
MEASURE = """
import json, os, sys, time
began = time.perf_counter()
child = os.fork()
if not child:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.execvp(sys.argv[1], sys.argv[1:])
_, status, used = os.wait4(child, 0)
seconds = time.perf_counter() - began
print(json.dumps([status, seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
"""


def run(command, environment, file):
    with open(file, "rb") as asked:
        done = subprocess.run(
            [sys.executable, "-S", "-c", MEASURE, *command],
            stdin=asked, stdout=subprocess.PIPE, env=environment, check=True,
        )  # fmt: skip
    status, *cost = json.loads(done.stdout)
    assert status == 0
    return Cost(*cost)


def middle(costs):
    return Cost(*map(statistics.median, zip(*costs)))


def asked(case, made, folder):
    """(the command line of kdecode, that of addr2line, the two files that they read)."""
    ours, theirs = folder / "ours", folder / "theirs"
    kdecode = [*COMMAND, "--vmlinux", str(made.vmlinux)]
    if not case.module:
        addresses = return_addresses(made.vmlinux, case.count)
        ours.write_text("".join(f"{address:x}\n" for address in addresses))
        theirs.write_text("".join(f"{address - 1:x}\n" for address in addresses))
        if case.rendered:
            tree = sources(made, [address - 1 for address in addresses], folder / "source")
            kdecode = [*FULL, "--vmlinux", str(made.vmlinux), "--source", str(tree), str(ours)]
            shown = ["script", "-qec", "TERM=xterm " + shlex.join(kdecode), "/dev/null"]
            return shown, ["addr2line", "-i", "-e", str(made.vmlinux)], os.devnull, theirs
        return [*kdecode, "-"], ["addr2line", "-i", "-e", str(made.vmlinux)], ours, theirs
    debug = made.debug / "ext4.ko.debug"
    offsets = module_return_addresses(made.directory / "modules" / "ext4.ko", case.count)
    file = Lookup(str(debug), use_cache=False)
    start = file.section_start(".text")
    found = file.symbols_at([start + offset - 1 for offset in offsets])
    lines = [
        f"{symbol.name}+{start + offset - symbol.address:#x}/{symbol.size:#x} [ext4]\n"
        for offset in offsets
        for symbol in [found[start + offset - 1]]
    ]
    ours.write_text("".join(lines))
    theirs.write_text("".join(f"{offset - 1:#x}\n" for offset in offsets))
    command = ["addr2line", "-i", "-j", ".text", "-e", str(debug)]
    return [*kdecode, "--module", str(debug), "-"], command, ours, theirs


def sources(made, addresses, tree):
    """A tree with the files that the addresses are from: their names, long enough, in C."""
    text = (
        "static int take(struct device *dev, unsigned long flags) /* of all */\n{\n"
        '\tif (flags & 0x10 && dev->name)\n\t\tpr_info("taking %s\\n", dev->name);\n'
        "\treturn list_empty(&dev->entries) ? -ENOENT : 0;\n}\n\n"
    ).splitlines(True)
    content = "".join(text[number % len(text)] for number in range(LINES))
    for chain in Lookup(str(made.vmlinux), use_cache=False).chains(addresses).values():
        for line in chain:
            path = tree / os.path.normpath(line.file or "unknown").lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
    return tree


@pytest.fixture(scope="session")
def results():
    measured: dict[Case, tuple[Cost, Cost, Cost]] = {}
    yield measured
    if len(measured) == len(CASES):
        write_chapter("kdecode", chapter(measured))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_beside_addr2line(case, results, tmp_path):
    made = kernel("6.1")
    kdecode, addr2line, ours, theirs = asked(case, made, tmp_path)
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path / "compiled")}
    for name in ("PYTHONDONTWRITEBYTECODE", "DEBUGINFOD_URLS"):
        environment.pop(name, None)
    cache = tmp_path / "cache"
    environment["FAULTKIT_CACHE"] = str(cache)
    run(kdecode, environment, ours)  # compiles
    told, cold, warm = [], [], []
    for _ in range(case.rounds):
        told.append(run(addr2line, environment, theirs))
        shutil.rmtree(cache)
        cold.append(run(kdecode, environment, ours))
        warm.append(run(kdecode, environment, ours))
    results[case] = them, first, again = middle(told), middle(cold), middle(warm)
    assert first.processor <= case.cold * them.processor, results[case]
    assert again.processor <= case.warm * them.processor, results[case]
    assert first.megabytes <= case.cold_mb and again.megabytes <= case.warm_mb, results[case]


def chapter(results):
    """What docs/benchmarks.md tells of it."""
    lines = [
        f"{date.today()}, {machine()}; Debian's {kernel('6.1').abi} vmlinux, "
        f"{kernel('6.1').vmlinux.stat().st_size >> 20} MB.",
        "",
        "`kdecode --brief` and binutils' `addr2line -i` on the same random return addresses, whole "
        "processes by turns, medians: seconds by the clock and, in brackets, of a processor; "
        "kdecode's as parts of addr2line's processor seconds too (bold: more than the target). "
        "Cold is without anything kept by an earlier run, warm with it. \"Rendered\" is without "
        "--brief: with source (files of 9,000 lines), highlighted, and disassembly.",
        "",
        "| addresses | addr2line -i | cold | part | target | warm | part | target "
        "| MB: addr2line | cold | warm |",
        "|---" + "|--:" * 10 + "|",
    ]
    for case, (them, cold, warm) in results.items():
        cells = [case.name, both(them)]
        for mine, most in ((cold, case.cold), (warm, case.warm)):
            cells += [both(mine), mark(mine.processor / them.processor, most), f"{most:g}"]
        cells += [f"{cost.megabytes:.0f}" for cost in (them, cold, warm)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def both(cost):
    return f"{cost.seconds:.2f} ({cost.processor:.2f})"
