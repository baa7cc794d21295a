"""`sigsrc` on cores: real programs that end by a signal, in each way that one machine can play."""

import contextlib
import os
import pty
import re
import resource
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import pytest
from building import build
from harness import run_gdb
from sigsrc_stage import core_of, die, end, sigsrc, start

OTHERS = ("opt", "stripped", "static", "static-stripped")


@dataclass
class Expect:
    """What the report must say.  `named` holds where there are symbols, `lines` where there is
    debug information."""

    signal: str
    code: str
    origin: str
    cause: str
    says: str = ""
    lines: str = ""
    address: Optional[str] = None


def fault(cause: str, says: str = "", lines: str = "", code: str = "SEGV_MAPERR", **more) -> Expect:
    return Expect(more.pop("name", "SIGSEGV"), code, "fault", cause, says, lines, **more)


def aborted(cause: str, says: str = "") -> Expect:
    return Expect("SIGABRT", "SI_TKILL", "abort", cause, says)


SCENES = {
    "null_member": fault(
        "near-null-pointer", "Near-null pointer: reading 4 bytes",
        r"c->peer is null, and its member port \(struct peer\) is at offset 0x30", address="0x30",
    ),
    "null_read": fault("null-pointer", "reading 4 bytes", "null_text is null", address="0x0"),
    "null_write": fault("null-pointer", "writing 4 bytes", "null_text is null", address="0x0"),
    "null_strlen": fault("null-pointer", "Null pointer: reading", r"strlen\(\) was given a null"),
    "null_call": fault("null-call", "null function pointer was called by", "callback at signals.c"),
    "non_canonical": fault(
        "non-canonical", "non-canonical address.*no null pointer.*are the text", code="SI_KERNEL",
        address="0x4847464544434249",
    ),
    "non_canonical_call": fault(
        "non-canonical", "(Call of|Jump to) a bad address", code="SI_KERNEL",
        address="0x8000123412341234",
    ),
    "bad_return": fault(
        "non-canonical", 'Return to a bad address.*text "AAAAAAAA"', code="SI_KERNEL",
        address="0x4141414141414141",
    ),
    "wild": fault("bad-pointer", "where nothing is mapped", address="0x123456789000"),
    "truncated_pointer": fault("bad-pointer", ""),
    "read_only": fault(
        "write-to-read-only", 'writing 1 byte.*the constant "a constant"', code="SEGV_ACCERR"
    ),
    "no_access": fault("no-access", "anonymous memory", code="SEGV_ACCERR"),
    "execute_data": fault("execute-data", "called by", code="SEGV_ACCERR"),
    "execute_heap": fault("execute-data", r"\(rw-\)", code="SEGV_ACCERR"),
    "wild_call": fault("wild-jump", "called by", address="0x123456789abc"),
    "main_overflow": fault("stack-overflow", "main thread's stack.*Recursion"),
    # a guard that is but marked is as if nothing were mapped (glibc 2.42)
    "thread_overflow": fault("stack-overflow", "this thread's stack.*Recursion",
                             code="SEGV_ACCERR|SEGV_MAPERR"),
    "large_frame": fault("stack-overflow", "12287 KiB|12288 KiB|main thread's stack"),
    "truncated_file": fault(
        "truncated-mapping", "byte 0x2000 of .*mapped-file, which has only 4096 bytes",
        code="BUS_ADRERR", name="SIGBUS",
    ),
    "misaligned": fault("misaligned-vector", "multiple of 16", code="SI_KERNEL"),
    "divide": fault("division-by-zero", "10 / 0", code="FPE_INTDIV", name="SIGFPE"),
    "divide_overflow": fault("division-overflow", "-2147483648 / -1 does not fit into 32 bits",
                             code="FPE_INTDIV", name="SIGFPE"),
    "float_trap": fault("floating-point", "division by zero", code="FPE_FLTDIV", name="SIGFPE"),
    "trap": fault("deliberate-trap", "ud2", code="ILL_ILLOPN", name="SIGILL"),
    "corrupted_text": fault("corrupted-text", "1 byte from", code="ILL_ILLOPN", name="SIGILL"),
    "breakpoint": fault("breakpoint", "int3.*part of the program", code="SI_KERNEL",
                        name="SIGTRAP"),
    "privileged": fault("privileged-instruction", "hlt", code="SI_KERNEL"),
    "assertion": aborted("assertion", r"connection.fd == 42 && \"the answer\"' failed"),
    "plain_abort": aborted("abort", "abort()"),
    "double_free": aborted("double-free", "double free or corruption"),
    "invalid_free": aborted("heap-corruption", r"free\(\): invalid pointer"),
    "stack_smash": aborted("stack-smashing", "stack smashing detected"),
    "raised": Expect("SIGSEGV", "SI_TKILL", "tgkill", "raise", "to itself, with raise()"),
    "killed_itself": Expect("SIGQUIT", "SI_USER", "kill", "kill", r"to itself, with kill\(\)"),
    "killed_group": Expect("SIGQUIT", "SI_USER", "kill", "kill", r"own process group.*kill\(0"),
    "cpu_limit": Expect("SIGXCPU", "SI_KERNEL", "rlimit", "cpu-limit", r"has used 1\.\d s"),
    "posix_timer": Expect("SIGQUIT", "SI_TIMER", "timer", "posix-timer", "value is 4242"),
    "seccomp_trap": Expect("SIGSYS", "SYS_SECCOMP", "seccomp", "seccomp",
                           r"getppid \(number 110\).*data 77"),
    "seccomp_kill": Expect("SIGSYS", "SYS_SECCOMP", "seccomp", "seccomp", "getppid.*data 77"),
    "protection_key": fault("protection-key", "Protection key 1.*forbids any access",
                            code="SEGV_PKUERR"),
    "machine_check": fault("hardware-memory-error", "4 KiB of .*is broken",
                           code="BUS_MCEERR_AR", name="SIGBUS"),
    "protection_key_told": fault("protection-key", "Protection key 5", code="SEGV_PKUERR"),
    "bounds": fault("bounds", "outside of 0x1000-", code="SEGV_BNDERR"),
    "shadow_stack": fault("shadow-stack", "Control protection", code="SEGV_CPERR"),
    "overflow_handled": fault("stack-overflow", "A handler of the program's own took this fault",
                              code="SI_TKILL"),
    "overflow_unhandled": fault("stack-overflow", "could not even start the handler",
                                code="SI_KERNEL"),
}  # fmt: skip

