"""Symbol tables: which function or object an address is in, and where a name is."""

from __future__ import annotations

import os
import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence

from faultkit.code import FormatError
from faultkit.code.elf import SHF_EXECINSTR, ElfFile, open_elf
from faultkit.code.images import Image
from faultkit.record import NamedTuple
from faultkit.target import ReadError

STT_NOTYPE, STT_OBJECT, STT_FUNC, STT_GNU_IFUNC = 0, 1, 2, 10
_TYPES = (STT_NOTYPE, STT_OBJECT, STT_FUNC, STT_GNU_IFUNC)
SHN_ABS = 0xFFF1
DT_HASH, DT_STRTAB, DT_SYMTAB, DT_STRSZ, DT_GNU_HASH = 4, 5, 6, 10, 0x6FFFFEF5
MAX_TABLE = 256 << 20  # bytes of a symbol or string table
MAX_DEBUGDATA = 64 << 20
MAX_NESTING = 64  # symbols that may start inside another one before its end
DEBUG_DIRECTORY = "/usr/lib/debug"


class Symbol(NamedTuple):
    """A symbol found for an address: `offset` is how far the address lies behind its start.

    `size` is None where the symbol table does not tell (assembler labels).
    """

    name: str
    offset: int
    size: int | None


class SymbolTable:
    """One symbol table, in the file's own addresses."""

    def __init__(
        self, symbols: bytes, strings: bytes, code_sections: frozenset[int] | None = None
    ) -> None:
        """`symbols` and `strings` are the raw sections; `code_sections`, for a table that holds
        all functions and not just the exported ones, the numbers of the executable sections:
        symbols without a type count only in those."""
        self._strings = strings
        words = array("Q")
        words.frombytes(symbols[: len(symbols) - len(symbols) % 24])
        self._first = words[0::3]  # st_name, st_info, st_other, st_shndx
        self._values = words[1::3]
        self._sizes = words[2::3]
        self._order: list[int] = []
        self._starts: list[int] = []
        self._code_sections = code_sections
        self._sorted = False

    def __len__(self) -> int:
        return len(self._first)

    def _usable(self, index: int) -> bool:
        word = self._first[index]
        section = word >> 48
        kind = word >> 32 & 15
        if not section or section == SHN_ABS or kind not in _TYPES or not word & 0xFFFFFFFF:
            return False
        return kind != STT_NOTYPE or (
            self._code_sections is not None and section in self._code_sections
        )

    def _sort(self) -> None:
        values = self._values
        self._order = sorted(filter(self._usable, range(len(values))), key=values.__getitem__)
        self._starts = [values[index] for index in self._order]
        self._sorted = True

    def name(self, index: int) -> str:
        """The name of symbol number `index`, without a version; "" if there is none."""
        if not 0 <= index < len(self._first):
            return ""
        start = self._first[index] & 0xFFFFFFFF
        end = self._strings.find(b"\0", start)
        name = self._strings[start : end if end >= 0 else start].decode("utf-8", "replace")
        return name.partition("@")[0] or name  # ld writes "stdout@GLIBC_2.2.5" in .symtab

    def functions(self) -> list[tuple[int, int, str]]:
        """[start, end) and name of each function whose size is known, in order of addresses."""
        values, sizes = self._values, self._sizes
        return sorted(
            (values[index], values[index] + sizes[index], self.name(index))
            for index, word in enumerate(self._first)
            if word >> 32 & 15 == STT_FUNC and sizes[index] and self._usable(index)
        )

    def find(self, address: int) -> Symbol | None:
        """The symbol that covers `address`.

        A symbol of known size covers just that; one without a size reaches to the next symbol
        in a table of all functions, and is only its own address in a table of exported ones.
        Among aliases the one with fewest leading underscores wins, then global before local;
        glibc's internal __GI_ names come last.
        """
        if not self._sorted:
            self._sort()
        last = bisect_right(self._starts, address) - 1
        best: tuple[int, bool, int, bool] | None = None
        chosen: Symbol | None = None
        for position in range(last, max(-1, last - MAX_NESTING), -1):
            start = self._starts[position]
            if chosen is not None and chosen.size and address - chosen.offset != start:
                break
            index = self._order[position]
            size = self._sizes[index]
            if size <= address - start and (size or start != self._starts[last]):
                continue
            if not size and self._code_sections is None and start != address:
                continue
            name = self.name(index)
            # A sized symbol before a bare label, a global (1) or weak (2) one before a local.
            binding = self._first[index] >> 36 & 15
            underscores = len(name) - len(name.lstrip("_"))
            rank = (0 if size else 1, name.startswith("__GI_"), underscores, not binding)
            if best is None or (rank, name) < (best, chosen.name if chosen else ""):
                best, chosen = rank, Symbol(name, address - start, size or None)
        return chosen

    def addresses(self, name: str) -> list[int]:
        """The addresses of the symbols named `name`, lowest first."""
        found = set()
        for end in (b"\0", b"@"):
            wanted = name.encode() + end
            position = self._strings.find(wanted)
            while position >= 0:  # names share tails: every place may be the start of one
                for index in self._indices(position):
                    if self._usable(index):
                        found.add(self._values[index])
                position = self._strings.find(wanted, position + 1)
        return sorted(found)

    def label(self, name: str) -> int | None:
        """The address of a symbol of any type, such as one that a linker script defines."""
        wanted = name.encode() + b"\0"
        position = self._strings.find(wanted)
        while position >= 0:
            for index in self._indices(position):
                if self._first[index] >> 48:
                    return self._values[index]
            position = self._strings.find(wanted, position + 1)
        return None

    def _indices(self, name_offset: int) -> Iterator[int]:
        mask = 0xFFFFFFFF
        return (i for i, word in enumerate(self._first) if word & mask == name_offset)


