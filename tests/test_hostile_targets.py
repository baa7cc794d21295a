"""Targets that lie: damaged cores, and names that would steer a terminal."""

import json
import os
import random
import shutil
import struct
import subprocess
import unicodedata

import harness
import pytest
from harness import Unplayable
from scenarios import ALL
from terminal import SOURCE, batch, examine_cores

SCENES = {scenario.name: scenario for scenario in ALL}
NT_PRSTATUS = 1
REGISTERS = 112  # their offset in struct elf_prstatus
NAMES = ("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx",
         "rdx", "rsi", "rdi", "orig_rax", "rip", "cs", "eflags", "rsp", "ss")  # fmt: skip

# gdb takes file names as they are, since 16 with a shell's escapes
LOAD = """
import re
def load(command, path):
    try:
        gdb.execute(command + " " + path, to_string=True)
    except gdb.error:
        gdb.execute(command + " " + re.sub(r"(['\\\\\\s])", r"\\\\\\1", path), to_string=True)
"""


class Core:
    """A core that can be damaged: where its threads' registers are, and its memory."""

    def __init__(self, path, executable):
        self.data, self.executable = path.read_bytes(), executable
        self.registers, self.loads = [], []
        at, count = struct.unpack_from("<Q", self.data, 32)[0], struct.unpack_from(
            "<H", self.data, 56)[0]  # fmt: skip
        for header in range(at, at + 56 * count, 56):
            kind, flags, offset, address, _, size = struct.unpack_from("<2I4Q", self.data, header)
            if kind == 1 and size:
                self.loads.append((address, size, offset, flags))
            elif kind == 4:
                self._notes(offset, offset + size)

    def _notes(self, at, end):
        while at + 12 <= end:
            name, size, kind = struct.unpack_from("<3I", self.data, at)
            content = at + 12 + (name + 3 & ~3)
            if kind == NT_PRSTATUS:
                self.registers.append(content + REGISTERS)
            at = content + (size + 3 & ~3)

    def register(self, thread, name):
        """The offset in the file of a thread's register."""
        return self.registers[thread] + 8 * NAMES.index(name)

    def value(self, thread, name):
        return struct.unpack_from("<Q", self.data, self.register(thread, name))[0]

    def place(self, address):
        """The offset in the file of an address, None if its memory is not there."""
        for start, size, offset, _ in self.loads:
            if start <= address < start + size:
                return offset + address - start
        return None

    def futexes(self):
        """The places of the words that threads wait on."""
        words = {
            self.place(self.value(thread, "rdi"))
            for thread in range(len(self.registers))
            if self.value(thread, "orig_rax") == 202
        }
        return sorted(word for word in words if word is not None)

    def stacks(self):
        """(start, end) in the file of what is on each thread's stack, at most 4 KiB."""
        for thread in range(len(self.registers)):
            start = self.place(self.value(thread, "rsp"))
            if start is not None:
                yield start, min(start + 4096, len(self.data))


def take_core(scene, directory, variant="dbg"):
    with harness.running(SCENES[scene], variant) as stage:
        core = directory / "core"
        shutil.copy(harness.kernel_core(stage), core)
        return Core(core, stage.executable)


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    return take_core("mutex-normal", tmp_path_factory.mktemp("locked"))


@pytest.fixture(scope="module")
def idle(tmp_path_factory):
    return take_core("negative-condvar-pool", tmp_path_factory.mktemp("idle"))


ODD = (0, 1, 2, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 47, 1 << 63, (1 << 64) - 1, 202, 219)


def damage(core, where, chance):
    """The core with a few bytes changed: in "registers", "locks", "stacks", "links" or
    "anywhere"."""
    data = bytearray(core.data)
    for _ in range(chance.choice((1, 2, 4, 16))):
        if where == "registers":
            thread = chance.randrange(len(core.registers))
            at = core.register(thread, chance.choice(NAMES))
            other = core.value(chance.randrange(len(core.registers)), chance.choice(NAMES))
            value = chance.choice((*ODD, chance.getrandbits(64), other, other + 8))
            struct.pack_into("<Q", data, at, value & (1 << 64) - 1)
            continue
        if where == "locks":
            at = chance.choice(core.futexes()) + 4 * chance.randrange(-4, 10)
            tid = struct.unpack_from("<I", data, chance.choice(core.registers) - 112 + 32)[0]
            value = chance.choice((*ODD, chance.getrandbits(32), tid, tid | 1 << 31))
            struct.pack_into("<I", data, at, value & 0xFFFFFFFF)
            continue
        if where == "links":  # pointers on stacks that point to other stacks, or to themselves
            start, end = chance.choice(list(core.stacks()))
            at = chance.randrange(start, end - 8) & ~7
            thread = chance.randrange(len(core.registers))
            value = chance.choice((core.value(thread, "rsp"), core.value(thread, "rdi")))
            struct.pack_into("<Q", data, at, value + chance.randrange(0, 256, 8))
            continue
        if where == "stacks":
            at = chance.randrange(*chance.choice(list(core.stacks())))
        else:
            at = chance.randrange(len(data))
        data[at] ^= 1 << chance.randrange(8)
    return bytes(data)


