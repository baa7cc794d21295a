"""Symbols of modules as the kernel itself keeps them (CONFIG_KALLSYMS), for hosts that know none:
crash 9.0.2 reads a 7.x kernel's dumps only with --no_modules."""

from __future__ import annotations

import bisect
import struct

from faultkit.kernel.objects import entries, need, pointer, text, unsigned
from faultkit.kernel.target import Kernel, Symbol
from faultkit.record import NamedTuple
from faultkit.target import FaultkitError

MOST_MODULES = 2048
MOST_SYMBOLS = 200_000  # of one module
LONGEST = 64 << 20  # bytes of one module
_SYMBOL = struct.Struct("<IBBHQQ")  # Elf64_Sym: name, info, other, shndx, value, size


class _Module(NamedTuple):
    address: int
    name: str
    ranges: tuple[tuple[int, int], ...]  # [start, end)


class ModuleSymbols:
    """The symbols of all modules that are loaded; a module's are read when first asked for."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self._modules: list[_Module] | None = None
        self._symbols: dict[int, tuple[list[int], list[tuple[int, int, int]]]] = {}
        self.answered = False  # a symbol was found that the host did not know

    def find(self, address: int) -> tuple[Symbol, int, int] | None:
        """(symbol, start, end) of what covers `address`; None if it is no module's."""
        if self._modules is None:
            self._modules = self._list()
        for module in self._modules:
            if any(start <= address < end for start, end in module.ranges):
                return self._find(module, address)
        return None

    def _find(self, module: _Module, address: int) -> tuple[Symbol, int, int] | None:
        if module.address not in self._symbols:
            try:
                found = self._read(module)
            except FaultkitError:
                found = []
            self._symbols[module.address] = [symbol[0] for symbol in found], found
        starts, symbols = self._symbols[module.address]
        place = bisect.bisect_right(starts, address) - 1
        if place < 0:
            return None
        start, size, name_at = symbols[place]
        following = starts[place + 1] if place + 1 < len(starts) else start + size
        end = start + size if size else following
        if address >= end:
            return None
        try:
            name = text(self.kernel, name_at, 512)
        except FaultkitError:
            return None
        if not name:
            return None
        self.answered = True
        return Symbol(name, address - start, module.name), start, end

    def _list(self) -> list[_Module]:
        kernel = self.kernel
        modules: list[_Module] = []
        head = kernel.symbol("modules")
        if head is None:
            return modules
        try:
            for address in entries(kernel, head, need(kernel, "module", "list"), MOST_MODULES):
                name = text(kernel, address + need(kernel, "module", "name"), 64)
                modules.append(_Module(address, name, self._ranges(address)))
        except FaultkitError:
            pass  # those before it will do
        return modules

    def _ranges(self, module: int) -> tuple[tuple[int, int], ...]:
        """Where it lies: ac3b43283923 ("module: replace module_layout with module_memory", 6.4)
        made an array of core_layout and init_layout."""
        kernel = self.kernel
        array, whole = kernel.offset("module", "mem"), kernel.size("module", "mem")
        each = kernel.size("module_memory") if array is not None else None
        layout = "module_memory"
        if array is not None and whole and each:
            places = [module + array + index * each for index in range(min(whole // each, 16))]
        else:
            layout = "module_layout"
            places = [module + need(kernel, "module", "core_layout")]
        ranges = []
        for place in places:
            base = pointer(kernel, place, layout, "base")
            size = unsigned(kernel, place, layout, "size")
            if base and 0 < size < LONGEST:
                ranges.append((base, base + size))
        return tuple(ranges)

    def _read(self, module: _Module) -> list[tuple[int, int, int]]:
        """(value, size, address of the name) of its symbols, in order; of several at one address
        the longest one."""
        kernel = self.kernel
        table = pointer(kernel, module.address, "module", "kallsyms")
        count = unsigned(kernel, table, "mod_kallsyms", "num_symtab")
        names = pointer(kernel, table, "mod_kallsyms", "strtab")
        first = pointer(kernel, table, "mod_kallsyms", "symtab")
        data = kernel.read(first, min(count, MOST_SYMBOLS) * _SYMBOL.size)
        best: dict[int, tuple[int, int, int]] = {}
        for name, _, _, section, value, size in _SYMBOL.iter_unpack(data):
            if not section or not name:
                continue
            if value not in best or size > best[value][1]:
                best[value] = (value, size, names + name)
        return sorted(best.values())
