"""A kernel's vmlinux and modules: from what a trace says of a place to its source lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from faultkit.debuginfo.find import Places, find_module, find_program, find_vmlinux
from faultkit.debuginfo.lookup import Lookup
from faultkit.debuginfo.sections import PLACE
from faultkit.debuginfo.symbols import Symbol
from faultkit.decode.model import Address, Decoded
from faultkit.model import SourceLine
from faultkit.record import NamedTuple
from faultkit.target import FaultkitError

MOST_NAMED = 8  # of several functions of one name


class Place(NamedTuple):
    """Where in a file's own addresses something is; `symbol` is the function there."""

    file: Lookup
    address: int
    symbol: Symbol | None = None

    @property
    def offset(self) -> int | None:
        """How far behind the function's start it is."""
        return self.address - self.symbol.address if self.symbol is not None else None


class Kernel:
    """One kernel.  `offset` is what KASLR added to the addresses of its vmlinux; `loaded` where
    sections of modules lie in memory, by module and section (what /sys/module/*/sections
    shows): needed for runtime addresses only, not for symbol+offset."""

    def __init__(
        self,
        places: Places,
        release: str | None = None,
        build_id: str | None = None,
        offset: int | None = None,
        loaded: Mapping[str, Mapping[str, int]] | None = None,
        use_cache: bool = True,
        around: int = 0,
    ) -> None:
        self.places = places
        self.release = release
        self.build_id = build_id
        self.offset = offset
        self.loaded = loaded or {}
        self.missing: dict[str, str] = {}  # files that were asked for in vain, and why
        # How many functions have the size in a file that the trace says, and how many another.
        self.fitting: Counter[Lookup] = Counter()
        self.misfits: Counter[Lookup] = Counter()
        self._use_cache = use_cache
        self.around = around  # as Lookup's
        self._files: dict[str | None, Lookup | None] = {}

    def file(self, module: str | None, build_id: str | None = None) -> Lookup | None:
        """The debug information of a module, of vmlinux (None), or of a program ("/usr/bin/cat");
        None where there is none.  Raises FaultkitError for a file that the user names but that
        can't be used."""
        if module not in self._files:
            self._files[module] = self._find(module, build_id)
        return self._files[module]

    def known(self, module: str | None) -> Lookup | None:
        """The same where it has been asked for already."""
        return self._files.get(module)

    def note_tail_calls(self, frames: Sequence[Decoded]) -> None:
        """Note at the frames of one stack where others are missing from it."""
        from faultkit.debuginfo.tailcalls import note_elided

        note_elided(frames, [file for file in self._files.values() if file is not None])

    def _find(self, module: str | None, build_id: str | None) -> Lookup | None:
        if module is None:
            path = find_vmlinux(self.places, self.release, build_id or self.build_id)
        elif module.startswith("/"):
            path = find_program(self.places, module)
        else:
            release = self.release
            if release is None:
                vmlinux = self.file(None)
                release = vmlinux.release() if vmlinux is not None else None
            path = find_module(self.places, module, release, build_id)
        named = path is not None and (path == self.places.vmlinux or path in self.places.modules)
        if path is not None:
            try:
                found = Lookup(path, self._use_cache)
                found.around = self.around
            except FaultkitError:
                if named:
                    raise
            else:
                if named and not found.has_lines:
                    raise FaultkitError(
                        f"{path} has no debug information",
                        "give the unstripped file, as a package with debug symbols has it",
                    )
                return found
        self.missing[module or "vmlinux"] = (
            "no vmlinux with debug information" if module is None
            else f"no debug information of {module}"
        )  # fmt: skip
        return None

    def decode(self, addresses: Sequence[Address], first: int = 0) -> list[Decoded]:
        """Each address's function and lines, in order; frames are numbered from `first`."""
        frames = [
            Decoded(first + i, a.address or 0, a.exact, a.symbol, a.offset, a.size, a.module)
            for i, a in enumerate(addresses)
        ]
        for frame, address in zip(frames, addresses):
            frame.unreliable = address.unreliable
            frame.placed = address.address is not None
        places: dict[int, list[Place]] = {}
        for module in dict.fromkeys(a.module for a in addresses):
            indices = [i for i, a in enumerate(addresses) if a.module == module]
            build_id = next((addresses[i].build_id for i in indices if addresses[i].build_id), None)
            file = self.file(module, build_id)
            if file is not None:
                self._place(file, module, addresses, indices, frames, places)
        self._fill(addresses, frames, places)
        return frames

    def _place(
        self,
        file: Lookup,
        module: str | None,
        addresses: Sequence[Address],
        indices: Sequence[int],
        frames: Sequence[Decoded],
        places: dict[int, list[Place]],
    ) -> None:
        """Where in the file the addresses are."""
        names = {symbol for i in indices if (symbol := addresses[i].symbol) is not None}
        table = file.symbols_named(names)
        plain = {}
        for index in indices:
            address = addresses[index]
            if address.symbol is None or (address.offset is None and address.address is not None):
                static = self.static(file, module, address.address)
                if static is not None:
                    plain[index] = static
                continue
            places[index] = self._by_symbol(file, address, table, frames[index])
        symbols = file.symbols_at({a - back for a in plain.values() for back in (0, 1)})
        for index, static in plain.items():
            here, before = symbols[static], symbols[static - 1]
            # Behind a call that does not return another function may begin.
            if (
                before is not None
                and not addresses[index].exact
                and (here is None or static - before.address <= before.size)
            ):
                here = before
            places[index] = [Place(file, static, here)]

    def static(self, file: Lookup, module: str | None, address: int | None) -> int | None:
        """The file's own address for one at run time; None where it can't be told."""
        if address is None or (module or "").startswith("/"):
            return None
        if not file.relocatable:
            return address - (self.offset or 0 if module is None else 0)
        for name, start in self.loaded.get(module or "", {}).items():
            section = file.file.sections.get(name)
            if section is not None and start <= address < start + section.size:
                return section.number << PLACE | address - start
        return None

    def _by_symbol(
        self, file: Lookup, address: Address, table: Mapping[str, list[Symbol]], frame: Decoded
    ) -> list[Place]:
        """The places that symbol+offset/size may be: several where they can't be told apart."""
        named = table[address.symbol or ""]
        if address.offset is None:
            frame.notes.append("the trace gives no offset: this is where the function begins")
        offset = address.offset or 0
        fitting = [s for s in named if address.size is None or s.has_size(address.size)]
        if address.size is not None and named:
            (self.fitting if fitting else self.misfits)[file] += 1
        if not named:
            frame.notes.append(f"no symbol {address.symbol} in {_base(file.path)}")
        elif not fitting:
            sizes = ", ".join(f"{symbol.size:#x}" for symbol in named[:MOST_NAMED])
            frame.notes.append(
                f"{address.symbol} is {address.size:#x} bytes long in the trace, {sizes} in "
                f"{_base(file.path)}: not the same build"
            )
        exact = [s for s in fitting if s.size == address.size]
        within = [s for s in exact or fitting if offset <= (address.size or s.reach or offset)]
        if fitting and not within:
            size = address.size or fitting[0].size
            frame.notes.append(
                f"{address.symbol} is {size:#x} bytes long: what lies {offset:#x} behind its start "
                "is no code of its own"
            )
            return []
        return [Place(file, s.address + offset, s) for s in within]

    def _fill(
        self,
        addresses: Sequence[Address],
        frames: Sequence[Decoded],
        places: Mapping[int, list[Place]],
    ) -> None:
        """Put lines into frames."""
        wanted: dict[Lookup, set[int]] = {}
        for index, some in places.items():
            for place in some:
                wanted.setdefault(place.file, set()).add(_code(place, addresses[index]))
        chains = {file: file.chains(some) for file, some in wanted.items()}
        for index, some in places.items():
            frame, address = frames[index], addresses[index]
            found: dict[tuple[SourceLine, ...], Place] = {}
            for place in some:
                found.setdefault(chains[place.file][_code(place, address)], place)
            if len(found) > 1:
                frame.notes.append(
                    f"{len(found)} functions are named {frame.symbol}: "
                    + "; ".join(_where(chain) for chain in list(found)[:MOST_NAMED])
                )
                continue
            for chain, place in found.items():
                frame.inlines = list(chain)
                frame.place = place.address
                frame.debug_file = place.file.path
                frame.lookup = place.file
                if place.symbol is not None:
                    frame.symbol, frame.offset = place.symbol.name, place.offset
                    frame.size = frame.size or place.symbol.size
                if address.address is None:
                    moved = self.offset or 0 if address.module is None else 0
                    frame.address = place.address + moved
                    frame.placed = not place.file.relocatable


def _code(place: Place, address: Address) -> int:
    """The address whose line is meant: a return address belongs to the call before it, unless it
    is the very start of a function, to which nothing returns."""
    returned = not address.exact and place.offset != 0
    return place.address - returned


def _where(chain: Sequence[SourceLine]) -> str:
    last = chain[-1] if chain else SourceLine(None, None, None)
    return f"{last.file or '?'}:{last.line or '?'}"


def _base(path: str) -> str:
    return path.rpartition("/")[2]
