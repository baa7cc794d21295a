"""Return addresses of real code, and what elfutils' eu-addr2line makes of them."""

import random
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from harness import Unplayable

from faultkit.code.elf import ElfFile, open_elf
from faultkit.model import SourceLine

STT_FUNC = 2
CALL = 0xE8
R_X86_64_PC32, R_X86_64_PLT32 = 2, 4

Line = tuple[Optional[str], int, int]  # file, line and column; 0 where there is none


def _elf(path: Path) -> ElfFile:
    file = open_elf(str(path))
    assert file is not None, path
    return file


def functions(path: Path) -> list[tuple[str, int, int, int]]:
    """(name, section number, address, size) of the functions in a symbol table."""
    file = _elf(path)
    data = file.section_data(".symtab")
    strings = file.section_data(".strtab")
    found = []
    for name, info, _, section, value, size in struct.iter_unpack("<IBBHQQ", data):
        if info & 15 == STT_FUNC and size:
            text = strings[name : strings.index(b"\0", name)].decode()
            found.append((text, section, value, size))
    return found


def return_addresses(vmlinux: Path, count: int, seed: int = 1) -> list[int]:
    """Addresses behind calls of functions, from all over .text."""
    file = _elf(vmlinux)
    text = file.sections[".text"]
    code = file.data[text.offset : text.offset + text.size]
    starts = {address for _, _, address, _ in functions(vmlinux)}
    chosen = random.Random(seed)
    found: set[int] = set()
    while len(found) < count:
        at = code.find(b"\xe8", chosen.randrange(len(code)))
        if 0 <= at <= len(code) - 5:
            address = text.address + at + 5
            distance = int.from_bytes(code[at + 1 : at + 5], "little", signed=True)
            if address + distance & (1 << 64) - 1 in starts:
                found.add(address)
    return sorted(found, key=lambda _: chosen.random())


def module_return_addresses(module: Path, count: int, seed: int = 1) -> list[int]:
    """Offsets in a module's .text behind its calls."""
    file = _elf(module)
    code = file.section_data(".text")
    relocations = struct.iter_unpack("<QIIq", file.section_data(".rela.text"))
    calls = {
        offset + 4
        for offset, kind, _, _ in relocations
        if kind in (R_X86_64_PC32, R_X86_64_PLT32) and code[offset - 1] == CALL
    }
    return random.Random(seed).sample(sorted(calls), min(count, len(calls)))


def eu_addr2line(
    path: Path, addresses: Sequence[int], section: Optional[str] = None
) -> list[list[Line]]:
    """The chain of lines at each address, innermost first."""
    command = ["eu-addr2line", "-i", "-a", *(["-j", section] if section else []), "-e", str(path)]
    asked = "".join(f"{address:#x}\n" for address in addresses)
    try:
        done = subprocess.run(command, input=asked, stdout=subprocess.PIPE, text=True, check=True)
    except FileNotFoundError:
        raise Unplayable("eu-addr2line is not here: elfutils") from None
    found: list[list[Line]] = []
    for line in done.stdout.splitlines():
        if line.startswith("0x"):
            found.append([])
        elif line:
            found[-1].append(_line(line.partition(" (")[0]))
    assert len(found) == len(addresses)
    return found


def llvm_symbolizer(path: Path, addresses: Sequence[int]) -> list[list[Line]]:
    """The same by llvm-symbolizer."""
    asked = "".join(f"{address:#x}\n" for address in addresses)
    command = ["llvm-symbolizer", "-i", "-f=none", "-e", str(path)]
    try:
        done = subprocess.run(command, input=asked, stdout=subprocess.PIPE, text=True, check=True)
    except FileNotFoundError:
        raise Unplayable("llvm-symbolizer is not here: llvm") from None
    found = [block.splitlines() for block in done.stdout.strip().split("\n\n")]
    assert len(found) == len(addresses)
    return [[_line(line) for line in block] for block in found]


def wrong(
    path: Path,
    found: Sequence[tuple[int, Sequence[SourceLine]]],
    section: Optional[str] = None,
) -> list[tuple[str, list[Line], list[Line]]]:
    """(address, our chain, eu-addr2line's) where they differ.

    eu-addr2line 0.188 loses callers in one chain of 2,000, though of the function it says where
    it was inlined, and those of Rust; llvm-symbolizer decides, where that is so.
    """
    addresses = [address for address, _ in found]
    theirs = eu_addr2line(path, addresses, section)
    odd = [
        (address, lines(mine), chain)
        for (address, mine), chain in zip(found, theirs)
        if lines(mine) != chain
    ]
    if not odd:
        return []
    decided = llvm_symbolizer(path, [address for address, _, _ in odd])
    return [
        (hex(address), mine, chain)
        for (address, mine, chain), third in zip(odd, decided)
        if mine[0] != chain[0] or _plain(mine) != _plain(third) or len(odd) > len(found) // 100
    ]


def _plain(chain: list[Line]) -> list[Line]:
    """The chain with its paths as llvm-symbolizer writes them, without doubled slashes."""
    return [(file and file.replace("//", "/"), line, column) for file, line, column in chain]


def _line(text: str) -> Line:
    file, line, *column = text.rsplit(":", 2) if text.count(":") > 1 else text.rsplit(":", 1)
    return None if file == "??" else file, int(line), int(column[0]) if column else 0


def lines(chain: Sequence[SourceLine]) -> list[Line]:
    """A chain as the oracle gives it."""
    return [(each.file, each.line or 0, each.column or 0) for each in chain] or [(None, 0, 0)]
