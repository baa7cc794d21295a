"""The mappings that /proc/PID/maps tells of."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache

from faultkit.target import Mapping


class Maps:
    """The mappings of one text of /proc/PID/maps, each of them only made when it is asked for:
    thousands of threads have a stack each, and most are not."""

    def __init__(self, text: str) -> None:
        # only newlines end them: paths may hold what splitlines() takes for one (mangle_path)
        self._lines = [line for line in text.split("\n") if line]
        self._made: dict[int, list[Mapping]] = {}  # by the number of the line: it, or none

    @cached_property
    def all(self) -> Sequence[Mapping]:
        """In address order."""
        return parse_maps(self._lines)

    @cached_property
    def code(self) -> Sequence[Mapping]:
        """Those of files, and whatever else can be executed, in address order."""
        return parse_maps(line for line in self._lines if "/" in line or "x" in line[:50])

    def at(self, address: int) -> Mapping | None:
        """The mapping that holds `address`."""
        index = bisect_right(self._starts, address) - 1
        if index < 0:
            return None
        if index not in self._made:
            self._made[index] = parse_maps([self._lines[index]])
        found = self._made[index]
        return found[0] if found and address < found[0].end else None

    @cached_property
    def _starts(self) -> list[int]:
        return [int(line.partition("-")[0], 16) for line in self._lines]


@lru_cache(maxsize=2)
def maps_of(text: str) -> Maps:
    """The same as for the last command, if the process is still stopped."""
    return Maps(text)


def parse_maps(lines: Iterable[str]) -> list[Mapping]:
    """The lines of /proc/PID/maps as Mappings."""
    mappings = []
    for line in lines:
        fields = line.split(None, 5)
        if len(fields) < 5:
            continue
        start, _, end = fields[0].partition("-")
        mappings.append(
            Mapping(
                int(start, 16),
                int(end, 16),
                int(fields[2], 16),
                fields[5] if len(fields) > 5 else "",
                fields[1],
                fields[3],
                int(fields[4]),
            )
        )
    return mappings
