"""What cannot be examined gets one clear line with a remedy; never a traceback, never a "no"."""

import contextlib
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time

import harness
import pytest
from harness import CHECKOUT, COMMANDS, Unplayable, run_gdb
from scenarios import ALL
from terminal import SOURCE, TROUBLE, batch, examine_cores, quiet

SCENES = {scenario.name: scenario for scenario in ALL}
PT_LOAD, PT_NOTE = 1, 4


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(core of a deadlock of two mutexes, its executable)."""
    with harness.running(SCENES["mutex-normal"], "dbg") as stage:
        core = tmp_path_factory.mktemp("core") / "core"
        shutil.copy(harness.kernel_core(stage), core)
        return core, stage.executable


def refusal(command, *arguments):
    """The one line that answers a command which cannot be obeyed."""
    stdout, stderr = batch(command, source=(*arguments, *SOURCE))
    assert "VERDICT" not in stdout
    lines = quiet(stderr)
    assert len(lines) == 1, stderr
    assert lines[0].startswith("deadlock: ")
    return lines[0]


# --- words ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        ("abc", "argument PID: `abc` is no process id"),
        ("-5", "argument PID: `-5` is no process id"),
        ("0", "argument PID: `0` is no process id"),
        ("1 ²", "argument PID: `²` is no process id"),
        ("9" * 30, f"argument PID: `{'9' * 30}` is no process id"),
        ('""', "argument PID: `` is no process id"),
        ("999999999", "no process 999999999; it has ended, or its pid is in a container"),
        ("4194999 1", "no process 4194999"),
        ("--help", "unrecognized arguments: --help; see `help deadlock`"),
        ("--stacks", "argument --stacks: expected one argument"),
        ("--stacks some", "argument --stacks: invalid choice: 'some'"),
        ("--json", "argument --json: expected one argument"),
        ("'1\x1b[31m'", r"argument PID: `1\x1b[31m` is no process id"),
    ],
)
def test_words(arguments, answer):
    assert refusal(f"deadlock {arguments}").startswith(f"deadlock: {answer}")


def test_no_process():
    assert refusal("deadlock") == (
        "deadlock: no process and no core is loaded; attach with `gdb -p PID`, load a core, or "
        "name one: deadlock PID"
    )
    assert quiet(batch("kdecode")[1])[-1].endswith(
        "or name a place in a program's code: kdecode SYMBOL"
    )


def test_a_program_that_has_not_started(whole):
    assert "no process and no core is loaded" in refusal("deadlock", str(whole[1]))


# --- processes --------------------------------------------------------------------------------


def test_a_process_that_has_ended():
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert refusal(f"deadlock {ended.pid}").startswith(f"deadlock: no process {ended.pid}; ")


def test_a_zombie():
    zombie = subprocess.Popen(["true"])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    try:
        assert refusal(f"deadlock {zombie.pid}") == (
            f"deadlock: process {zombie.pid} (true) has ended and is a zombie; its parent, "
            f"process {os.getpid()}, has yet to collect it: look at that one"
        )
    finally:
        zombie.wait()


def test_a_kernel_thread():
    if not os.path.exists("/proc/2") or harness._proc("2/maps"):
        raise Unplayable("no kernel threads are to be seen here")
    assert refusal("deadlock 2") == (
        "deadlock: 2 is a kernel thread, and no program; name a process, or read /proc/2/stack"
    )


PROGRAM_32 = """
static int word;
void _start(void)
{
    for (;;) /* futex(&word, FUTEX_WAIT, 0, 0) */
        __asm__ volatile("int $0x80" : : "a"(240), "b"(&word), "c"(0), "d"(0), "S"(0) : "memory");
}
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A 32-bit program that waits."""
    directory = tmp_path_factory.mktemp("small")
    (directory / "small.c").write_text(PROGRAM_32)
    command = ["gcc", "-m32", "-nostdlib", "-static", "-o", "small", "small.c"]
    if subprocess.run(command, cwd=directory, capture_output=True, check=False).returncode:
        raise Unplayable("no 32-bit programs are built here")
    try:
        process = subprocess.Popen([directory / "small"], cwd=directory)
    except OSError as error:
        raise Unplayable("no 32-bit programs run here") from error
    yield process.pid
    process.kill()
    process.wait()


def test_a_32_bit_process(small):
    assert refusal(f"deadlock {small}") == (
        f"deadlock: process {small} is a 32-bit program, which is unsupported; faultkit reads "
        "64-bit x86 processes and cores"
    )
    assert refusal("deadlock", "-p", str(small)) == (
        "deadlock: the inferior's architecture is i386, which is unsupported; faultkit reads "
        "64-bit x86 processes and cores"
    )


def test_no_permission():
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        raise Unplayable("only root can become nobody")
    become = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    if subprocess.run([*become, "test", "-r", COMMANDS], check=False).returncode:
        raise Unplayable("nobody cannot read the checkout")
    with harness.running(SCENES["mutex-normal"], "dbg") as stage:
        done = subprocess.run(
            [*become, harness.gdb_program(), "-nx", "-batch", *SOURCE,
             "-ex", f"deadlock {stage.pid}"],
            env={**os.environ, "HOME": "/", "PYTHONDONTWRITEBYTECODE": "1"},
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
        assert done.stderr == (
            f"deadlock: no permission to read process {stage.pid}; run as root or as the "
            "process's user (and see kernel.yama.ptrace_scope), or attach gdb with sudo\n"
        )
        assert done.stdout == ""
        harness.assert_unharmed(stage, seconds=0)


def test_no_permission_for_root():
    """As in a container, whose root is told nothing by "run as root"."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        raise Unplayable("only root can become nobody")
    other = subprocess.Popen(["setpriv", "--reuid=65534", "--clear-groups", "sleep", "60"])
    try:
        time.sleep(0.5)
        done = subprocess.run(
            ["setpriv", "--bounding-set=-sys_ptrace", sys.executable, "-m", "faultkit", "deadlock",
             str(other.pid)],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
    finally:
        other.kill()
        other.wait()
    assert done.stderr == (
        f"faultkit: no permission to read process {other.pid}; root may not, as it is confined "
        "here: run it outside of the container\n"
    )


KILLED_HALF_WAY = """
import gdb, os, random, signal, subprocess, time
chance = random.Random({seed})
for turn in range({rounds}):
    victim = subprocess.Popen([{program!r}, "victims", "40"], stdout=subprocess.PIPE)
    while b"ready" not in victim.stdout.readline():
        pass
    time.sleep(0.02)
    if {attached}:
        gdb.execute("attach %d" % victim.pid, to_string=True)
    if turn % 5 == 0:  # however quick the answer: these are dying when it begins
        victim.kill()
    else:
        subprocess.Popen(["sh", "-c", "sleep %.4f; kill -9 %d" % (
            chance.uniform(0, {spread}), victim.pid)])
    command = "deadlock --stacks all" + ("" if {attached} else " %d" % victim.pid)
    try:
        text = gdb.execute(command, to_string=True)
        said = [line for line in text.splitlines() if line.startswith("VERDICT")][0]
    except gdb.error as error:
        said = str(error)
    print("ANSWER", said)
    victim.kill()
    if {attached}:
        try:
            gdb.execute("kill", to_string=True)
        except gdb.error:
            pass
"""


@pytest.mark.parametrize("attached", [False, True], ids=["unattached", "attached"])
@pytest.mark.parametrize("rounds", [25, pytest.param(200, marks=pytest.mark.full)])
def test_killed_half_way(tmp_path, attached, rounds):
    """Killed at random moments: an answer that is true of what was there, or one line."""
    script = tmp_path / "rounds.py"
    script.write_text(KILLED_HALF_WAY.format(
        seed=4, rounds=rounds, program=str(harness.build("mutex.c", "dbg")), attached=attached,
        spread=0.15,
    ))  # fmt: skip
    stdout, stderr = batch(f"source {script}", seconds=20 + rounds)
    assert not TROUBLE.search(stderr)
    answers = [line[7:] for line in stdout.splitlines() if line.startswith("ANSWER ")]
    assert len(answers) == rounds
    for answer in answers:
        assert answer.startswith(("VERDICT: ", "deadlock: ")), answer
        assert "NOT FOUND" not in answer
    assert len(set(answers)) > 1, "nobody was killed half-way"


# --- cores ------------------------------------------------------------------------------------


def test_truncated_cores(tmp_path, whole):
    """Whatever is left of the core, no deadlock is denied, and only the true one is found."""
    core, executable = whole
    data = core.read_bytes()
    cuts = [int(len(data) * share / 24) for share in range(25)] + [1, 63, 64, 100, 1000, 4096]
    cores = []
    for cut in sorted(set(cuts)):
        cores.append(tmp_path / f"core.{cut}")
        cores[-1].write_bytes(data[:cut])
    verdicts = {}
    for name, report, said, seconds in examine_cores(cores, executable, tmp_path):
        cut = int(name.rpartition(".")[2])
        assert seconds < 10
        if report is None:
            assert re.fullmatch(r"deadlock: [^\n]+; [^\n]+", said), said
            continue
        verdicts[cut] = report["verdict"]
        if cut < len(data):
            assert any("the core is truncated" in limit for limit in report["limits"])
        assert report["verdict"] != "not-found"
        for finding in report["findings"]:
            assert finding["type"] == "cycle", (cut, finding)
            assert len(finding["members"]) == 2
    assert verdicts.pop(len(data)) == "found"
    assert verdicts


def test_a_core_without_its_executable(tmp_path, whole):
    core, executable = whole
    moved = tmp_path / "core"
    moved.write_bytes(core.read_bytes().replace(bytes(executable.parent), b"/" * len(
        bytes(executable.parent))))  # fmt: skip
    ((_, report, _, _),) = examine_cores([moved], None, tmp_path)
    assert report["verdict"] == "found"
    assert [finding["type"] for finding in report["findings"]] == ["cycle"]
    assert any("executable is not loaded" in limit for limit in report["limits"])


def segments(data):
    """(offset of the header, type, offset, size) of each segment of a 64-bit ELF file."""
    at, count = struct.unpack_from("<Q", data, 32)[0], struct.unpack_from("<H", data, 56)[0]
    for header in range(at, at + 56 * count, 56):
        kind, _, offset = struct.unpack_from("<2IQ", data, header)
        yield header, kind, offset, struct.unpack_from("<Q", data, header + 32)[0]


def test_a_core_without_threads(tmp_path, whole):
    core, executable = whole
    data = bytearray(core.read_bytes())
    for header, kind, _, _ in segments(data):
        if kind == PT_NOTE:
            struct.pack_into("<I", data, header, 0)
    bare = tmp_path / "core"
    bare.write_bytes(data)
    ((_, report, said, _),) = examine_cores([bare], executable, tmp_path)
    if report is not None:
        assert report["verdict"] == "inconclusive"
        assert report["limits"]
    else:
        assert re.fullmatch(r"deadlock: [^\n]*no thread is recorded in this core; [^\n]+", said)


@pytest.mark.parametrize("content", [b"", b"plain text\n" * 99, b"\x7fELF", b"\x7fELF" * 500])
def test_what_is_no_core(tmp_path, content):
    path = tmp_path / "core"
    path.write_bytes(content)
    _, stderr = run_gdb([*SOURCE, "-ex", f"core-file {path}", "-ex", "deadlock"])
    assert not TROUBLE.search(stderr)
    assert quiet(stderr)[-1].startswith("deadlock: no process and no core is loaded")


def core_of(machine, bits, registers):
    """A core of one thread: an ELF header and a note of `registers` bytes (struct elf_prstatus)."""
    status = struct.pack("<3iH", 11, 0, 0, 11).ljust(registers, b"\0")
    note = struct.pack("<3I", 5, len(status), 1) + b"CORE\0\0\0\0" + status
    if bits == 32:
        head = struct.pack("<16sHHIIIIIHHHHHH", b"\x7fELF\1\1\1", 4, machine, 1, 0, 52, 0, 0, 52,
                           32, 1, 0, 0, 0)  # fmt: skip
        return head + struct.pack("<8I", PT_NOTE, 84, 0, 0, len(note), 0, 0, 4) + note
    head = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 4, machine, 1, 0, 64, 0, 0, 64, 56,
                       1, 0, 0, 0)  # fmt: skip
    return head + struct.pack("<2I6Q", PT_NOTE, 0, 120, 0, 0, len(note), 0, 4) + note


