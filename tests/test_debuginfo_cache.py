"""What is kept of debug information: the same answers, from two processes, after damage."""

import os
import random
import subprocess
import sys

import pytest
from test_debuginfo_files import built, inside

from faultkit.debuginfo import lookup
from faultkit.debuginfo.lookup import Lookup


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FAULTKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def path():
    return built("gcc", 5, "program")


def places(path):
    return [place for _, _, place in inside(path)]


def kept(cache):
    (file,) = cache.glob("lines-*/*.sqlite")
    return file


class Untouchable:
    """Debug information that must not be asked."""

    def __getattr__(self, name):
        raise AssertionError(f"asked for {name}")


def test_what_is_kept_is_not_read_again(path, own_cache):
    wanted = places(path)
    first = Lookup(path)
    chains = first.chains(wanted)
    assert chains == Lookup(path, use_cache=False).chains(wanted)
    symbols = first.symbols_at(wanted), first.symbols_named(["same", "nothing"])
    assert Lookup(path).build_id in kept(own_cache).name
    again = Lookup(path)
    again._debug = again._symbols = Untouchable()
    assert again.chains(wanted) == chains
    assert (again.symbols_at(wanted), again.symbols_named(["same", "nothing"])) == symbols


def test_a_damaged_file_is_made_again(path, own_cache):
    wanted = places(path)
    chains = Lookup(path).chains(wanted)
    whole = kept(own_cache).read_bytes()
    chosen = random.Random(3)
    for number in range(30):
        data = bytearray(whole)
        if number == 0:
            data = bytearray(b"no database at all")
        elif number == 1:
            del data[len(data) // 2 :]
        else:
            for _ in range(40):
                data[chosen.randrange(100, len(data))] ^= 1 << chosen.randrange(8)
        kept(own_cache).write_bytes(data)
        assert Lookup(path).chains(wanted) == chains
        assert Lookup(path).chains(wanted) == chains


def test_a_changed_text_is_not_believed(path, own_cache):
    wanted = places(path)
    chains = Lookup(path).chains(wanted)
    file = kept(own_cache)
    data = file.read_bytes()
    assert b"inner" in data
    file.write_bytes(data.replace(b"inner", b"innen"))
    assert Lookup(path).chains(wanted) == chains


ASK = """
import sys
from faultkit.debuginfo.lookup import Lookup
places = [int(word) for word in sys.argv[2:]]
for _ in range(20):
    for place in places:
        Lookup(sys.argv[1]).chains([place])
print(len(set(Lookup(sys.argv[1]).chains(places).values())))
"""


def test_two_processes_at_once(path, own_cache):
    wanted = places(path)[:20]
    count = len(set(Lookup(path, use_cache=False).chains(wanted).values()))
    command = [sys.executable, "-c", ASK, path, *map(str, wanted)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    running = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for process in running:
        assert process.communicate(timeout=120)[0].strip() == str(count)
        assert process.returncode == 0


def test_a_directory_that_cannot_be_written_costs_only_time(path, own_cache):
    own_cache.write_text("a file where a directory should be")
    wanted = places(path)
    assert Lookup(path).chains(wanted) == Lookup(path, use_cache=False).chains(wanted)


def test_files_without_a_build_id_are_not_kept(path, own_cache, monkeypatch):
    monkeypatch.setattr(lookup, "build_id_of", lambda file: None)
    Lookup(path).chains(places(path))
    assert not list(own_cache.glob("**/*.sqlite"))


def test_what_is_not_understood_is_found_again(path, own_cache):
    wanted = places(path)[:20]
    first = Lookup(path)
    first.around = 64
    chains = first.chains(wanted)
    assert any(first.near.values())
    for kind in ("chain", "near64"):
        first._cache.put(kind, {f"{place:x}": "of another\x1fformat" for place in wanted})
        again = Lookup(path)
        again.around = 64
        assert again.chains(wanted) == chains
        assert again.near == first.near
