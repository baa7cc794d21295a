"""A file with debug information behind its cache: what is kept is not looked up again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from faultkit.code.elf import ElfFile, FileBytes, build_id, parse_notes
from faultkit.debuginfo.cache import Cache
from faultkit.debuginfo.debugfile import Chain, DebugFile, Near
from faultkit.debuginfo.packed import open_file
from faultkit.debuginfo.sections import ET_REL, PLACE, Sections
from faultkit.debuginfo.symbols import Symbol, Symbols
from faultkit.model import SourceLine
from faultkit.target import FaultkitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T")


AROUND = 128  # bytes of code that are shown on each side of a place at most, usually

_FIELD, _RECORD, _GROUP = "\x1f", "\x1e", "\x1d"
_BANNER = b"Linux version "


class Lookup:
    """One file's lines and symbols, many at a time.  Addresses are the file's own."""

    def __init__(self, path: str, use_cache: bool = True) -> None:
        """Raises FaultkitError if the file can't be read, or is no ELF file of x86-64."""
        file = open_file(path)
        if file is None:
            raise FaultkitError(
                f"{path} can't be read, or is no ELF file for x86-64", "give a vmlinux or .ko file"
            )
        self.path = path
        self.file = file
        self.build_id = build_id_of(file)
        name = f"{self.build_id}-{_size(file):x}" if self.build_id and use_cache else ""
        self._cache = Cache(name)
        self.around = 0  # bytes around addresses whose lines are wanted, in `near`, as well
        self.near: dict[int, Near] = {}
        self.declared: dict[int, dict[str, int]] = {}  # with them: where functions are declared
        self._debug: DebugFile | None = None
        self._symbols: Symbols | None = None

    @property
    def debug(self) -> DebugFile:
        """The debug information itself."""
        if self._debug is None:
            self._debug = DebugFile(self.file, self.path)
        return self._debug

    @property
    def has_lines(self) -> bool:
        """Whether it holds debug information."""
        return ".debug_info" in self.file.sections

    def chains(self, addresses: Iterable[int]) -> dict[int, Chain]:
        """Inline chains, innermost first, as DebugFile.chains()."""
        wanted = {f"{address:x}": address for address in addresses}
        found: dict[int, Chain] = {}
        kind = ""
        for key, chain in self._unpacked("chain", wanted, _unpack_chain):
            found[wanted[key]] = chain
        if self.around:
            kind = f"near{self.around}"
            for key, (near, declared) in self._unpacked(kind, wanted, _unpack_near):
                self.near[wanted[key]], self.declared[wanted[key]] = near, declared
            found = {address: chain for address, chain in found.items() if address in self.near}
        missing = [address for address in wanted.values() if address not in found]
        if missing and self.has_lines:
            new = self.debug.chains(missing, self.around)
            self._cache.put("chain", {f"{a:x}": _pack_chain(chain) for a, chain in new.items()})
            if self.around:
                for address in missing:
                    self.near[address] = self.debug.near.get(address, ())
                    self.declared[address] = self.debug.declared.get(address, {})
                self._cache.put(kind, {f"{a:x}": self._pack_near(a) for a in missing})
            found.update(new)
        return {address: found.get(address, ()) for address in wanted.values()}

    def _pack_near(self, address: int) -> str:
        near = self.near[address]
        files = {file: n for n, file in enumerate(dict.fromkeys(file or "" for _, file, _ in near))}
        places = (f"{place:x}{_FIELD}{files[file or '']}{_FIELD}{line or 0}"
                  for place, file, line in near)  # fmt: skip
        declared = (f"{name}{_FIELD}{line}" for name, line in self.declared[address].items())
        return _GROUP.join(map(_RECORD.join, (declared, files, places)))

    def _unpacked(
        self, kind: str, keys: Iterable[str], unpack: Callable[[str], T]
    ) -> Iterator[tuple[str, T]]:
        """What is kept of the keys; what can't be understood is not there."""
        for key, text in self._cache.get(kind, keys).items():
            try:
                yield key, unpack(text)
            except (ValueError, IndexError):
                continue

    def symbols_named(self, names: Iterable[str]) -> dict[str, list[Symbol]]:
        """The functions of each name; [] where there is none."""
        wanted = set(names)
        found = dict(self._unpacked("name", wanted, _unpack_symbols))
        missing = wanted.difference(found)
        if missing:
            new = self._table().named(missing)
            self._cache.put("name", {name: _pack_symbols(some) for name, some in new.items()})
            found.update(new)
        return found

    def symbols_at(self, addresses: Iterable[int]) -> dict[int, Symbol | None]:
        """The function that each address is in; None where there is none."""
        wanted = {f"{address:x}": address for address in addresses}
        found: dict[int, Symbol | None] = {}
        for key, symbols in self._unpacked("at", wanted, _unpack_symbols):
            found[wanted[key]] = next(iter(symbols), None)
        missing = [address for address in wanted.values() if address not in found]
        if missing:
            new = self._table().at(missing)
            self._cache.put(
                "at", {f"{a:x}": _pack_symbols([s] if s else []) for a, s in new.items()}
            )
            found.update(new)
        return found

    def callees(self, return_addresses: Iterable[int]) -> dict[int, str | None]:
        """The functions that the calls before return addresses call, as DebugFile.callee()."""
        wanted = {f"{address:x}": address for address in return_addresses}
        found = self._kept("callee", wanted, lambda key: self.debug.callee(wanted[key]) or "")
        return {address: found[key] or None for key, address in wanted.items()}

    def tail_calls(self, addresses: Iterable[int]) -> dict[int, set[str]]:
        """The functions that those at addresses may end with a jump to."""
        wanted = {f"{address:x}": address for address in addresses}

        def names(key: str) -> str:
            return _FIELD.join(map(_clean, sorted(self.debug.tail_calls(wanted[key]))))

        found = self._kept("tail", wanted, names)
        return {a: set(found[key].split(_FIELD)) - {""} for key, a in wanted.items()}

    def _kept(self, kind: str, keys: Iterable[str], find: Callable[[str], str]) -> dict[str, str]:
        """Texts by their keys: what is kept of them, and what `find` finds."""
        keys = list(keys)
        found = self._cache.get(kind, keys)
        new = {key: find(key) for key in keys if key not in found} if self.has_lines else {}
        self._cache.put(kind, new)
        return {**dict.fromkeys(keys, ""), **found, **new}

    def section_start(self, name: str) -> int:
        """A section's own address."""
        section = self.file.sections[name]
        return section.number << PLACE if self.relocatable else section.address

    @property
    def relocatable(self) -> bool:
        """Whether it is a module, whose sections have no addresses yet."""
        return self.file.header.type == ET_REL

    def release(self) -> str | None:
        """The release of a vmlinux ("6.1.0-56-amd64"), by its linux_banner (init/version.c)."""
        kept = self._cache.get("release", ("",))
        if "" in kept:
            return kept[""] or None
        release = ""
        section = self.file.sections.get(".rodata")
        if section is not None:
            data = self.file.data[section.offset : section.offset + section.size]
            at = data.find(_BANNER)
            while at >= 0 and not release:
                word = data[at + len(_BANNER) : at + 120].split(b" ")[0]
                release = word.decode("ascii", "replace") if word[:1].isdigit() else ""
                at = data.find(_BANNER, at + 1)
        self._cache.put("release", {"": release})
        return release or None

    def _table(self) -> Symbols:
        if self._symbols is None:
            self._symbols = Symbols(Sections(self.file))
        return self._symbols


