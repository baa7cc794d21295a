"""Offsets and sizes: by the vmlinux's BTF, then by that of modules which the dumped kernel keeps,
else by the debug information that the gdb in crash has read.

gdb takes ten milliseconds for a struct (it reads the compilation unit that has it), a twentieth of
a second for a typedef, an enumeration constant, an expression or a name that nobody has.  BTF takes
microseconds, once it is read.  What neither BTF has nor the strings of the debug information is not
even asked for.
"""

from __future__ import annotations

from crash_ext.bridge import Bridge, BridgeError
from faultkit.code import FormatError
from faultkit.code.btf import Btf
from faultkit.code.elf import open_elf
from faultkit.kernel.module_types import ModuleTypes
from faultkit.kernel.target import Kernel

SHORTEST = 8  # gcc leaves names of up to pointer size out of .debug_str (DW_FORM_string)
LARGEST = 64 << 20  # bytes of a section that are worth reading


class Types:
    """The types of a session; ask as in faultkit.kernel.target.Kernel."""

    def __init__(self, bridge: Bridge, kernel: Kernel | None = None) -> None:
        """`kernel` is the one whose modules' types are asked for."""
        self._bridge = bridge
        self._offsets: dict[tuple[str, str], int | None] = {}
        self._sizes: dict[tuple[str, str | None], int | None] = {}
        self._enumerators: dict[str, int | None] = {}
        self._strings: list[bytes] | None = None
        self._files = bridge.debug_files()
        self._btf = self._read_btf()
        self._modules: ModuleTypes | None = None
        if kernel is not None and self._btf is not None:
            self._modules = ModuleTypes(kernel, self._btf, bridge.btf_index)

    def offset(self, type_name: str, member: str) -> int | None:
        """Offset in bytes of a member, "wait_list.next" as well."""
        key = (type_name, member)
        if key not in self._offsets:
            self._offsets[key] = self._offset(type_name, member)
        return self._offsets[key]

    def size(self, type_name: str, member: str | None = None) -> int | None:
        """Size in bytes of a type, or of a member of it."""
        key = (type_name, member)
        if key not in self._sizes:
            self._sizes[key] = self._size(type_name, member)
        return self._sizes[key]

    def enumerator(self, name: str) -> int | None:
        """The value of an enumeration constant."""
        if name not in self._enumerators:
            found = self._btf.enumerator(name) if self._btf else None
            if found is None and self._may_exist(name):
                found = self._bridge.enumerator(name)
            self._enumerators[name] = found
        return self._enumerators[name]

    def _in_btf(self, name: str) -> tuple[Btf | None, int]:
        """(what has a type, its number there); (None, 0) if no BTF has it."""
        btf = self._btf
        number = btf.type(name) if btf is not None else None
        if number is None and self._modules is not None:
            btf = self._modules.with_type(name)
            number = btf.type(name) if btf is not None else None
        return (btf, number) if number is not None else (None, 0)

    def _offset(self, type_name: str, member: str) -> int | None:
        btf, number = self._in_btf(type_name)
        if btf is not None:
            place = btf.member(number, member)
            return None if place is None or place.offset % 8 else place.offset // 8
        if self.size(type_name) is None:
            return None
        outer, _, rest = member.partition(".")
        offset = self._bridge.offset(type_name, outer)
        if offset is None or not rest:
            return offset
        inner_type = self._type_of(type_name, outer)
        if inner_type is None:
            return self._expression(type_name, "(unsigned long) &((%s *) 0)->" + member)
        inner = self.offset(inner_type, rest)
        return None if inner is None else offset + inner

    def _size(self, type_name: str, member: str | None) -> int | None:
        btf, number = self._in_btf(type_name)
        if btf is not None:
            if member is None:
                return btf.size(number)
            place = btf.member(number, member)
            return None if place is None else btf.size(place.type)
        if member is None:
            return self._bridge.size(type_name) if self._may_exist(type_name) else None
        if self.size(type_name) is None:
            return None
        outer, _, rest = member.partition(".")
        if not rest:
            return self._bridge.size(type_name, outer)
        inner_type = self._type_of(type_name, outer)
        if inner_type is None:
            if self.offset(type_name, member) is None:  # gdb would follow pointers, too
                return None
            return self._expression(type_name, "sizeof(((%s *) 0)->" + member + ")")
        return self.size(inner_type, rest)

    def _type_of(self, type_name: str, member: str) -> str | None:
        """The name of the struct or union that a member is; None for unnamed ones, which only
        gdb's expressions know."""
        found = self._bridge.member_type(type_name, member)
        # Of a pointer that is the target's name, of an array the element's.
        if found and self.size(found) == self._bridge.size(type_name, member):
            return found
        return None

    def _expression(self, type_name: str, expression: str) -> int | None:
        for kind in ("struct ", "union ", ""):
            try:
                text = self._bridge.gdb('printf "%lu", ' + expression % (kind + type_name))
            except BridgeError:
                continue
            if text.strip().isdigit():
                return int(text)
        return None

    def _may_exist(self, name: str) -> bool:
        """Whether debug information can have the name of a type or constant."""
        if len(name) < SHORTEST:
            return True
        if self._strings is None:
            self._strings = self._read_strings()
        # Linkers let a string be the end of a longer one.
        wanted = name.encode() + b"\0"
        return not self._strings or any(wanted in strings for strings in self._strings)

    def _read_strings(self) -> list[bytes]:
        """.debug_str of every file that crash has read; [] if one's is not to be had."""
        found = []
        for path in self._files:
            elf = open_elf(path)
            section = elf.sections.get(".debug_str") if elf else None
            if elf is None or section is None or section.size > LARGEST:
                return []
            try:
                found.append(elf.section_data(".debug_str"))
            except FormatError:
                return []
        return found

    def _read_btf(self) -> Btf | None:
        vmlinux = open_elf(self._files[0]) if self._files else None
        section = vmlinux.sections.get(".BTF") if vmlinux else None
        if vmlinux is None or section is None or section.size > LARGEST:
            return None
        try:
            return Btf(vmlinux.section_data(".BTF"), self._bridge.btf_index)
        except FormatError:
            return None
