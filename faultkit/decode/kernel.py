"""The frames of a kernel's tasks for `kdecode`: registers, debug files, what pointers mean."""

from __future__ import annotations

import re
from collections.abc import Sequence

from faultkit.debuginfo.debugfile import BROKEN
from faultkit.debuginfo.kernel import Kernel as DebugFiles
from faultkit.debuginfo.lookup import Lookup
from faultkit.debuginfo.sections import PLACE
from faultkit.decode.callframes import FrameTable, State, frame_states
from faultkit.decode.model import Address, Decoded
from faultkit.decode.operand import PAGE, meaning_of
from faultkit.decode.original import code_of, original
from faultkit.decode.patches import Original
from faultkit.decode.source import Sources
from faultkit.decode.values import Code, Describe, FrameView
from faultkit.decode.view import Shown, Subject
from faultkit.kernel.files import Files
from faultkit.kernel.objects import is_kernel_pointer, pointer, text
from faultkit.kernel.registers import frames_with_registers, switched_out
from faultkit.kernel.system import System
from faultkit.model import Frame, Task
from faultkit.target import FaultkitError

MASK = (1 << 64) - 1
FARTHEST = 1 << 16  # bytes into a symbol that names a pointer
MOST_SLABS = 128  # pointers whose slab cache is asked for: that is dear
_EXCEPTION = re.compile(r"^(?:asm_exc_(?!nmi|int3|debug)|(?:page_fault|general_protection|"
                        r"invalid_op|divide_error|async_page_fault|double_fault)$)")  # fmt: skip

# Where objects keep their names: in themselves, or behind a pointer
_NAMES = {"gendisk": "disk_name", "net_device": "name", "super_block": "s_id", "module": "name",
          "workqueue_struct": "name"}  # fmt: skip
_NAME_POINTERS = {"device": "kobj.name", "filename": "name", "dentry": "d_name.name",
                  "kmem_cache": "name", "file_system_type": "name"}  # fmt: skip


