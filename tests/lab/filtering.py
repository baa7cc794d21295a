"""What becomes of a dump on its way from a crashed machine: pages left out, the end missing."""

import struct
import subprocess
from pathlib import Path

from .store import LabError

ROOTS = Path(__file__).resolve().parent.parent / "roots"
PAGE_OFFSET = 0xFFFF888000000000  # where nokaslr maps all memory
# struct disk_dump_header: the offset of `status`, and DUMP_DH_COMPRESSED_INCOMPLETE in it.
STATUS, INCOMPLETE = 424, 0x8


# By the form of a dump: how kdump calls makedumpfile.  Debian's compresses by zlib, Red Hat's and
# SUSE's by LZO; 31 is what all leave out, 23 keeps user pages.
MAKEDUMPFILE = {
    "filtered": ("-c", "-d", "31"),
    "truncated": ("-c", "-d", "31"),
    "lzo": ("-l", "-d", "17"),
}


def filtered(vmcore: Path, suite: str, form: str) -> None:
    """Replace an ELF dump of a kernel with nokaslr by what makedumpfile leaves of it.

    It has to know the kernel's struct page, or it leaves out what it must keep: that of the Debian
    release `suite`.
    """
    _as_kdump_writes_it(vmcore)
    result = vmcore.with_name("filtered")
    command = [ROOTS / "run", suite, "makedumpfile", *MAKEDUMPFILE[form], vmcore, result]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode or not result.exists():
        raise LabError(f"makedumpfile failed: {(done.stdout + done.stderr)[-1000:]}")
    result.chmod(0o644)
    result.rename(vmcore)


def _as_kdump_writes_it(vmcore: Path) -> None:
    """Put an ELF dump's program headers right behind the ELF header, without section headers, and
    the kernel's addresses into them: QEMU does otherwise, and makedumpfile relies on both."""
    header = struct.Struct("<16sHHIQQQIHHHHHH")
    program = struct.Struct("<IIQQQQQQ")
    with open(vmcore, "r+b") as file:
        fields = list(header.unpack(file.read(header.size)))
        offset, count = fields[5], fields[10]
        file.seek(offset)
        entries = [list(program.unpack(file.read(program.size))) for _ in range(count)]
        if header.size + count * program.size > min(entry[2] for entry in entries):
            raise LabError("QEMU's ELF dump leaves no room for its program headers")
        fields[5:7] = header.size, 0  # e_phoff, e_shoff
        fields[8] = header.size  # e_ehsize
        fields[12:14] = 0, 0  # e_shnum, e_shstrndx
        file.seek(0)
        file.write(header.pack(*fields))
        for entry in entries:
            if entry[0] == 1:  # PT_LOAD
                entry[3] = PAGE_OFFSET + entry[4]
            file.write(program.pack(*entry))


def truncated(vmcore: Path, kept: float) -> None:
    """Keep only a part of a filtered dump, as when the disk was full: makedumpfile marks that."""
    with open(vmcore, "r+b") as file:
        file.truncate(int(vmcore.stat().st_size * kept))
        file.seek(STATUS)
        (status,) = struct.unpack("<I", file.read(4))
        file.seek(STATUS)
        file.write(struct.pack("<I", status | INCOMPLETE))
