"""Types of modules, by the BTF that the kernel keeps of each (CONFIG_DEBUG_INFO_BTF_MODULES, 5.11;
kernel/bpf/btf.c, btf_module_notify()): for hosts that have no debug information of a module."""

from __future__ import annotations

from collections.abc import Callable

from faultkit.code import FormatError
from faultkit.code.btf import Btf
from faultkit.kernel.objects import BrokenList, entries, need, pointer, unsigned
from faultkit.kernel.target import Kernel
from faultkit.target import FaultkitError

MOST_MODULES = 2048
LARGEST = 16 << 20  # bytes of one module's

MakeIndex = Callable[[bytes], tuple[bytes, bytes]]


class ModuleTypes:
    """The types of all modules that are loaded, as far as they could be read; each module's come on
    top of the kernel's own, and are put there when they are first asked for."""

    def __init__(self, kernel: Kernel, base: Btf, make_index: MakeIndex) -> None:
        self._kernel = kernel
        self._base = base
        self._make_index = make_index
        self._data: list[tuple[bytes, Btf]] | None = None
        self._whole: dict[int, Btf | None] = {}
        self._known: dict[str, Btf | None] = {}

    def with_type(self, name: str) -> Btf | None:
        """What has the type of that name; None if no module has it, or several have different
        ones."""
        if name not in self._known:
            self._known[name] = self._find(name)
        return self._known[name]

    def _find(self, name: str) -> Btf | None:
        if self._data is None:
            self._data = []  # while they are read: kernels before 5.11 have no struct btf_module
            self._data = self._read()
        found: dict[int | None, Btf] = {}
        at = self._base.name_at(name)
        for number, (_, own) in enumerate(self._data):
            whole = self._stacked(number) if own.defines(name, self._base, at) else None
            place = whole.type(name) if whole is not None else None
            size = whole.size(place) if whole is not None and place is not None else None
            if whole is not None and size is not None:
                found.setdefault(size, whole)
        return next(iter(found.values())) if len(found) == 1 else None

    def _stacked(self, number: int) -> Btf | None:
        if number not in self._whole:
            data = (self._data or [])[number][0]
            try:
                self._whole[number] = Btf(data, self._make_index, self._base)
            except FormatError:
                self._whole[number] = None
        return self._whole[number]

    def _read(self) -> list[tuple[bytes, Btf]]:
        kernel = self._kernel
        found: list[tuple[bytes, Btf]] = []
        head = kernel.symbol("btf_modules")
        try:
            at = need(kernel, "btf_module", "btf")
            links = need(kernel, "btf_module", "list")
            for module in entries(kernel, head, links, MOST_MODULES) if head else ():
                data = self._data_of(kernel.u64(module + at))
                try:
                    found.append((data, Btf(data, self._make_index)))
                except FormatError:
                    continue
        except (BrokenList, FaultkitError):
            pass
        return found

    def _data_of(self, btf: int) -> bytes:
        """The BTF of one module; b"" if it does not build upon the kernel's as it is now (modules
        from elsewhere may bring a base of their own, 6.11)."""
        kernel = self._kernel
        try:
            size = unsigned(kernel, btf, "btf", "data_size")
            moved = kernel.offset("btf", "base_id_map")
            if moved is not None and kernel.u64(btf + moved):
                return b""
            data = pointer(kernel, btf, "btf", "data")
            return kernel.read(data, size) if 0 < size <= LARGEST else b""
        except FaultkitError:
            return b""
