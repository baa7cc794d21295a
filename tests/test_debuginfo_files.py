"""Debug information as compilers and linkers leave it in small files, and damaged ones."""

import ctypes
import functools
import gzip
import lzma
import os
import random
import shutil
import struct
import subprocess
import zlib

import pytest
from harness import Unplayable
from lines_oracle import eu_addr2line, functions, lines, llvm_symbolizer

from faultkit.code import FormatError
from faultkit.debuginfo import inflate
from faultkit.debuginfo.debugfile import open_debug_file
from faultkit.debuginfo.find import Places, find_module
from faultkit.debuginfo.lookup import Lookup
from faultkit.debuginfo.sections import PLACE
from faultkit.target import FaultkitError

ONE = """
#include <stdlib.h>
extern volatile int sink;
static __attribute__((noinline)) int same(int x) { sink = x; return sink + 1; }
static inline __attribute__((always_inline)) int inner(int x)
{
    sink = x;
    return same(x) * 3;
}
static inline __attribute__((always_inline)) int outer(int x)
{
    return inner(x + 1)
        + inner(x * 2);
}
__attribute__((cold, noinline)) int rare(int x) { return same(x) + same(x + 1); }
int two(int x);
__attribute__((section(".init.text"), noinline)) int early(int x) { return outer(x) + 1; }
int run(int x)
{
    if (__builtin_expect(x == 77, 0)) {
        sink = rare(x);
        abort();
    }
    for (int i = 0; i < x; i++)
        sink += outer(i);
    return two(x);
}
int main(int argc, char **argv) { (void) argv; return run(argc) + early(argc); }
"""
TWO = """
volatile int sink;
static __attribute__((noinline)) int same(int x) { sink += x; sink += 2; sink *= x; return sink; }
int two(int x) { return same(x) + same(sink); }
"""
COMPILERS = ("gcc", "clang")
FORMS = ("program", "relocatable")
FUNCTIONS = ("run", "main", "early", "two", "same", "rare", "run.cold")


@functools.cache
def directory():
    """Where the files of this run are made."""
    import tempfile

    return tempfile.mkdtemp(prefix="faultkit-debuginfo-")


@functools.cache
def built(compiler, version, form):
    """The path of the program, or of one relocatable file as a module is."""
    if shutil.which(compiler) is None:
        raise Unplayable(f"{compiler} is not here")
    name = os.path.join(directory(), f"{compiler}-{version}-{form}")
    prefix = f"-ffile-prefix-map={name}=/somewhere/file"
    options = [f"-gdwarf-{version}", "-O2", "-fno-pie", prefix]
    objects = []
    for number, text in enumerate((ONE, TWO)):
        source = f"{name}-{number}.c"
        with open(source, "w", encoding="utf-8") as file:
            file.write(text)
        objects.append(f"{name}-{number}.o")
        run(compiler, *options, "-c", source, "-o", objects[-1])
    how = ["-r", "-nostdlib"] if form == "relocatable" else ["-no-pie"]
    run(compiler, *how, *objects, "-o", name)
    return name


def run(*command):
    subprocess.run(command, check=True)


def inside(path):
    """(section, address in it, address for DebugFile) all over the functions written here."""
    file = open_debug_file(path)
    names = {section.number: name for name, section in file.file.sections.items()}
    found = []
    for name, section, address, size in functions(path):
        if name in FUNCTIONS:
            for at in range(address, address + size):
                place = section << PLACE | at if file.sections.relocatable else at
                found.append((names[section], at, place))
    assert len(found) > 150
    return found


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("compiler", COMPILERS)
def test_chains_of_a_program(compiler, version):
    path = built(compiler, version, "program")
    places = [place for _, _, place in inside(path)]
    found = open_debug_file(path).chains(places)
    # eu-addr2line finds nothing without .debug_aranges, which clang does not write.
    told = (eu_addr2line if compiler == "gcc" else llvm_symbolizer)(path, places)
    for place, chain in zip(places, told):
        assert lines(found[place]) == chain, hex(place)
    chains = [[each.function for each in chain] for chain in found.values()]
    assert ["inner", "outer", "run"] in chains
    assert ["inner", "outer", "early"] in chains


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("compiler", COMPILERS)
def test_chains_of_a_relocatable_file_are_the_programs(compiler, version):
    program, relocatable = (by_function(built(compiler, version, form)) for form in FORMS)
    assert len(relocatable) >= 6
    assert relocatable == {function: program[function] for function in relocatable}


def by_function(path):
    """The chains all over each function, by its name and size."""
    file = open_debug_file(path)
    found = {}
    for name, section, address, size in functions(path):
        if name in FUNCTIONS:
            place = section << PLACE | address if file.sections.relocatable else address
            found[name, size] = list(file.chains(range(place, place + size)).values())
    return found


def compressed(path, kind, compress):
    """The file with its debug sections compressed: new ones at the end."""
    made = f"{path}-{kind}"
    with open(path, "rb") as file:
        data = bytearray(file.read())
    sections = open_debug_file(path).file.sections
    table = struct.unpack_from("<Q", data, 40)[0]
    for name, section in sections.items():
        if name.startswith(".debug_"):
            plain = bytes(data[section.offset : section.offset + section.size])
            packed = struct.pack("<IIQQ", kind, 0, len(plain), 1) + compress(plain)
            header = table + 64 * section.number
            flags = struct.unpack_from("<Q", data, header + 8)[0] | 0x800
            struct.pack_into("<Q", data, header + 8, flags)
            struct.pack_into("<QQ", data, header + 24, len(data), len(packed))
            data += packed
    with open(made, "wb") as file:
        file.write(data)
    return made


