"""`sigsrc` on cores whose first look deceives: real programs, and what may not be said of them."""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from building import Unplayable, build
from sigsrc_stage import core_of, die, end, sigsrc, start


def findings(
    scene: str, variant: str, directory, program: str = "signals_hard.c"
) -> tuple[list[dict], dict]:
    executable, core = die(program, variant, scene, directory)
    report, _ = sigsrc(str(executable), str(core))
    return report["findings"], report


@pytest.mark.parametrize("variant", ["dbg", "static-stripped"])
def test_a_trap_number_that_was_never_set_is_no_division(variant, tmp_path):
    found, report = findings("abort_with_all_blocked", variant, tmp_path)
    assert [one["signal"] for one in found] == ["SIGABRT"]
    assert any("a signal handler was running" in note for note in report["notes"])


@pytest.mark.parametrize("variant", ["dbg", "stripped"])
def test_a_division_whose_handler_blocks_all(variant, tmp_path):
    first, second = findings("divide_with_all_blocked", variant, tmp_path)[0]
    assert (first["signal"], first["cause"]) == ("SIGFPE", "division-by-zero")
    assert (second["signal"], second["within"]) == ("SIGABRT", "SIGFPE")


@pytest.mark.parametrize("variant", ["dbg", "static-stripped"])
def test_a_handler_that_lets_its_own_signal_through(variant, tmp_path):
    first, second = findings("own_signal_let_through", variant, tmp_path)[0]
    assert (first["code"], first["cause"]) == ("SEGV_MAPERR", "null-pointer")
    assert (second["cause"], second["within"]) == ("raise", "SIGSEGV")


@pytest.mark.parametrize("scene", ["killed_by_a_child", "killed_by_a_sibling"])
def test_whoever_was_no_parent_did_not_send_by_dying(scene, tmp_path):
    (one,) = findings(scene, "opt", tmp_path)[0]
    assert (one["origin"], one["code"]) == ("kill", "SI_USER")
    assert "PDEATHSIG" not in one["explanation"] and not one["evidence"]


@pytest.mark.parametrize("variant", ["dbg", "stripped", "static-stripped"])
def test_sigabrt_by_another_call_is_no_abort(variant, tmp_path):
    (one,) = findings("abort_signal_by_pidfd", variant, tmp_path)[0]
    assert (one["origin"], one["cause"]) == ("kill", "kill")


@pytest.mark.parametrize("variant", ["dbg", "stripped"])
def test_abort_where_an_exception_is_caught(variant, tmp_path):
    (one,) = findings("abort_in_catch", variant, tmp_path, "signals_cxx.cc")[0]
    assert one["cause"] == "abort"


def test_abort_where_nobody_can_tell_whether_an_exception_is_caught(tmp_path):
    (one,) = findings("abort_in_catch", "static-stripped", tmp_path, "signals_cxx.cc")[0]
    assert one["confidence"] == "inferred" and "most likely" in one["explanation"]


def test_who_has_thrown_is_not_who_aborts(tmp_path):
    (one,) = findings("own_handler", "dbg", tmp_path, "signals_cxx.cc")[0]
    assert one["cause"] == "uncaught-exception"
    assert "thrown by main at" in one["explanation"]


def test_nothing_to_rethrow(tmp_path):
    (one,) = findings("nothing_to_rethrow", "stripped", tmp_path, "signals_cxx.cc")[0]
    assert one["cause"] == "terminate" and "`throw;`" in one["explanation"]


def test_no_caller_is_named_where_the_library_has_no_names(tmp_path):
    (one,) = findings("plain_abort", "static-stripped", tmp_path, "signals.c")[0]
    assert one["cause"] == "abort"
    assert "called abort(), or" in one["explanation"] or "called abort()." in one["explanation"]


@pytest.mark.parametrize("variant", ["dbg", "static-stripped"])
def test_a_fault_that_its_handler_passes_on_is_none_of_the_call(variant, tmp_path):
    first, second = findings("passed_on", variant, tmp_path)[0]
    assert (first["cause"], second["cause"]) == ("null-pointer", "passed-on")
    assert "no instruction has failed here" in second["explanation"]