# Each scene with debug information, and in one of the other builds; all of them with -m full.
CASES = [
    pytest.param(
        scene,
        variant,
        id=f"{scene}-{variant}",
        marks=() if variant in ("dbg", OTHERS[number % len(OTHERS)]) else pytest.mark.full,
    )
    for number, scene in enumerate(SCENES)
    for variant in ("dbg", *OTHERS)
]


def check(found: dict, expected: Expect, variant: str) -> None:
    told = {key: found[key] for key in ("signal", "origin", "cause")}
    wanted = {key: getattr(expected, key) for key in told}
    assert told == wanted, found["explanation"]
    assert found["code"] in expected.code.split("|")
    assert re.search(expected.says, found["explanation"], re.DOTALL), found["explanation"]
    if variant in ("dbg", "opt", "cxx"):
        assert re.search(expected.lines, found["explanation"]), found["explanation"]
    if expected.address is not None:
        assert found["address"] == expected.address
    assert found["state"] == "fatal"
    assert found["type"] == "signal"


@pytest.mark.parametrize(("scene", "variant"), CASES)
def test_core(scene, variant, tmp_path):
    executable, core = die("signals.c", variant, scene, tmp_path)
    report, text = sigsrc(str(executable), str(core))
    assert report["verdict"] == "found"
    assert len(report["findings"]) == 1, text
    check(report["findings"][0], SCENES[scene], variant)
    assert report["findings"][0]["signal"] in text
    assert text.rstrip().splitlines()[0].startswith("faultkit ")