def build_id_of_notes(data: bytes) -> str | None:
    """The build-id in a section of notes, or in /sys/kernel/notes, in hex."""
    return build_id(parse_notes(data))


def build_id_of(file: ElfFile) -> str | None:
    """A file's build-id in hex: by its program headers, else (a module has none) by sections."""
    found = file.build_id
    if found is None:
        for name in (".note.gnu.build-id", ".notes"):
            data = file.section_data(name)
            found = build_id_of_notes(data)
            if found:
                break
    return found


def _size(file: ElfFile) -> int:
    return file.data.size if isinstance(file.data, FileBytes) else len(file.data)


def _pack_chain(chain: Chain) -> str:
    return _RECORD.join(
        _FIELD.join("" if field is None else _clean(field) for field in each) for each in chain
    )


def _clean(field: object) -> str:
    return str(field).replace(_FIELD, "?").replace(_RECORD, "?")


def _unpack_chain(text: str) -> Chain:
    if not text:
        return ()
    found = []
    for record in text.split(_RECORD):
        function, file, line, column = record.split(_FIELD)
        found.append(
            SourceLine(
                function or None, file or None, int(line or 0) or None, int(column or 0) or None
            )
        )
    return tuple(found)


def _unpack_near(text: str) -> tuple[Near, dict[str, int]]:
    declarations, names, places = text.split(_GROUP)
    files = names.split(_RECORD)
    lines = (record.split(_FIELD) for record in declarations.split(_RECORD) if record)
    declared = {name: int(line) for name, line in lines}
    rows = (record.split(_FIELD) for record in places.split(_RECORD) if record)
    return tuple(
        (int(place, 16), files[int(index)] or None, int(line) or None)
        for place, index, line in rows
    ), declared


def _pack_symbols(symbols: Iterable[Symbol]) -> str:
    return _RECORD.join(
        _FIELD.join((_clean(s.name), *(f"{n:x}" for n in (s.address, s.size, s.last, *s.reaches))))
        for s in symbols
    )


def _unpack_symbols(text: str) -> list[Symbol]:
    found = []
    for record in text.split(_RECORD) if text else ():
        name, *numbers = record.split(_FIELD)
        address, size, last, *reaches = (int(number, 16) for number in numbers)
        found.append(Symbol(name, address, size, tuple(reaches), bool(last)))
    return found