def examine(core, where, count, directory, seed=1):
    """The reports on `count` damaged cores, in batches that do not fill the disk."""
    chance = random.Random(f"{where} {seed}")
    reports = []
    for start in range(0, count, 50):
        cores = []
        for number in range(start, min(start + 50, count)):
            cores.append(directory / f"core.{where}.{number}")
            cores[-1].write_bytes(damage(core, where, chance))
        for name, report, said, seconds in examine_cores(cores, core.executable, directory):
            assert seconds < 10, name
            assert said == "" or said.startswith("deadlock: "), said
            if report is not None:
                reports.append((name, report))
        for path in cores:
            path.unlink()
    assert len(reports) > count * 0.8
    return reports


many = pytest.mark.parametrize(
    "count", [10, pytest.param(300, marks=pytest.mark.full)], ids=["few", "many"]
)


@many
@pytest.mark.parametrize("where", ["registers", "locks", "stacks", "links", "anywhere"])
def test_damaged_core_of_a_deadlock(locked, tmp_path, where, count):
    """Never a traceback, never a hang; a cycle has only threads that exist, each once."""
    tids = {
        struct.unpack_from("<I", locked.data, at - REGISTERS + 32)[0] for at in locked.registers
    }
    for name, report in examine(locked, where, count, tmp_path):
        for finding in report["findings"]:
            members = [wait["task"]["tid"] for wait in finding["members"]]
            assert len(set(members)) == len(members), name
            if where in ("stacks", "links"):  # what the locks say is as it was
                assert finding["type"] == "cycle"
                assert set(members) < tids
        if where in ("stacks", "links"):
            assert report["verdict"] == "found", name


@many
@pytest.mark.parametrize("where", ["registers", "stacks", "links"])
def test_damaged_core_of_an_idle_process(idle, tmp_path, where, count):
    """No lock's words are touched, so nobody holds one, and no deadlock can be there."""
    for name, report in examine(idle, where, count, tmp_path):
        kinds = [finding["type"] for finding in report["findings"]]
        assert "cycle" not in kinds, (name, report["findings"])
        assert "self-deadlock" not in kinds, (name, report["findings"])


@many
def test_damaged_locks_of_an_idle_process(idle, tmp_path, count):
    """Whatever is written into condition variables and their mutex: nobody waits for an owner."""
    for name, report in examine(idle, "locks", count, tmp_path):
        for finding in report["findings"]:
            assert finding["type"] not in ("cycle", "self-deadlock"), (name, finding)


# --- names ------------------------------------------------------------------------------------

PROGRAM = """
#include "scene.h"
static pthread_mutex_t NAME_ONE = PTHREAD_MUTEX_INITIALIZER, NAME_TWO = PTHREAD_MUTEX_INITIALIZER;
static const char *const names[] = {
    "\\x1b[31mred", "line\\nline", "quo\\"te'", "\\x1b\\x1b\\x1b\\x1b\\x1b\\x1b\\x1b\\x1b\\x1b\\x1b"
    "\\x1b\\x1b\\x1b\\x1b\\x1b", "\\xff\\xfe\\x80", "\\xe2\\x80\\xae" "exe.gpj", "\\\\N\\\\",
    "&#27;[1m",
};
static pthread_barrier_t all;
__attribute__((noinline)) void function_name(pthread_mutex_t *one, pthread_mutex_t *two)
{
    pthread_mutex_lock(one);
    pthread_barrier_wait(&all);
#line 7 "evil\\x1b[2J\\n\\xe2\\x80\\xae.c"
    pthread_mutex_lock(two);
}
static void *body(void *number)
{
    prctl(PR_SET_NAME, names[(long) number], 0, 0, 0);
    if ((long) number % 2)
        function_name(&NAME_ONE, &NAME_TWO);
    else
        function_name(&NAME_TWO, &NAME_ONE);
    return NULL;
}
static void *victim(void *number)
{
    prctl(PR_SET_NAME, names[(long) number], 0, 0, 0);
    pthread_mutex_lock(&NAME_ONE);
    return NULL;
}
int main(void)
{
    pthread_t thread;
    pthread_barrier_init(&all, NULL, 2);
    for (long i = 0; i < 2; i++)
        pthread_create(&thread, NULL, body, (void *) i);
    sleep(1);
    for (long i = 2; i < 8; i++)
        pthread_create(&thread, NULL, victim, (void *) i);
    sleep(1);
    scene_say("ready\\n");
    for (;;)
        pause();
}
"""
EVIL = b'_Z\x1b]0;owned\x07\xe2\x80\xae\xff&#27;"x'


