"""Broken images, call frame information and debug information: an error or None, never worse."""

import random
import subprocess
import time

import pytest
from code_targets import build
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from faultkit.code import FormatError, cfi
from faultkit.code.elf import PT_LOAD, ElfFile
from faultkit.code.expression import evaluate
from faultkit.code.images import Image, Images
from faultkit.code.lines import lines_at
from faultkit.code.plt import got_target, plt_target
from faultkit.code.process import Code
from faultkit.code.symbols import _CACHE, addresses_of, symbol_at
from faultkit.target import FaultkitError, Mapping, ReadError

BASE = 0x5555_0000_0000
EXPECTED = (FormatError, ReadError)


@pytest.fixture(scope="module")
def executable(tmp_path_factory):
    return build(tmp_path_factory.mktemp("garbage"), "dbg")


def load(data, path):
    """(read, mappings) of an ELF file's bytes as if they were loaded at BASE."""
    parts = []
    for segment in ElfFile(data).segments:
        if segment.type == PT_LOAD and segment.size < 1 << 20:
            start = BASE + (segment.address & -4096)
            offset = segment.offset & -4096
            size = (segment.address & 4095) + segment.size + 4095 & -4096
            parts.append((start, data[offset : offset + size].ljust(size, b"\0"), offset))
    mappings = [Mapping(s, s + len(d), o, str(path), "r-xp", "0:1", 7) for s, d, o in parts]

    def read(address, size):
        for start, content, _ in parts:
            if start <= address and address + size <= start + len(content):
                return content[address - start : address - start + size]
        raise ReadError(address, size)

    return read, mappings


def use(read, mappings):
    """Ask everything of an image."""
    _CACHE.clear()
    code = Code(read, mappings)
    for image in code.images:
        _ = image.build_id, image.runtime, image.dynamic
        for address in range(image.start, min(image.end, image.start + 0x5000), 509):
            symbol_at(image, address)
            plt_target(code.images, address)
            got_target(code.images, address & ~7)
            code.lines(address)
            code.function(address)
            code.instructions(address)
            try:
                fde = cfi.find_fde(image, address)
                if fde is not None:
                    cfi.row_at(fde, address)
            except EXPECTED:
                pass
            code.unwind({"rip": address, "rsp": image.start + 64})
        addresses_of(image, "main")


def test_an_unbroken_image_answers(executable):
    data = executable.read_bytes()
    code = Code(*load(data, executable))
    main = next(a for image in code.images for a in addresses_of(image, "main"))
    assert code.symbol(main + 4).name == "main"
    assert code.lines(main + 4)[0].line
    assert code.function(main)[0] == main


@pytest.mark.parametrize("seed", range(25))
def test_mutated_images(executable, tmp_path, seed):
    generator = random.Random(seed)
    data = bytearray(executable.read_bytes())
    header = len(data) if seed % 2 else 0x400
    for _ in range(generator.choice((1, 5, 50, 500))):
        data[generator.randrange(6, header)] = generator.choice((0, 1, 0x7F, 0x80, 0xFF))
    if seed % 5 == 0:
        del data[generator.randrange(64, len(data)) :]
    path = tmp_path / "mutated"
    path.write_bytes(data)
    started = time.process_time()
    try:
        read, mappings = load(bytes(data), path)
    except FormatError:
        return
    use(read, mappings)
    assert time.process_time() - started < 20


@pytest.mark.parametrize("section", [".debug_info", ".debug_abbrev", ".debug_line", ".eh_frame"])
def test_mutated_sections(executable, tmp_path, section):
    whole = executable.read_bytes()
    place = ElfFile(whole).sections[section]
    for seed in range(8):
        generator = random.Random(seed)
        data = bytearray(whole)
        for _ in range(30):
            data[place.offset + generator.randrange(place.size)] = generator.randrange(256)
        path = tmp_path / f"mutated-{seed}"
        path.write_bytes(data)
        started = time.process_time()
        use(*load(bytes(data), path))
        assert time.process_time() - started < 20


@given(st.binary(max_size=300))
@settings(suppress_health_check=[HealthCheck.too_slow])
@example(b"\x7fELF\x02\x01" + bytes(58))
def test_random_images(data):
    def read(address, size):
        if not BASE <= address <= address + size <= BASE + len(data):
            raise ReadError(address, size)
        return data[address - BASE : address - BASE + size]

    mapping = Mapping(BASE, BASE + 4096, 0, "/nonexistent", "r-xp")
    try:
        ElfFile(data)
        Image(read, [mapping], None)
    except FaultkitError:
        pass
    use(read, [mapping])


@given(st.binary(max_size=200))
def test_random_frame_programs(program):
    cie = cfi.Cie(1, -8, 16, 0x1B, True, False, b"\x0c\x07\x08\x90\x01")
    try:
        row = cfi.row_at(cfi.Fde(BASE, BASE + 0x1000, cie, program), BASE + 0x80)
    except FormatError:
        return
    assert isinstance(row, cfi.Row)


@given(st.binary(max_size=60))
def test_random_expressions(code):
    def read(address, size):
        return bytes(size)

    try:
        assert 0 <= evaluate(code, {"rsp": 0x7000, "rip": 0x401000}, read, [1]) < 1 << 64
    except EXPECTED:
        pass


def test_an_expression_without_an_end():
    with pytest.raises(FormatError):
        evaluate(b"\x2f\xfd\xff", {}, lambda address, size: bytes(size), [1])


def test_images_of_nothing():
    def read(address, size):
        raise ReadError(address, size)

    images = Images(read, [Mapping(BASE, BASE + 4096, 0, "/dev/null", "r-xp")])
    assert list(images) == [] and images.at(BASE) is None
    images = Images(read, [Mapping(BASE, BASE + 4096, 0, "/nonexistent", "r-xp")])
    assert list(images) == [] and images.at(BASE) is None


def test_a_named_pipe_is_not_waited_for(tmp_path):
    path = tmp_path / "pipe"
    subprocess.run(["mkfifo", str(path)], check=True)

    def read(address, size):
        raise ReadError(address, size)

    assert list(Images(read, [Mapping(BASE, BASE + 4096, 0, str(path), "r-xp")])) == []


def test_lines_of_an_image_without_debug_information(executable, tmp_path):
    stripped = tmp_path / "stripped"
    subprocess.run(["strip", "-o", str(stripped), str(executable)], check=True)
    code = Code(*load(stripped.read_bytes(), stripped))
    image = next(iter(code.images))
    assert lines_at(image, image.start + 0x1200) == ()