def test_index_of_a_null_array(tmp_path):
    executable, core = die("signals.c", "dbg", "null_index", tmp_path)
    found = sigsrc(str(executable), str(core))[0]["findings"][0]
    assert found["cause"] == "null-pointer"
    assert "array[5000000]; array is null" in found["explanation"]
    assert found["confidence"] == "inferred"


EXCEPTIONS = {
    "runtime_error": aborted("uncaught-exception", 'std::runtime_error, which says "disk is on'),
    "own_type": aborted("uncaught-exception", 'app::config_error, which says "no such key: port"'),
    "plain_type": aborted("uncaught-exception", "app::plain"),
    "number": aborted("uncaught-exception", 'int, which says "42"'),
    "text": aborted("uncaught-exception", 'char const\\*, which says "just text"'),
    "noexcept": aborted("uncaught-exception", 'std::logic_error, which says "in noexcept"'),
    "rethrown": aborted("uncaught-exception", 'app::config_error, which says "kept for later"'),
    "caught_then_abort": aborted("abort", "abort()"),
    "index": aborted("assertion", "Assertion `.*__n < this->size\\(\\).*' failed"),
    "joinable": aborted("terminate", "without an exception"),
    "pure_virtual": aborted("pure-virtual", "pure virtual function"),
}


@pytest.mark.parametrize(
    ("scene", "variant"),
    [
        pytest.param(
            scene,
            variant,
            marks=()
            if variant == ("dbg", "stripped")[number % 2] or scene in ("own_type", "noexcept")
            else pytest.mark.full,
        )
        for number, scene in enumerate(EXCEPTIONS)
        for variant in ("dbg", "opt", "stripped")
    ],
)
def test_exception(scene, variant, tmp_path):
    executable, core = die("signals_cxx.cc", variant, scene, tmp_path)
    report, _ = sigsrc(str(executable), str(core))
    check(report["findings"][0], EXCEPTIONS[scene], variant)


def test_exception_that_was_caught_in_a_static_program(tmp_path):
    executable, core = die("signals_cxx.cc", "static-stripped", "caught_then_abort", tmp_path)
    assert sigsrc(str(executable), str(core))[0]["findings"][0]["cause"] == "abort"


@pytest.mark.parametrize("variant", ["static", "static-stripped"])
def test_exception_of_a_static_program(variant, tmp_path):
    executable, core = die("signals_cxx.cc", variant, "own_type", tmp_path)
    found = sigsrc(str(executable), str(core))[0]["findings"][0]
    assert found["cause"] == "uncaught-exception"
    assert 'app::config_error, which says "no such key: port"' in found["explanation"]


def test_member_of_a_null_object(tmp_path):
    executable, core = die("signals_cxx.cc", "dbg", "null_this", tmp_path)
    found = sigsrc(str(executable), str(core))[0]["findings"][0]
    assert "this->next is null, and its member weights[3]" in found["explanation"]


PANICS = [
    ("drop", "rust", r"signals_rust\.rs:24:9.*first panic, 2 arguments|panic in a destructor"),
    ("drop", "rust-abort", r"signals_rust\.rs:24:9: \"first panic, 2 arguments\""),
    ("extern", "rust-abort", r"signals_rust\.rs:12:5: \"index out of bounds: the len is 3 but"),
    ("extern", "rust-abort-stripped", r"signals_rust\.rs:12:5: \"index out of bounds"),
]


@pytest.mark.parametrize(("scene", "variant", "says"), PANICS)
def test_rust_panic(scene, variant, says, tmp_path):
    executable, core = die("signals_rust.rs", variant, scene, tmp_path)
    found = sigsrc(str(executable), str(core))[0]["findings"][0]
    assert (found["origin"], found["cause"]) == ("abort", "rust-panic")
    assert re.search(says, found["explanation"], re.DOTALL), found["explanation"]


def test_rust_abort_is_no_panic(tmp_path):
    executable, core = die("signals_rust.rs", "rust-abort", "abort", tmp_path)
    found = sigsrc(str(executable), str(core))[0]["findings"][0]
    assert found["cause"] == "abort"


