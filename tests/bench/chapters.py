"""docs/benchmarks.md: a chapter for each of the files that measure."""

import os
import platform
from pathlib import Path

FILE = Path(__file__).resolve().parent.parent.parent / "docs" / "benchmarks.md"


def write_chapter(title, lines):
    """Put the chapter in the place of the one with that title, or at the end."""
    text = FILE.read_text(encoding="utf-8") if FILE.exists() else ""
    parts = [part for part in ("\n" + text).split("\n# ") if part.strip()]
    fresh = "\n".join([title, "", *lines]).rstrip() + "\n"
    titles = [part.partition("\n")[0] for part in parts]
    if title in titles:
        parts[titles.index(title)] = fresh
    else:
        parts.append(fresh)
    FILE.write_text("\n".join("# " + part.rstrip() + "\n" for part in parts), encoding="utf-8")


def mark(value: float, most: float) -> str:
    """The number, bold where it misses its target."""
    shown = f"{value:.3f}" if most < 10 else f"{value:.1f}"
    return shown if value <= most else f"**{shown}**"


def machine() -> str:
    model = "a processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    load = f"load average {os.getloadavg()[1]:.1f}"  # of others, too: it lengthens all times
    return f"{os.cpu_count()} x {model}, {load}, Linux {platform.release().split('-')[0]}"