def test_the_kernel_gives_up_in_a_system_call(tmp_path, monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.pthread.rseq=0")  # the area is the program's own
    (one,) = findings("kernel_gives_up", "dbg", tmp_path)[0]
    assert (one["code"], one["origin"], one["cause"]) == ("SI_KERNEL", "kernel", "in-system-call")
    assert "not by an instruction" in one["explanation"]


def test_an_address_of_the_kernels_is_no_null_pointer(tmp_path):
    (one,) = findings("kernel_address", "stripped", tmp_path)[0]
    assert (one["cause"], one["address"]) == ("bad-pointer", "0xffffffff81000000")
    assert "an address of the kernel's" in one["explanation"]


def test_a_limit_of_real_time_is_none_of_the_processor_time(tmp_path):
    (one,) = findings("real_time", "opt", tmp_path)[0]
    assert (one["signal"], one["origin"], one["cause"]) == ("SIGXCPU", "rlimit", "cpu-limit")
    assert "by RLIMIT_RTTIME" in one["explanation"]


def test_who_recursed_is_named_as_in_the_source(tmp_path):
    """Rust's handler of an overflow runs on a stack of its own, and aborts."""
    first, second = findings("recurse", "rust-abort", tmp_path, "signals_rust.rs")[0]
    assert first["cause"] == "stack-overflow" and "_ZN" not in first["explanation"]
    assert "signals_rust::recurse" in first["explanation"]
    assert "pthread_kill" not in second["explanation"]


@pytest.mark.parametrize("variant", ["dbg", "stripped"])
def test_a_divisor_that_a_core_lacks(variant, tmp_path):
    (one,) = findings("divide_by_what_is_left_out", variant, tmp_path)[0]
    assert one["cause"] == "division-by-zero" and "10 / 0" in one["explanation"]
    assert "can't be read" in one["evidence"][0]


@pytest.mark.parametrize("variant", ["dbg", "static-stripped"])
def test_a_stack_with_a_guard_that_is_but_marked(variant, tmp_path):
    (one,) = findings("marked_guard", variant, tmp_path)[0]
    assert one["cause"] == "stack-overflow" and "its guard page" in one["explanation"]
    assert "this thread's stack of 256 KiB" in one["explanation"]


def test_rust_without_memory(tmp_path):
    (one,) = findings("no_memory", "rust-abort", tmp_path, "signals_rust.rs")[0]
    assert one["cause"] == "out-of-memory"


@pytest.mark.parametrize("variant", ["dbg", "static-stripped"])
def test_where_a_signal_came_is_not_who_sent_it(variant, tmp_path):
    (one,) = findings("sent_by_another_thread", variant, tmp_path)[0]
    assert (one["origin"], one["cause"]) == ("tgkill", "raise")
    assert "not here, where it came in clock_nanosleep()" in one["explanation"]
    assert "by victim" not in one["explanation"]


@pytest.mark.parametrize("variant", ["dbg", "stripped"])
def test_a_null_pointer_in_the_heap_was_given_to_nobody(variant, tmp_path):
    (one,) = findings("null_in_the_heap", variant, tmp_path)[0]
    # glibc 2.43 has split off a malloc2()
    assert re.search(r"malloc2?\(\), called by", one["explanation"])
    assert "of the heap, which is corrupted" in one["explanation"]
    assert one["confidence"] == "inferred"


@pytest.mark.parametrize("variant", ["dbg", "stripped"])
def test_a_null_pointer_in_what_was_given(variant, tmp_path):
    (one,) = findings("null_in_a_file", variant, tmp_path)[0]
    assert "was given a null pointer" not in one["explanation"]
    assert "fread(), called by" in one["explanation"]


def test_a_pointer_that_is_nearly_null_is_told_as_it_is(tmp_path):
    (one,) = findings("small_pointer", "dbg", tmp_path)[0]
    assert one["cause"] == "near-null-pointer" and "counter is 0x80" in one["explanation"]


def test_a_mapped_file_in_a_full_file_system(tmp_path):
    full = tmp_path / "full"
    full.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(full)]
    if subprocess.run(mount, stderr=subprocess.DEVNULL).returncode:
        raise Unplayable("nothing may be mounted here")
    try:
        (one,) = findings("full_file_system", "opt", tmp_path)[0]
    finally:
        subprocess.run(["umount", str(full)], check=True)
    assert (one["signal"], one["cause"]) == ("SIGBUS", "failing-mapping")
    assert "had no room" in one["explanation"]
    assert "its file system has 0 MiB free now" in one["evidence"]


def test_a_sanitizers_end(tmp_path, monkeypatch):
    source, executable = tmp_path / "twice.c", tmp_path / "twice"
    source.write_text(
        "#include <stdlib.h>\nint main(void)\n{\n    char *volatile bytes = malloc(8);\n"
        "    free(bytes);\n    bytes[1] = 1;\n    return 0;\n}\n"
    )
    built = subprocess.run(["gcc", "-g", "-w", "-fsanitize=address", source, "-o", executable])
    if built.returncode:
        raise Unplayable("no AddressSanitizer here")
    monkeypatch.setenv("ASAN_OPTIONS", "abort_on_error=1:disable_coredump=0")
    process = start(executable, "", tmp_path)
    core = core_of(process.pid, tmp_path, process.wait())
    end(process)
    (one,) = sigsrc(str(executable), str(core))[0]["findings"]
    assert (one["origin"], one["cause"]) == ("abort", "sanitizer")
    assert "in main at twice.c:6" in one["explanation"]


def test_musls_own_functions_call_no_abort(tmp_path):
    (one,) = findings("plain_abort", "musl", tmp_path, "signals.c")[0]
    assert one["cause"] == "abort" and "__restore_sigs" not in one["explanation"]


def test_killed_by_the_parent(tmp_path):
    """A thread of it may have ended instead, as the program asks to be told of that."""
    executable = build("signals_hard.c", "dbg")
    process = start(executable, "wait", tmp_path)
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    os.kill(process.pid, signal.SIGQUIT)
    status = process.wait()
    end(process)
    core = core_of(process.pid, tmp_path, status)
    (one,) = sigsrc(str(executable), str(core))[0]["findings"]
    assert (one["origin"], one["sender"]["pid"]) == ("kill", os.getpid())
    assert f"its parent, pid {os.getpid()}" in one["explanation"]
    assert "thread" in one["explanation"] and one["confidence"] == "inferred"


def test_a_core_of_a_container_names_nobody_of_this_machine(tmp_path):
    if os.getuid() or shutil.which("unshare") is None or not Path("/proc/2").exists():
        raise Unplayable("no pid namespace of our own, or nobody who has the pid 2")
    executable = build("signals_hard.c", "dbg")
    script = f"ulimit -c unlimited; {executable} wait & sleep 1; kill -ABRT $!; wait"
    words = ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", script]
    subprocess.run(words, cwd=tmp_path, timeout=60, stdout=subprocess.DEVNULL)
    core = core_of(2, tmp_path, 0)
    (one,) = sigsrc(str(executable), str(core))[0]["findings"]
    sender = one["sender"]
    assert (sender["pid"], sender["name"], sender["alive"]) == (1, None, None)
    assert "of a container" in sender["fate"] and "pid 1 stops services" not in one["next"]