def zstd(data):
    try:
        library = ctypes.CDLL("libzstd.so.1")
    except OSError:
        raise Unplayable("libzstd is not here") from None
    library.ZSTD_compressBound.restype = library.ZSTD_compress.restype = ctypes.c_size_t
    size = library.ZSTD_compressBound(ctypes.c_size_t(len(data)))
    room = ctypes.create_string_buffer(size)
    args = (ctypes.c_size_t(size), data, ctypes.c_size_t(len(data)), 3)
    written = library.ZSTD_compress(room, *args)
    return room.raw[:written]


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind, compress", [(1, zlib.compress), (2, zstd)], ids=["zlib", "zstd"])
def test_compressed_sections(kind, compress, form, in_memory, monkeypatch):
    if not in_memory:
        monkeypatch.setattr(inflate, "IN_MEMORY", 100)
    path = built("gcc", 5, form)
    places = [place for _, _, place in inside(path)]
    packed = compressed(path, kind, compress)
    assert open_debug_file(packed).chains(places) == open_debug_file(path).chains(places)


def test_relocations_in_no_order():
    path = built("gcc", 5, "relocatable")
    places = [place for _, _, place in inside(path)]
    with open(path, "rb") as file:
        data = bytearray(file.read())
    for name, section in open_debug_file(path).file.sections.items():
        if name.startswith(".rela.debug_"):
            end = section.offset + section.size
            entries = [data[at : at + 24] for at in range(section.offset, end, 24)]
            random.Random(1).shuffle(entries)
            data[section.offset : end] = b"".join(entries)
    with open(f"{path}-shuffled", "wb") as file:
        file.write(data)
    found = open_debug_file(f"{path}-shuffled").chains(places)
    assert found == open_debug_file(path).chains(places)


def test_a_compression_that_is_not_known_is_named():
    path = compressed(built("gcc", 5, "program"), 9, zlib.compress)
    with pytest.raises(FormatError, match="compressed in a way that is not known"):
        open_debug_file(path).chain(0x401136)


def test_zstd_without_libzstd_says_what_to_do(monkeypatch):
    path = compressed(built("gcc", 5, "program"), 2, zstd)
    real = ctypes.CDLL

    def missing(name, *rest, **more):
        if "zstd" in str(name):
            raise OSError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(FormatError, match="install libzstd"):
        open_debug_file(path).chain(0x401136)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("compiler, version", [("gcc", 5), ("gcc", 4), ("clang", 5)])
def test_damage_gives_no_answer_but_never_an_error(compiler, version, form):
    path = built(compiler, version, form)
    places = [place for _, _, place in inside(path)][::7]
    with open(path, "rb") as file:
        whole = file.read()
    sections = [
        section for name, section in open_debug_file(path).file.sections.items()
        if name.startswith((".debug_", ".rela.debug_", ".symtab"))
    ]  # fmt: skip
    chosen = random.Random(5)
    damaged = f"{path}-damaged"
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(chosen.choice((1, 3, 20))):
            section = chosen.choice(sections)
            if section.size:
                at = section.offset + chosen.randrange(section.size)
                data[at] = chosen.choice((0, 1, 0x7F, 0x80, 0xFF, chosen.randrange(256)))
        with open(damaged, "wb") as file:
            file.write(data)
        found = Lookup(damaged, use_cache=False)
        try:
            chains = found.chains(places)
            found.symbols_at(places)
            found.symbols_named(["run", "same"])
        except FaultkitError:
            continue
        assert set(chains) == set(places)


def test_a_file_cut_short_gives_no_answer_but_never_an_error():
    path = built("gcc", 5, "program")
    with open(path, "rb") as file:
        whole = file.read()
    cut = f"{path}-cut"
    for size in range(0, len(whole), len(whole) // 40):
        with open(cut, "wb") as file:
            file.write(whole[:size])
        try:
            found = Lookup(cut, use_cache=False)
            found.chains([0x401136, 0x401150])
            found.symbols_named(["run"])
        except FaultkitError:
            pass


@pytest.mark.parametrize("ending", [".xz", ".gz", ".zst"])
def test_modules_are_packed_as_a_whole(ending, tmp_path):
    path = built("gcc", 5, "relocatable")
    with open(path, "rb") as file:
        data = file.read()
    packed = {".xz": lzma.compress, ".gz": gzip.compress, ".zst": zstd}[ending](data)
    folder = tmp_path / "kernel" / "fs"
    folder.mkdir(parents=True)
    module = folder / f"some-module.ko{ending}"
    module.write_bytes(packed)
    found = find_module(Places(directories=(str(tmp_path),)), "some_module", None)
    assert found == str(module)
    places = [place for _, _, place in inside(path)]
    assert Lookup(found, use_cache=False).chains(places) == open_debug_file(path).chains(places)
    module.write_bytes(packed[: len(packed) // 2] + b"garbage")
    with pytest.raises(FaultkitError, match="can't be read"):
        Lookup(str(module), use_cache=False)


@pytest.mark.parametrize("version", [4, 5])
def test_split_debug_information_is_said_not_to_be_read(version, tmp_path):
    (tmp_path / "one.c").write_text("int main(void) { return 0; }\n")
    program = tmp_path / "program"
    options = [f"-gdwarf-{version}", "-gsplit-dwarf", "-no-pie"]
    # gcc 12 leaves the .dwo of a program that it compiles and links in one step where it is run
    run("gcc", *options, "-c", str(tmp_path / "one.c"), "-o", str(tmp_path / "one.o"))
    run("gcc", "-no-pie", str(tmp_path / "one.o"), "-o", str(program))
    (main,) = [at for name, _, at, _ in functions(program) if name == "main"]
    with pytest.raises(FormatError, match=r"split into \.dwo files"):
        open_debug_file(str(program)).chain(main)