@pytest.mark.parametrize(
    ("machine", "bits", "registers"),
    [(3, 32, 144), (62, 32, 296), (183, 64, 392), (243, 64, 376), (62, 64, 336)],
    ids=["i386", "x32", "aarch64", "riscv64", "x86_64"],
)
def test_cores_of_other_machines(tmp_path, machine, bits, registers):
    """An unsupported core is said to be, or gdb does not take it at all; a core of one thread
    that shows nothing denies no deadlock."""
    core = tmp_path / "core"
    core.write_bytes(core_of(machine, bits, registers))
    ((_, report, said, _),) = examine_cores([core], None, tmp_path)
    if report is not None:
        assert (machine, bits) == (62, 64)
        assert report["verdict"] == "inconclusive"
    elif "no process and no core is loaded" not in said:
        assert "which is unsupported; faultkit reads 64-bit x86 processes and cores" in said


def test_the_checkout_has_no_cores():
    assert not list(CHECKOUT.glob("core*"))


@contextlib.contextmanager
def leaderless(tmp_path, source):
    """The id of a process of that program, whose main thread has ended."""
    (tmp_path / "leader.c").write_text(source)
    include = ["-I", str(harness.TESTS / "programs")]
    subprocess.run(["gcc", *include, "-pthread", "-o", "leader", "leader.c"], cwd=tmp_path,
                   check=True)  # fmt: skip
    process = subprocess.Popen([tmp_path / "leader"], cwd=tmp_path, start_new_session=True)
    try:
        time.sleep(1.5)
        yield process.pid
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_leader_that_has_ended(tmp_path):
    """main has called pthread_exit: /proc/PID shows no memory then, its threads do."""
    source = (
        '#include "scene.h"\n'
        "static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER, two = PTHREAD_MUTEX_INITIALIZER;\n"
        "static void *first(void *p) { pthread_mutex_lock(&one); sleep(1);"
        " pthread_mutex_lock(&two); return p; }\n"
        "static void *second(void *p) { pthread_mutex_lock(&two); sleep(1);"
        " pthread_mutex_lock(&one); return p; }\n"
        "int main(void) { pthread_t t; pthread_create(&t, 0, first, 0);"
        " pthread_create(&t, 0, second, 0); pthread_exit(0); }\n"
    )
    with leaderless(tmp_path, source) as pid:
        report, _, _ = harness.unattached_deadlock(pid)
    assert report["verdict"] == "found"
    assert [finding["type"] for finding in report["findings"]] == ["cycle"]
    assert report["limits"] == []