@pytest.fixture(scope="module", params=["escapes", "utf8"])
def evil(request, tmp_path_factory):
    """A deadlocked process all of whose names are hostile: (process, executable)."""
    if shutil.which("objcopy") is None:
        raise Unplayable("no objcopy here")
    directory = tmp_path_factory.mktemp("evil") / "dir\n\x1b[31m\u202e"
    directory.mkdir()
    source = directory / "evil.c"
    source.write_text(PROGRAM)
    program = directory / "prog\x1b[7m"
    include = ["-I", str(harness.TESTS / "programs")]
    subprocess.run(
        ["gcc", "-g", "-pthread", *include, "-o", program, source], check=True, capture_output=True
    )
    evil = EVIL if request.param == "escapes" else EVIL.replace(b"\xff", b"")
    renames = [
        word
        for number, name in enumerate((b"function_name", b"NAME_ONE", b"NAME_TWO"))
        for word in (b"--redefine-sym", name + b"=" + evil + b"%d" % number)
    ]
    strip = [b"--strip-debug"] if request.param == "escapes" else []
    subprocess.run([b"objcopy", *renames, *strip, os.fsencode(program)], check=True)
    process = subprocess.Popen([program], stdout=subprocess.PIPE, cwd=directory)
    try:
        assert b"ready" in process.stdout.readline()
        yield process.pid, program
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def assert_harmless(text, newlines=True):
    bad = {c for c in text if unicodedata.category(c)[0] in "CZ"} - {" "}
    assert bad <= ({"\n"} if newlines else set()), bad


def strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings(item)


def assert_reports_are_harmless(command, target, scratch, before=()):
    report, text, dot = (scratch / name for name in ("json", "text", "dot"))
    batch(
        *before,
        f"{command} --stacks all --json {report} --output {text} --dot {dot}",
        source=(*target, *SOURCE),
    )
    assert_harmless(text.read_text())
    assert_harmless(dot.read_text())
    assert_harmless(report.read_text())
    value = json.loads(report.read_text())
    for string in strings(value):
        assert_harmless(string, newlines=False)
    assert value["verdict"] == "found"
    assert [finding["type"] for finding in value["findings"]] == ["cycle"]
    return value, text.read_text()


def test_hostile_names_unattached(evil, tmp_path):
    value, _ = assert_reports_are_harmless(f"deadlock {evil[0]}", (), tmp_path)
    (cycle,) = value["findings"]
    names = {task["name"] for task in cycle["victims"]}
    assert "\\x1b" * 15 in names
    assert "\\u202eexe.gpj" in names
    assert len(names) == 6


@pytest.mark.parametrize("locale", ["C.UTF-8", "C"])
def test_hostile_names_attached(evil, tmp_path, monkeypatch, locale):
    before = ("set host-charset ASCII",) if locale == "C" else ()
    assert_reports_are_harmless("deadlock", ("-p", str(evil[0])), tmp_path, before)


@pytest.mark.parametrize("charset", ["UTF-8", "ASCII"])
def test_hostile_names_in_a_core(evil, tmp_path, charset):
    core, program = tmp_path / "core\x1b[31m\u202e's", tmp_path / "prog\x1b[7m"
    shutil.copy(evil[1], program)
    plain = tmp_path / "core"
    batch(f"generate-core-file {plain}", source=("-p", str(evil[0])))
    plain.rename(core)
    loader = tmp_path / "load.py"
    loader.write_text(LOAD + f"load('file', {str(program)!r})\nload('core-file', {str(core)!r})\n")
    load = (f"set host-charset {charset}", f"source {loader}")
    _, text = assert_reports_are_harmless("deadlock", (), tmp_path, load)
    assert text.startswith("faultkit 0.")
    assert "| core" in text.splitlines()[0]
