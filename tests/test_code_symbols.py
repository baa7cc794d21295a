"""Images, symbols, PLT targets and source lines against nm, gdb's and addr2line's answers."""

import os
import shutil
import subprocess
import time

import pytest
from code_targets import VARIANTS, build, running

from faultkit.code.images import Images
from faultkit.code.plt import got_target, plt_target, slot_of
from faultkit.code.symbols import _CACHE, addresses_of, demangle, symbol_at
from faultkit.code.x86 import instructions
from faultkit.procfs.process import ProcProcess


@pytest.fixture(scope="module", params=[v for v in VARIANTS if v != "musl"])
def target(request, tmp_path_factory):
    with running(build(tmp_path_factory.mktemp("symbols"), request.param)) as target:
        target.variant = request.param
        yield target


def executable_image(target):
    return next(i for i in target.code.images if i.path == str(target.executable))


def nm(path, *options):
    """(address, size or None, type, name) of each defined symbol."""
    done = subprocess.run(
        ["nm", "-S", "--defined-only", *options, str(path)], capture_output=True, text=True
    )
    for line in done.stdout.splitlines():
        *numbers, kind, name = line.split()
        size = int(numbers[1], 16) if len(numbers) == 2 else None
        yield int(numbers[0], 16), size, kind, name.split("@")[0]


def test_symbols_are_nms(target):
    image = executable_image(target)
    stripped = "stripped" in target.variant
    table = [s for s in nm(target.executable, *(["-D"] if stripped else [])) if s[1]]
    by_address = {}
    for address, _, _, name in table:
        by_address.setdefault(address, set()).add(name)
    for address, size, kind, name in table[:3000]:
        if kind in "tTwWiVvdDbBrR" and image.contains(address + image.bias):  # not thread-local
            for offset in {0, size // 2, size - 1}:
                found = symbol_at(image, address + offset + image.bias)
                assert found is not None, name
                start = address + offset - found.offset
                # What covers it: the symbol, or one that starts later inside it.
                assert found.name in by_address[start] and address <= start
            assert address + image.bias in addresses_of(image, name)
    assert stripped or len(table) > 10


def test_libc_symbols_are_nms_and_quick(target):
    image = next((i for i in target.code.images if i.name == "libc.so.6"), None)
    if image is None:
        pytest.skip("static")
    _CACHE.clear()
    fresh = Images(target.process.read, target.process.mappings(), target.pid).at(image.start)
    started = time.process_time()
    assert fresh is not None
    symbol_at(fresh, fresh.start + 0x40000)
    elapsed = time.process_time() - started
    assert elapsed < 0.1, elapsed  # with the separate debug file's table, if installed
    aliases = {}
    for address, size, kind, name in nm(image.path, "-D"):
        if kind in "TWi" and size:
            aliases.setdefault(address, set()).add(name)
    for address, names in aliases.items():
        found = symbol_at(image, address + image.bias)
        assert found is not None and not found.offset
        if any(name.startswith("pthread_") for name in names):
            assert found.name in names and found.name.startswith("pthread_")
            assert address + image.bias in addresses_of(image, found.name)


def test_unknown_addresses_have_no_symbol(target):
    image = executable_image(target)
    assert target.code.images.at(0) is None
    assert target.code.symbol(0xFFFF_FFFF_FFFF_F000) is None
    assert symbol_at(image, image.end) is None
    assert addresses_of(image, "no_such_name") == []


def test_calls_of_other_images_have_names(target):
    """Every call through the PLT or GOT in the executable: all of what it imports is there."""
    if "static" in target.variant:
        pytest.skip("nothing is imported")
    image, images, read = executable_image(target), target.code.images, target.process.read
    names = set()
    for _, steps in target.stacks():
        for step in steps:
            if not image.contains(step.code_address):
                continue
            for found in target.code.instructions(step.code_address):
                if found.kind == "call":
                    slot = slot_of(found.source)
                    reached = (
                        plt_target(images, found.target)
                        if found.target is not None
                        else got_target(images, slot)
                        if slot
                        else None
                    )
                    if reached is not None:
                        names.add(reached.name)
                        if reached.address:
                            symbol = target.code.symbol(reached.address)
                            assert symbol is not None and symbol.offset == 0
    assert {"pthread_mutex_lock", "sem_wait", "qsort", "read", "nanosleep"} <= names, names
    assert list(instructions(read, image.start, image.start)) == []


def test_lines_are_addr2lines(target):
    if "-g" not in " ".join(VARIANTS[target.variant]):
        pytest.skip("no debug information")
    if shutil.which("addr2line") is None:
        pytest.skip("no addr2line")
    image = executable_image(target)
    checked = 0
    for function in ("main", "deeper", "lock_pair", "compare", "in_aligned", "handler"):
        for start in addresses_of(image, function)[:1]:
            code = target.code.instructions(start)
            addresses = [i.address for i in code][:60]
            done = subprocess.run(
                ["addr2line", "-i", "-f", "-e", str(target.executable)],
                input="\n".join(hex(a - image.bias) for a in addresses),
                capture_output=True,
                text=True,
                check=True,
            )
            words = iter(done.stdout.splitlines())
            for address in addresses:
                chain = target.code.lines(address)
                assert chain, hex(address)
                for level in chain:
                    name, place = next(words), next(words)
                    path, _, line = place.split(" ")[0].rpartition(":")
                    assert name == level.function
                    assert os.path.normpath(path) == os.path.normpath(level.file or "")
                    assert line == str(level.line or "?")
                    checked += 1
    assert checked > 100


def test_deleted_and_replaced_files(target, tmp_path):
    """The file that was loaded is found by what is in memory, not by its name."""
    if target.variant != "dbg":
        pytest.skip("one variant is enough")
    copy = tmp_path / "copy"
    shutil.copy(target.executable, copy)
    with running(copy) as running_copy:
        other = build(tmp_path, "opt")
        copy.unlink()
        shutil.copy(other, copy)
        process = ProcProcess(running_copy.pid)
        images = Images(process.read, process.mappings(), process.pid)
        image = next(i for i in images if i.path == str(copy))
        assert image.deleted
        assert image.file is None or image.file.build_id == image.build_id
        without = Images(process.read, process.mappings(), None)
        image = next(i for i in without if i.path == str(copy))
        assert image.file is None, "the replaced file is not the one in memory"


def test_runtime_of_go_and_c(target, tmp_path):
    assert executable_image(target).runtime is None
    if target.variant != "dbg" or shutil.which("go") is None:
        return
    source = tmp_path / "sleep.go"
    source.write_text(
        'package main\nimport ("fmt"; "time")\n'
        'func main() { fmt.Println("ready"); time.Sleep(time.Hour) }\n'
    )
    executable = tmp_path / "sleeper"
    environment = {**os.environ, "GOCACHE": str(tmp_path / "cache"), "GOFLAGS": "-mod=mod"}
    subprocess.run(["go", "build", "-o", str(executable), str(source)], check=True, env=environment)
    process = subprocess.Popen([str(executable)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "ready\n"
        go = ProcProcess(process.pid)
        images = Images(go.read, go.mappings(), process.pid)
        assert "go" in {image.runtime for image in images}
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_demangle():
    names = ["_ZNSt5mutex4lockEv", "main", "_ZN"]
    plain = demangle(names)
    assert len(plain) == 3 and plain[1] == "main"
    if shutil.which("c++filt"):
        assert plain[0] == "std::mutex::lock()"
