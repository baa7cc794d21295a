"""Address spaces: a process's mappings, and who maps a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from faultkit.kernel.files import Files, device_name
from faultkit.kernel.objects import need, unsigned
from faultkit.kernel.trees import MOST_NODES, maple_entries, rb_nodes
from faultkit.target import FaultkitError, Mapping

PAGE = 4096
VM_READ, VM_WRITE, VM_EXEC, VM_MAYSHARE = 1, 2, 4, 0x80  # include/linux/mm.h


def mappings(files: Files, mm: int, only_files: bool = False) -> list[Mapping]:
    """The mappings of an mm_struct in address order, as far as they can be read; perhaps only
    those of files.  Device and inode of a file that can't be read are None.  Raises
    UnknownLayout."""
    vma = files.system.layout(
        "vm_area_struct", "vm_start", "vm_end", "vm_flags", "vm_pgoff", "vm_file", "vm_mm"
    )
    marks = files.system.layout("mm_struct", "start_brk", "start_stack", ("context.vdso", None))
    try:
        heap, stack, vdso = marks.read(mm)
    except FaultkitError:
        heap = stack = vdso = 0
    found = []
    file_at = need(files.kernel, "vm_area_struct", "vm_file")
    addresses = list(_vmas(files, mm))
    if only_files:  # most are none: stacks of threads, heaps
        pointers = files.kernel.read_each([(address + file_at, 8) for address in addresses])
        addresses = [address for address, file in zip(addresses, pointers) if file and any(file)]
    for fields in vma.read_each(addresses):
        if fields is None:
            continue
        start, end, flags, place, file, owner = fields
        if owner != mm or not start < end <= 1 << 57:
            continue
        path, device, inode = _file(files, file) if file else _ANONYMOUS
        if not file:
            if start == vdso:
                path = "[vdso]"
            elif start <= stack < end:
                path = "[stack]"
            elif heap and start <= heap < end:
                path = "[heap]"
        found.append(
            Mapping(start, end, place * PAGE if file else 0, path, _perms(flags), device, inode)
        )
    return sorted(found)


def _vmas(files: Files, mm: int) -> Iterator[int]:
    """Its vm_area_structs: a maple tree since 6.1 (763ecb035029, "mm: remove the vma linked
    list"), a list before."""
    kernel = files.kernel
    tree = kernel.offset("mm_struct", "mm_mt")
    try:
        if tree is not None:
            yield from maple_entries(kernel, mm + tree)
            return
        following = need(kernel, "vm_area_struct", "vm_next")
        address = kernel.u64(mm + need(kernel, "mm_struct", "mmap"))
        for _ in range(MOST_NODES):
            if not address:
                return
            yield address
            address = kernel.u64(address + following)
    except FaultkitError:
        return


def are_all(files: Files, mm: int, found: Sequence[Mapping]) -> bool:
    """Whether these are all mappings of the mm_struct, each with what it maps."""
    try:
        count = unsigned(files.kernel, mm, "mm_struct", "map_count")
    except FaultkitError:
        return False
    return len(found) == count and all(mapping.device is not None for mapping in found)


_ANONYMOUS = "", "00:00", 0


def _file(files: Files, address: int) -> tuple[str, str | None, int | None]:
    """(path, device, inode number) of a mapped file."""
    file = files.file(address)
    inode = files.inode(file.inode) if file is not None else None
    if file is None or inode is None:
        return "", None, None
    return files.link(file) or "", device_name(inode.device), inode.number


def _perms(flags: int) -> str:
    return "".join(
        letter if flags & bit else "-"
        for letter, bit in (("r", VM_READ), ("w", VM_WRITE), ("x", VM_EXEC))
    ) + ("s" if flags & VM_MAYSHARE else "p")


def mapped_by(files: Files, mapping: int, strict: bool = False) -> set[int]:
    """The mm_structs that map the file of a struct address_space, as far as they can be read;
    with `strict` all of them, or FaultkitError.  Raises UnknownLayout."""
    kernel = files.kernel
    top = need(kernel, "address_space", "i_mmap") + need(kernel, "rb_root_cached", "rb_root")
    node_at = need(kernel, "vm_area_struct", "shared.rb")
    mm_at = need(kernel, "vm_area_struct", "vm_mm")
    found = set()
    try:
        for node in rb_nodes(kernel, kernel.u64(mapping + top), strict=strict):
            found.add(kernel.u64(node - node_at + mm_at))
    except FaultkitError:
        if strict:
            raise
    return found