class KernelSubject(Subject):
    """A kernel, dumped or live."""

    def __init__(self, system: System, files: DebugFiles, sources: Sources) -> None:
        super().__init__(system.kernel.read, sources)
        self.system = system
        self.files = files
        self._codes: dict[int, Code | None] = {}
        self._tables: dict[str, FrameTable | None] = {}
        self._bases: dict[tuple[str, int], int | None] = {}
        self._meanings: dict[tuple[int, str | None], str | None] = {}
        self._slabs = 0
        self._of_files: Files | None = None

    # Frames

    def task_frames(self, task: Task, most: int | None = None) -> list[Shown]:
        """The task's kernel frames, innermost first; [] if it has none."""
        system = self.system
        frames = frames_with_registers(system, task)
        if not frames:
            return []
        running = system.on_cpu(task)
        first = dict(frames[0].registers or {}) if running else switched_out(system, task)
        states = frame_states(frames, first, self._table_at, system.kernel.read, running)
        shown = self._shown(states)
        for index, frame in enumerate(shown):
            before = states[index - 1].frame.symbol if index else None
            if states[index].exact and before is not None and _EXCEPTION.match(before):
                shown[index] = frame._replace(faulted=True)
        return shown[:most] if most is not None else shown

    def place_frames(self, places: Sequence[tuple[int, bool]]) -> list[Shown]:
        """Frames of nothing but (address, exact): no registers are known."""
        states = []
        for index, (address, exact) in enumerate(places):
            bounds = self.system.function_bounds(address - (not exact))
            symbol = self.system.symbol_at(bounds[0]) if bounds is not None else None
            start = bounds[0] if bounds is not None else None
            frame = Frame(
                index,
                address,
                symbol.name if symbol is not None else None,
                address - start if start is not None else None,
                symbol.module if symbol is not None else None,
                function_start=start,
            )
            states.append(State(frame, exact, {}, {}, None))
        return self._shown(states)

    def _shown(self, states: Sequence[State]) -> list[Shown]:
        decoded = self.files.decode([self._address(state) for state in states])
        shown: list[Shown] = []
        for state, dec in zip(states, decoded):
            frame = state.frame
            self._as_running(dec, frame)
            code = self.code_at(frame.function_start) if frame.function_start else None
            view = FrameView(
                frame.address,
                state.exact,
                frame.function_start,
                code,
                state.registers,
                state.origins,
                state.cfa,
                self.read,
            )
            view.name_of = self.name_of
            if frame.function_start is not None:
                bounds = self.system.function_bounds(frame.function_start)
                view.end = bounds[1] if bounds is not None else None
            if not state.registers and frame.sp is not None and code is not None:
                dec.notes.append(
                    "its place on the stack is not sure (another stack begins here, or it is left "
                    "over from earlier calls): no values"
                )
            shown.append(Shown(dec, view))
        for below, above, state in zip(shown, shown[1:], states[1:]):
            if not state.exact:
                below.view.caller = above.view
        return shown

    def _address(self, state: State) -> Address:
        frame = state.frame
        if frame.symbol is None or frame.offset is None:
            return Address(frame.address, state.exact)
        size = None
        if frame.function_start is not None:
            bounds = self.system.function_bounds(frame.function_start)
            size = bounds[1] - bounds[0] if bounds is not None else None
        name = frame.symbol
        lookup = self.files.file(frame.module) if frame.module is not None else None
        if lookup is not None and frame.function_start is not None:
            name = self._name_in(lookup, name, frame.function_start)
        return Address(frame.address, state.exact, name, frame.offset, size, frame.module)

    def _name_in(self, lookup: Lookup, name: str, start: int) -> str:
        """The name that a module's file has for a function: crash leaves out the suffixes that
        compilers give to clones, the kernel's own table of the module has them."""
        if not lookup.symbols_named([name])[name]:
            found = self.system.modules.find(start)
            if found is not None and found[0].name.startswith(name + "."):
                return found[0].name
        return name

    def _as_running(self, decoded: Decoded, frame: Frame) -> None:
        """What the running kernel tells goes before what the files do."""
        decoded.address = frame.address
        decoded.symbol, decoded.offset = frame.symbol, frame.offset
        decoded.module = frame.module

    # Debug information

    def code_at(self, start: int) -> Code | None:
        """Where the function that starts there is in debug information."""
        if start not in self._codes:
            try:
                self._codes[start] = self._code_at(start)
            except (*BROKEN, FaultkitError):
                self._codes[start] = None
        return self._codes[start]

    def _code_at(self, start: int) -> Code | None:
        symbol = self.system.symbol_at(start)
        if symbol is None:
            return None
        lookup = self.files.file(symbol.module)
        if lookup is None:
            return None
        if symbol.module is None:
            slide = self.slide(lookup)
            if slide is None:
                return None
            return Code(lookup, -slide, lambda address: address + slide & MASK)
        module = symbol.module
        bounds = self.system.function_bounds(start)
        size = bounds[1] - bounds[0] if bounds is not None else None
        name = self._name_in(lookup, symbol.name, start)
        named = lookup.symbols_named([name])[name]
        fitting = [s for s in named if size is None or s.has_size(size)] or named
        places = {s.address for s in fitting}
        if len(places) > 1:  # its section's other functions tell which
            based = {p for p in places if self._base(lookup, module, p >> PLACE) is not None}
            places = {
                place
                for place in based
                if (self._base(lookup, module, place >> PLACE) or 0) + (place & (1 << PLACE) - 1)
                == start
            }
        if len(places) != 1:
            return None
        place = places.pop()
        self._bases.setdefault((module, place >> PLACE), start - (place & (1 << PLACE) - 1))
        return Code(lookup, place - start, lambda address: self._in_module(lookup, module, address))

    def slide(self, lookup: Lookup) -> int | None:
        """How far the kernel was moved from where its vmlinux has it (KASLR)."""
        if self.files.offset is None:
            running = self.system.kernel.symbol("_stext")
            static = lookup.symbols_named(["_stext"])["_stext"]
            if running is None or not static:
                return None
            self.files.offset = running - static[0].address
        return self.files.offset

    def _in_module(self, lookup: Lookup, module: str, address: int) -> int | None:
        base = self._base(lookup, module, address >> PLACE)
        return base + (address & (1 << PLACE) - 1) if base is not None else None

    def _base(self, lookup: Lookup, module: str, section: int) -> int | None:
        """Where a section of a module was loaded, by a symbol in it that has no namesake."""
        key = module, section
        if key not in self._bases:
            self._bases[key] = None
            for name, value in _symbols_in(lookup, section):
                address = self.system.kernel.symbol(name)
                found = self.system.symbol_at(address) if address is not None else None
                if address is not None and found is not None and found.module == module:
                    self._bases[key] = address - value
                    break
        return self._bases[key]

    def _table_at(self, start: int) -> tuple[FrameTable, int] | None:
        code = self.code_at(start)
        if code is None:
            return None
        path = code.file.path
        if path not in self._tables:
            self._tables[path] = None
            try:
                section = code.file.debug.sections.get(".debug_frame")
                if section is not None:
                    self._tables[path] = FrameTable(section.read(0, section.size))
            except BROKEN:
                pass
        table = self._tables[path]
        return (table, code.shift) if table is not None else None

    def original(self, start: int, size: int) -> Original | None:
        code = self.code_at(start)
        if code is None:
            return None
        try:
            found = code_of(code.file)
            slide = 0 if code.file.debug.sections.relocatable else -code.shift
            return original(found, start + code.shift & MASK, start, size, slide) if found else None
        except BROKEN:
            return None

    # Names

    def name_of(self, address: int) -> str | None:
        symbol = self.system.symbol_at(address)
        if symbol is None or symbol.offset > FARTHEST:
            return None
        name = symbol.name + (f"+{symbol.offset:#x}" if symbol.offset else "")
        return f"{name} [{symbol.module}]" if symbol.module else name

    @property
    def describe(self) -> Describe | None:
        return self._describe

    def _describe(self, value: int, type_name: str, structure: str | None) -> str | None:
        key = value, structure
        if key not in self._meanings:
            try:
                self._meanings[key] = self._meaning(value, type_name, structure)
            except FaultkitError:
                self._meanings[key] = None
        return self._meanings[key]

    def _meaning(self, value: int, type_name: str, structure: str | None) -> str | None:
        if value < PAGE:
            return None
        wrong = meaning_of(value)
        if wrong is not None:
            return wrong
        if not is_kernel_pointer(value):
            return "user space" if value < 1 << 47 else None
        task = self.system.by_address.get(value)
        if task is not None:
            return f'task {task.tid} "{task.name}"'
        if structure == "file":
            path = self._path(value)
            if path is not None:
                return f"file {path}"
        named = self._named(value, structure) if structure is not None else None
        if named is not None:
            return named
        if "char" in type_name and type_name.rstrip().endswith("*"):
            text = self._string(value)
            if text is not None:
                return text
        name = self.name_of(value)
        if name is not None and self._is_image(value):
            return name
        if self._slabs < MOST_SLABS:
            self._slabs += 1
            slab = self.system.kernel.slab(value)
            if slab is not None:
                return f"slab {slab.cache}"
        return self._stack(value)

    def _is_image(self, value: int) -> bool:
        """Whether the address lies in the kernel's or modules' images, where symbols are."""
        (start, _), (modules, top) = self.system.code_ranges
        return start <= value < modules or modules <= value < top

    def _path(self, value: int) -> str | None:
        opened = self._files().file(value)
        return self._files().link(opened) if opened is not None else None

    def _files(self) -> Files:
        if self._of_files is None:
            self._of_files = Files(self.system)
        return self._of_files

    def _named(self, value: int, structure: str) -> str | None:
        """An object that has a name of its own: a device, a file system, a dentry..."""
        kernel = self.system.kernel
        name: str | None = None
        if structure in _NAMES:
            offset = kernel.offset(structure, _NAMES[structure])
            name = text(kernel, value + offset, 64) if offset is not None else None
        elif structure in _NAME_POINTERS:
            place = pointer(kernel, value, structure, _NAME_POINTERS[structure])
            name = text(kernel, place, 64) if is_kernel_pointer(place) else None
        elif structure == "work_struct":
            name = self.name_of(pointer(kernel, value, "work_struct", "func"))
        elif structure == "block_device":
            disk = pointer(kernel, value, "block_device", "bd_disk")
            return self._named(disk, "gendisk") if is_kernel_pointer(disk) else None
        elif structure == "inode":
            inode = self._files().inode(value)
            name = f"{inode.number} on {inode.type}" if inode is not None else None
        return f"{structure} {name}" if name and name.isprintable() else None

    def _string(self, value: int) -> str | None:
        found = text(self.system.kernel, value, 64)
        return f'"{found}"' if len(found) > 1 and found.isprintable() else None

    def _stack(self, value: int) -> str | None:
        """Whose kernel stack it lies on."""
        for task in self.system.tasks:
            try:
                base = self.system.stack_base(task)
            except FaultkitError:
                continue
            if base <= value < base + self.system.thread_size:
                return f'on the stack of {task.tid} "{task.name}"'
        return None


def _symbols_in(lookup: Lookup, section: int) -> list[tuple[str, int]]:
    """(name, offset) of a section's named symbols of a relocatable file, those of one name left
    out."""
    import struct

    known: dict[int, list[tuple[str, int]]] = lookup.__dict__.setdefault("_by_section", {})
    if not known:
        table = lookup.file.section_data(".symtab")
        strings = lookup.file.section_data(".strtab")
        count: dict[str, int] = {}
        found: list[tuple[str, int, int]] = []
        whole = table[: len(table) // 24 * 24]
        for at, _, _, number, value, _ in struct.iter_unpack("<IBBHQQ", whole):
            if at and number:
                name = strings[at : strings.find(b"\0", at)].decode("ascii", "replace")
                count[name] = count.get(name, 0) + 1
                found.append((name, number, value))
        for name, number, value in found:
            if count[name] == 1:
                known.setdefault(number, []).append((name, value))
    return known.get(section, [])[:64]