def _from_section(file: ElfFile, name: str) -> SymbolTable | None:
    section = file.sections.get(name)
    if section is None or section.size > MAX_TABLE:
        return None
    strings = next((n for n, s in file.sections.items() if s.number == section.link), None)
    try:
        symbols = file.section_data(name)
        names = file.section_data(strings) if strings else b""
    except FormatError:
        return None
    code = frozenset(s.number for s in file.sections.values() if s.flags & SHF_EXECINSTR)
    complete = code if name != ".dynsym" else None
    return SymbolTable(symbols, names, complete) if symbols and names else None


def full_table(file: ElfFile) -> SymbolTable | None:
    """The symbol table that is not loaded, of all functions; None if it was stripped."""
    return _from_section(file, ".symtab")


def dynamic_symbols(image: Image) -> SymbolTable | None:
    """The image's dynamic symbol table, read from the target's memory (so also for files that
    are gone or have no section headers); None if it has none."""
    cached = _cached(image)
    if "memory" not in cached:
        try:
            cached["memory"] = _dynamic_symbols(image)
        except ReadError:
            return None
    return cached["memory"]


def _dynamic_symbols(image: Image) -> SymbolTable | None:
    table = image.dynamic_address(DT_SYMTAB)
    strings = image.dynamic_address(DT_STRTAB)
    size = image.dynamic.get(DT_STRSZ, 0)
    if table is None or strings is None or not 0 < size <= MAX_TABLE:
        return None
    count = _dynamic_count(image)
    if not 0 < count <= MAX_TABLE // 24:
        return None
    return SymbolTable(image.read(table, 24 * count), image.read(strings, size))


def _dynamic_count(image: Image) -> int:
    """The number of dynamic symbols: DT_HASH tells it; for DT_GNU_HASH it is the end of the
    last bucket's chain (glibc elf/dl-lookup.c, do_lookup_x and _dl_setup_hash)."""
    address = image.dynamic_address(DT_HASH)
    if address is not None:
        return int(struct.unpack("<II", image.read(address, 8))[1])
    address = image.dynamic_address(DT_GNU_HASH)
    if address is None:
        return 0
    buckets, first, bloom, _ = struct.unpack("<IIII", image.read(address, 16))
    if buckets > 1 << 24 or bloom > 1 << 24:
        return 0
    address += 16 + 8 * bloom
    last = max(struct.unpack(f"<{buckets}I", image.read(address, 4 * buckets)), default=0)
    if last < first:
        return int(first)
    chain = address + 4 * buckets
    for count in range(last, last + (1 << 20)):
        if int.from_bytes(image.read(chain + 4 * (count - first), 4), "little") & 1:
            return int(count) + 1
    return 0