@pytest.mark.parametrize("also", [False, True], ids=["deadlock", "a-third-could-write"])
def test_descriptors_of_a_process_whose_leader_has_ended(tmp_path, also):
    """Two processes each read a pipe that the other would write; a third may have an end, too."""
    source = (
        '#include "scene.h"\n'
        "static int one[2], two[2]; static char byte;\n"
        "static void *first(void *p) { close(one[1]); close(two[0]);"
        " if (read(one[0], &byte, 1) == 1) (void)!write(two[1], &byte, 1); return p; }\n"
        "static void *second(void *p) { close(two[1]); close(one[0]);"
        " if (read(two[0], &byte, 1) == 1) (void)!write(one[1], &byte, 1); return p; }\n"
        "static void *third(void *p) { close(one[0]); close(two[0]);"
        " close(two[1]); sleep(1000); (void)!write(one[1], &byte, 1); return p; }\n"
        "static void play(void *(*run)(void *)) { pthread_t t; pthread_create(&t, 0, run, 0);"
        " pthread_exit(0); }\n"
        "int main(void) { if (pipe(one) || pipe(two)) return 1; if (!fork()) play(second);"
        f" if ({int(also)} && !fork()) play(third);"
        " play(first); }\n"
    )
    with leaderless(tmp_path, source) as pid:
        report, _, _ = harness.unattached_deadlock(pid)
    assert [finding["type"] for finding in report["findings"]] == ([] if also else ["cycle"])