@pytest.mark.parametrize("variant", ["dbg", "stripped", "static-stripped"])
def test_abort_in_the_handler_of_a_fault(variant, tmp_path):
    executable, core = die("signals.c", variant, "abort_in_handler", tmp_path)
    first, second = sigsrc(str(executable), str(core))[0]["findings"]
    assert (first["signal"], first["state"], first["cause"]) == (
        "SIGSEGV", "delivered", "near-null-pointer",
    )  # fmt: skip
    assert (first["address"], first["within"]) == ("0x30", None)
    assert (second["signal"], second["state"], second["within"]) == ("SIGABRT", "fatal", "SIGSEGV")
    if variant == "dbg":
        assert "c->peer is null" in first["explanation"]


@pytest.mark.parametrize("variant", ["opt", "static-stripped"])
def test_fault_in_a_handler_without_siginfo(variant, tmp_path):
    executable, core = die("signals.c", variant, "fault_in_handler", tmp_path)
    first, second = sigsrc(str(executable), str(core))[0]["findings"]
    assert (first["signal"], first["origin"], first["code"]) == ("SIGUSR1", "unknown", None)
    assert (second["signal"], second["address"], second["within"]) == (
        "SIGSEGV", "0x10", "SIGUSR1",
    )  # fmt: skip


@pytest.mark.parametrize("variant", ["dbg", "static-stripped"])
def test_fault_in_a_handler_with_siginfo(variant, tmp_path):
    executable, core = die("signals.c", variant, "fault_in_siginfo_handler", tmp_path)
    first, second = sigsrc(str(executable), str(core))[0]["findings"]
    assert (first["signal"], first["origin"], first["value"]) == ("SIGUSR1", "sigqueue", 99)
    assert first["sender"]["itself"]
    assert (second["signal"], second["within"]) == ("SIGSEGV", "SIGUSR1")


# --- sent by others


def waiting(directory: Path, scene: str = "wait_for_it", variant: str = "dbg"):
    executable = build("signals.c", variant)
    process = start(executable, scene, directory)
    assert process.stdout.readline() == b"ready\n"
    return executable, process


def test_killed_by_another(tmp_path):
    executable, process = waiting(tmp_path)
    os.kill(process.pid, signal.SIGQUIT)
    status = process.wait()
    end(process)
    core = core_of(process.pid, tmp_path, status)
    found = sigsrc(str(executable), str(core))[0]["findings"][0]
    assert (found["signal"], found["code"], found["origin"]) == ("SIGQUIT", "SI_USER", "kill")
    sender = found["sender"]
    assert (sender["pid"], sender["uid"]) == (os.getpid(), os.getuid())
    assert (sender["alive"], sender["reused"], sender["itself"]) == (True, False, False)
    assert sender["name"] == Path("/proc/self/comm").read_text().strip()


def test_the_senders_pid_was_reused(tmp_path):
    executable, process = waiting(tmp_path)
    os.kill(process.pid, signal.SIGQUIT)
    status = process.wait()
    end(process)
    core = core_of(process.pid, tmp_path, status)
    born = os.stat(f"/proc/{os.getpid()}").st_ctime
    os.utime(core, (born - 3600, born - 3600))  # as if written before this process was born
    report, text = sigsrc(str(executable), str(core))
    sender = report["findings"][0]["sender"]
    assert (sender["alive"], sender["name"]) == (False, None)
    assert sender["reused"] or "booted again" in sender["fate"]
    said = " ".join(text.split())
    assert "is gone: its pid belongs to" in said or "booted again" in said