def debug_file(image: Image) -> ElfFile | None:
    """The image's separate debug file, by build-id or .gnu_debuglink, if it is installed.

    Looked for as gdb does (its manual, "Separate Debug Files"), with the build-id checked.
    """
    identity = image.build_id
    candidates = []
    if identity:
        candidates.append(f"{DEBUG_DIRECTORY}/.build-id/{identity[:2]}/{identity[2:]}.debug")
    if image.file is not None and image.path.startswith("/"):
        link = image.file.section_data(".gnu_debuglink").split(b"\0", 1)[0]
        name = link.decode("utf-8", "replace")
        directory = os.path.dirname(image.path)
        if name and "/" not in name:
            candidates += [
                f"{directory}/{name}",
                f"{directory}/.debug/{name}",
                f"{DEBUG_DIRECTORY}{directory}/{name}",
            ]
    for path in candidates:
        file = open_elf(path)
        if file is not None and path != image.path and (not identity or file.build_id == identity):
            return file
    return None


def _debugdata(file: ElfFile) -> SymbolTable | None:
    """The table inside .gnu_debugdata, an xz-compressed ELF file (gdb manual, "MiniDebugInfo")."""
    try:
        packed = file.section_data(".gnu_debugdata")
    except FormatError:
        return None
    if not packed:
        return None
    import lzma

    try:
        inner = ElfFile(lzma.LZMADecompressor().decompress(packed, MAX_DEBUGDATA))
    except (FormatError, lzma.LZMAError, EOFError):
        return None
    return _from_section(inner, ".symtab")


# Tables by build-id, as many processes run the same libraries.
_CACHE: dict[str, dict[str, SymbolTable | None]] = {}
_CACHE_LIMIT = 256


def _cached(image: Image) -> dict[str, SymbolTable | None]:
    identity = image.build_id
    if identity is None:
        tables: dict[str, SymbolTable | None] = image.__dict__.setdefault("_tables", {})
        return tables
    if identity not in _CACHE and len(_CACHE) >= _CACHE_LIMIT:
        del _CACHE[next(iter(_CACHE))]
    return _CACHE.setdefault(identity, {})


def _tables(image: Image) -> Iterator[SymbolTable]:
    """The image's symbol tables, the cheapest and most telling first."""
    cached = _cached(image)

    def table(name: str) -> SymbolTable | None:
        if name not in cached:
            file = image.file
            if name == "debug":
                separate = debug_file(image) if image.path.startswith("/") else None
                cached[name] = _from_section(separate, ".symtab") if separate else None
            elif file is None:
                return None
            elif name == ".gnu_debugdata":
                cached[name] = _debugdata(file)
            else:
                cached[name] = _from_section(file, name)
        return cached[name]

    full = table(".symtab")
    if full is not None:
        yield full
        return
    dynamic = table(".dynsym") or dynamic_symbols(image)
    if dynamic is not None:
        yield dynamic
    for name in (".gnu_debugdata", "debug"):
        extra = table(name)
        if extra is not None:
            yield extra


def symbol_at(image: Image, address: int) -> Symbol | None:
    """The symbol of `image` that covers `address` (an address in the target), or None."""
    for table in _tables(image):
        found = table.find(address - image.bias)
        if found is not None and found.name:
            return found
    return None


def addresses_of(image: Image, name: str) -> list[int]:
    """Where `name` is in the target: usually one address, none if the image does not define
    it, more for static functions of one name and for versioned symbols."""
    for table in _tables(image):
        found = table.addresses(name)
        if found:
            return [address + image.bias for address in found]
    return []


def demangle(names: Sequence[str], timeout: float = 2.0) -> list[str]:
    """The names as C++ and Rust sources spell them, by c++filt; unchanged where it can't."""
    mangled = [name for name in names if name.startswith(("_Z", "_R"))]
    if not mangled:
        return list(names)
    import subprocess

    text = "\n".join(name.replace("\n", " ") for name in mangled)
    try:
        done = subprocess.run(
            ["c++filt"], input=text, capture_output=True, text=True, timeout=timeout, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return list(names)
    lines = done.stdout.splitlines()
    if len(lines) != len(mangled):
        return list(names)
    plain = dict(zip(mangled, lines))
    return [plain.get(name, name) for name in names]