def test_sent_with_a_value(tmp_path):
    executable, process = waiting(tmp_path)
    script = f"import ctypes; ctypes.CDLL(None).sigqueue({process.pid}, 3, ctypes.c_void_p(4711))"
    sent = os.spawnlp(os.P_WAIT, "python3", "python3", "-c", script)
    status = process.wait()
    end(process)
    assert sent == 0
    core = core_of(process.pid, tmp_path, status)
    found = sigsrc(str(executable), str(core))[0]["findings"][0]
    assert (found["code"], found["origin"], found["value"]) == ("SI_QUEUE", "sigqueue", 4711)
    assert (found["sender"]["alive"], found["sender"]["name"]) == (False, None)
    assert "which is gone" in found["explanation"]


@pytest.mark.parametrize("variant", ["opt", "stripped", "static-stripped"])
def test_the_parents_death(variant, tmp_path):
    process = start(build("signals.c", variant), "parent_death", tmp_path)
    process.wait()
    end(process)
    core = core_of(process.pid, tmp_path, process.returncode)
    found = sigsrc(str(build("signals.c", variant)), str(core))[0]["findings"][0]
    if variant == "static-stripped":  # nothing tells that it is prctl() that is called
        assert found["origin"] in ("parent-death", "kill")
    else:
        assert (found["origin"], found["code"]) == ("parent-death", "SI_USER")
        assert found["confidence"] == "inferred"
    assert found["sender"]["alive"] is False


def at_a_terminal(executable: Path, directory: Path, act) -> int:
    """Runs the waiting scene at a terminal of its own, and lets `act` do something to that
    terminal: its status."""
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(directory)
        resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)
        os.execv(executable, [str(executable), "wait_for_it"])
    said = b""
    while b"ready" not in said:
        said += os.read(terminal, 100)
    act(terminal)
    status = os.waitpid(pid, 0)[1]
    with contextlib.suppress(OSError):
        os.close(terminal)
    return status


def test_a_key_at_the_terminal(tmp_path):
    executable = build("signals.c", "opt")
    status = at_a_terminal(executable, tmp_path, lambda terminal: os.write(terminal, b"\x1c"))
    core = core_of(0, tmp_path, status)
    found = sigsrc(str(executable), str(core))[0]["findings"][0]
    assert (found["signal"], found["code"], found["origin"]) == (
        "SIGQUIT", "SI_KERNEL", "terminal",
    )  # fmt: skip
    assert "Ctrl-\\ was typed" in found["explanation"]
    assert found["sender"] is None


def test_gcore_is_no_death(tmp_path):
    executable, process = waiting(tmp_path)
    try:
        core = tmp_path / "picture"
        run_gdb(["-p", str(process.pid), "-ex", f"generate-core-file {core}"])
        report, text = sigsrc(str(executable), str(core))
    finally:
        end(process)
    assert report["verdict"] == "not-found", text
    assert report["findings"] == []


# --- bad input


def test_truncated_core(tmp_path):
    executable, core = die("signals.c", "dbg", "null_member", tmp_path)
    whole = core.read_bytes()
    core.write_bytes(whole[: len(whole) // 2])
    report, text = sigsrc(str(executable), str(core))
    assert report["findings"][0]["signal"] == "SIGSEGV"
    assert report["findings"][0]["address"] == "0x30"
    assert "the core is truncated" in text


def test_truncated_core_says_what_is_missing(tmp_path):
    executable, core = die("signals.c", "dbg", "assertion", tmp_path)
    whole = core.read_bytes()
    core.write_bytes(whole[: len(whole) // 8])
    report, text = sigsrc(str(executable), str(core))
    (found,) = report["findings"]
    assert (found["signal"], found["cause"]) == ("SIGABRT", "abort")
    assert "left no message" not in text
    assert "the memory that this core lacks would tell" in found["explanation"]
    assert any("is not in the core: there is no back trace" in one for one in report["limits"])


def test_no_core_says_where_cores_are():
    stdout, stderr = run_gdb(["-ex", f"source {sigsrc_commands()}", "-ex", "sigsrc"])
    assert "no process and no core is loaded" in stderr
    assert re.search(r"cores (are|go)|no cores", stderr), stderr
    assert "Traceback" not in stdout + stderr


def sigsrc_commands() -> Path:
    from harness import COMMANDS

    return COMMANDS
