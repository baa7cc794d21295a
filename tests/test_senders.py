"""`sigsrc --kernel`: the places in a kernel that send signals, against what objdump shows."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from lab.kernels import kernel as lab_kernel

from faultkit.analyzers.senders import analyze_senders, parse_signal
from faultkit.senders import catalog as catalogs
from faultkit.senders.functions import is_interface
from faultkit.senders.text import KernelText
from faultkit.senders.trace import Trace
from faultkit.target import FaultkitError

HERE = Path(__file__).parent
KERNELS = (
    "6.1",
    *(pytest.param(name, marks=pytest.mark.matrix) for name in ("5.10", "6.12", "7")),
)
every_kernel = pytest.mark.parametrize("kernel", KERNELS)
HOST = {"name": None, "version": None, "faultkit": "0"}

# Interfaces and the register of their signal, as include/linux/sched/signal.h declares them
ARGUMENT = {
    "force_sig": "di", "force_fatal_sig": "di", "force_exit_sig": "di", "force_sig_fault": "di",
    "send_sig": "di", "send_sig_info": "di", "do_send_sig_info": "di", "group_send_sig_info": "di",
    "send_signal_locked": "di", "kill_pid": "si", "kill_pgrp": "si", "kill_pid_info": "di",
    "do_notify_parent": "si", "__kill_pgrp_info": "di",
}  # fmt: skip
CALLED = {*ARGUMENT, "force_sig_info", "force_sig_mceerr", "force_sig_pkuerr", "force_sigsegv",
          "force_sig_seccomp", "send_sig_mceerr", "send_sig_perf", "zap_other_threads",
          "do_notify_parent_cldstop", "force_sig_info_to_task"}  # fmt: skip
LINE = re.compile(r"([0-9a-f]{16}):\t(\w+) +(?:\S+ )*?([0-9a-f]{16}) <([\w.]+)>$")


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    """What was kept by an older version of the code must not be what is tested."""
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp("cache")
    patch.setattr("faultkit.debuginfo.cache.cache_directory", lambda: str(folder))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def traced():
    made = {}

    def get(kernel):
        if kernel not in made:
            made[kernel] = Trace(KernelText(str(lab_kernel(kernel).vmlinux))).run()
        return made[kernel]

    return get


@pytest.fixture(scope="module")
def disassembled():
    """[(address, function that it is in, callee, signal if the instructions right before tell)] of
    all calls and jumps to interfaces, by objdump alone."""
    made = {}

    def get(kernel):
        if kernel not in made:
            made[kernel] = list(calls_by_objdump(lab_kernel(kernel).vmlinux))
        return made[kernel]

    return get


def calls_by_objdump(vmlinux):
    command = ["objdump", "-d", "--no-show-raw-insn", "-j", ".text", str(vmlinux)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        function, before = "", []
        for line in process.stdout:
            if line.endswith(">:\n"):
                function, before = line.split("<")[1].split(">")[0], []
                continue
            match = LINE.match(line.rstrip("\n"))
            if match and match[4] in CALLED and match[2] in ("call", "jmp", "je", "jne"):
                yield int(match[1], 16), function, match[4], constant(before, match[4])
            before.append(line)
            del before[:-6]


def constant(before, callee):
    """The signal that one of the instructions right before moves into the argument's register, if
    nothing branches or is called between."""
    register = ARGUMENT.get(callee)
    for line in reversed(before):
        said = line.split("\t")[1].split()
        if not said or said[0].startswith(("j", "call", "ret")) or register is None:
            return None
        match = re.match(rf"\$0x([0-9a-f]+),%[er]{register}$", said[-1])
        if match and said[0] == "mov":
            return int(match[1], 16)
        if re.search(rf"%[er]{register}$", said[-1]):
            return None
    return None


@every_kernel
def test_every_call_is_a_place_or_passes_on(traced, disassembled, kernel):
    """Nothing that calls an interface is missed: it is a place, or a wrapper whose callers are."""
    trace = traced(kernel)
    wrappers = {sink.name for sink in trace._known}
    calls = disassembled(kernel)
    assert len(calls) > 100
    missed = [
        (hex(address), function, callee)
        for address, function, callee, _ in calls
        if address not in trace.sites
        and function.partition(".")[0] not in wrappers
        and not is_interface(function.partition(".")[0])
    ]
    assert missed == []


@every_kernel
def test_constants(traced, disassembled, kernel):
    """Where the instructions before a call show the signal, it is the place's."""
    checked = 0
    for address, function, _, number in disassembled(kernel):
        site = traced(kernel).sites.get(address)
        if number is None or site is None:
            continue
        # Other ways may lead to the call: then there are more.
        assert number in site.signals, (hex(address), function, number, site)
        checked += 1
    assert checked > 30


@every_kernel
def test_what_everybody_knows(traced, kernel):
    """The kernel's source says so, whatever the compiler made of it."""
    found = {}
    for site in traced(kernel).sites.values():
        found.setdefault(site.function, []).append(site)

    def of(function, number):
        codes = [set(one.codes) for one in found[function] if number in one.signals]
        assert codes, (function, found[function])
        return set().union(*codes)

    assert of("exc_divide_error", 8) == {1}
    assert of("exc_invalid_op", 4) == {2}
    assert of("exc_general_protection", 11) == {0x80}
    assert of("exc_stack_segment", 7) == {0x80}
    assert of("do_user_addr_fault", 7) >= {2} if "do_user_addr_fault" in found else True
    assert of("__oom_kill_process", 9) == {0x80}
    assert of("it_real_fn", 14) == {0x80}
    assert of("generic_write_check_limits", 25) == {0}
    assert of("sysrq_handle_term", 15) == {0x80}
    of("do_group_exit", 9)
    of("begin_new_exec", 9)
    of("complete_signal", 9)
    of("kill_procs", 7)
    assert any(one.open for one in found["__x64_sys_kill"])
    assert any(one.open for one in found["send_sigio_to_task"])


@every_kernel
def test_report(kernel):
    vmlinux = lab_kernel(kernel).vmlinux
    report = analyze_senders(str(vmlinux), parse_signal("bus"), HOST)
    assert report.verdict == "found"
    assert report.target["release"].startswith(lab_kernel(kernel).abi.split("-")[0].split("+")[0])
    chosen = report.senders[: report.counts["places"]]
    assert all(7 in place.signals for place in chosen)
    assert all(place.open for place in report.senders[len(chosen) :])
    assert all(place.when for place in chosen)
    lines = [place.lines for place in report.senders]
    assert all(chain and chain[0].file and chain[0].line for chain in lines)
    again = analyze_senders(str(vmlinux), 7, HOST)
    assert [*map(tuple, again.senders)] == [*map(tuple, report.senders)]
    assert again.elapsed_seconds < max(1.0, report.elapsed_seconds)


# A program with the kernel's names, and what the source says of each function
CHOSEN = {
    "choose_plain": ({9}, {0x80}),
    "choose_tail": ({15}, {0}),
    "choose_two": ({7, 11}, {0}),
    "choose_branch": ({13, 24, 25}, {0x80}),
    "choose_fault": ({11}, {1, 2}),
    "choose_through_wrapper": ({8}, {1}),
    "choose_without_code": ({5}, {0x80}),
    "choose_mceerr": ({7}, {4}),
    "choose_info": ({31}, {1}),
    "choose_kept": ({1, 18}, {0}),
    "told_by_object": (set(), {0}),
    "told_in_loop": (set(), {0}),
    "told_partly": ({17}, {0}),
}


OPTIONS = ("-O1", "-O2", "-O3", "-Os", "-O2 -fcf-protection", "-O2 -fno-plt -fPIE")


def built(directory, options="-O2"):
    path = directory / "program"
    source = HERE / "programs" / "senders.c"
    command = ["gcc", *options.split(), "-no-pie", "-o", path, source]
    subprocess.run([*map(str, command)], check=True, timeout=60)
    return path


@pytest.fixture
def program(tmp_path):
    return built(tmp_path)


@pytest.mark.parametrize("options", OPTIONS)
def test_all_ways_to_choose(tmp_path, options):
    sites = {}
    for site in Trace(KernelText(str(built(tmp_path, options)))).run().sites.values():
        signals, codes, _ = sites.get(site.function, (set(), set(), False))
        sites[site.function] = (signals | {*site.signals}, codes | {*site.codes}, bool(site.open))
    for function, (signals, codes) in CHOSEN.items():
        found = sites.get(function)
        assert found is not None, (function, sites)
        assert found[2] == function.startswith("told"), (function, found)
        if function != "told_in_loop":
            assert found[0] == signals, (function, found)
        assert found[1] == codes, (function, found)
    assert set(sites) == set(CHOSEN)


def test_damaged_files(tmp_path, program):
    """Whatever is wrong with a file, it is said in one line, or less is found."""
    whole = program.read_bytes()
    dice = random.Random(11)
    path = tmp_path / "damaged"
    for round_ in range(60):
        data = bytearray(whole)
        if round_ % 3 == 0:
            data = data[: dice.randrange(len(data))]
        for _ in range(dice.choice((1, 20, 400))):
            if data:
                data[dice.randrange(len(data))] = dice.randrange(256)
        path.write_bytes(data)
        try:
            report = analyze_senders(str(path), None, HOST)
        except FaultkitError as error:
            assert "\n" not in str(error)
        else:
            assert report.verdict in ("found", "not-found")


def test_what_is_kept_is_checked(monkeypatch, program):
    """A catalog that was damaged in the cache is made again."""
    first = catalogs.catalog(str(program))
    assert first.sites
    cache = catalogs.Cache(f"{first.build_id}-{os.path.getsize(program):x}")
    for text in ("", "[]]", "[1]", '[["a", 1, 2, 3, 4, 5]]', '{"a": 1}', "[[1,2,3,4,5,6]]"):
        cache.put("senders", {catalogs.EDITION: text})
        assert catalogs.catalog(str(program)).sites == first.sites


def faultkit(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "faultkit", "sigsrc", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=HERE.parent,
    )


def test_command(program):
    done = faultkit("--kernel", "SIGBUS", "--vmlinux", program)
    assert done.returncode == 0, done.stderr
    assert "choose_mceerr: force_sig_mceerr(SIGBUS, BUS_MCEERR_AR)" in done.stdout
    assert "choose_two: send_sig(SIGBUS|SIGSEGV, SI_USER)" in done.stdout
    assert "SEND WHAT THEY ARE TOLD" in done.stdout
    told = json.loads(faultkit("--kernel", "11", "--vmlinux", program, "--json", "-").stdout)
    assert told["command"] == "sigsrc" and told["verdict"] == "found"
    named = {finding["function"]: finding for finding in told["findings"]}
    assert named["choose_fault"]["codes"] == ["SEGV_MAPERR", "SEGV_ACCERR"]
    assert named["choose_fault"]["type"] == "sender" and not named["choose_fault"]["any"]
    assert named["told_partly"]["any"]


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("--kernel", "SIGNOT", "--vmlinux", "{program}"), "`SIGNOT` is no signal"),
        (("--kernel", "9", "--vmlinux", "/etc/passwd"), "no ELF file"),
        (("--kernel", "9", "--vmlinux", "/nonexistent"), "no ELF file"),
        (("--kernel", "9", "--vmlinux", "{true}"), "has no symbols of functions"),
        (("--kernel", "9", "--vmlinux", "{plain}"), "none of the functions that queue signals"),
        (("--kernel", "9", "1"), "--kernel looks at a kernel's code"),
        (("--vmlinux", "x"), "add --kernel"),
    ],
)
def test_bad_input(tmp_path, program, arguments, said):
    plain = tmp_path / "plain"
    subprocess.run(["gcc", "-x", "c", "-o", plain, "-"], input=b"int main(){}", check=True)
    places = {"program": program, "true": shutil.which("true"), "plain": plain}
    done = faultkit(*(str(argument).format(**places) for argument in arguments))
    assert done.returncode == 1
    assert said in done.stderr and "Traceback" not in done.stderr and not done.stdout
    assert done.stderr.count("\n") == 1


MODULE = """
int send_sig(int number, void *task, int priv);
void force_sig_fault(int number, int code, void *address);
int kill_unknown(int number);
int others(void);
static __attribute__((noipa)) void pass_on(int number, void *task) { send_sig(number, task, 0); }
void mod_kill(void *task) { send_sig(9, task, 1); others(); }
void mod_tail(void *task) { send_sig(15, task, 0); }
void mod_fault(void *at, int w) { force_sig_fault(11, w ? 1 : 2, at); others(); }
void mod_wrapped(void *task) { pass_on(10, task); others(); }
void mod_quiet(void) { kill_unknown(3); others(); }
__attribute__((section(".text.unlikely"))) void mod_apart(void *task) { send_sig(7, task, 1); }
"""


def test_modules(tmp_path, program):
    """A module is read as it would be linked: calls of the kernel's functions are its sites."""
    module = tmp_path / "lab-mod.ko"
    options = ["-c", "-O2", "-g", "-mcmodel=kernel", "-fno-pic", "-x", "c", "-o", str(module)]
    subprocess.run(["gcc", *options, "-"], input=MODULE.encode(), check=True, timeout=60)
    report = analyze_senders(str(program), None, HOST, [str(module)])
    sites = {one.function: one for one in report.senders if one.module}
    assert {one.module for one in sites.values()} == {"lab_mod"}
    assert {name: (one.signals, one.codes) for name, one in sites.items()} == {
        "mod_kill": ((9,), (0x80,)),
        "mod_tail": ((15,), (0,)),
        "mod_fault": ((11,), (1, 2)),
        "mod_wrapped": ((10,), (0,)),
        "mod_apart": ((7,), (0x80,)),
    }
    assert all(one.lines and one.lines[0].line for one in sites.values())
    only = analyze_senders(str(program), 7, HOST, [str(module)])
    assert "mod_apart" in {one.function for one in only.senders[: only.counts["places"]]}
    assert "mod_tail" not in {one.function for one in only.senders}
    dice = random.Random(2)
    whole = module.read_bytes()
    for _ in range(40):
        data = bytearray(whole[: dice.choice((len(whole), dice.randrange(len(whole))))])
        for _ in range(dice.choice((1, 30))):
            if data:
                data[dice.randrange(len(data))] = dice.randrange(256)
        module.write_bytes(data)
        try:
            analyze_senders(str(program), None, HOST, [str(module)])
        except FaultkitError as error:
            assert "\n" not in str(error)
    for wrong in (program, "/etc/passwd", "/nonexistent"):
        with pytest.raises(FaultkitError, match="no module that can be read"):
            analyze_senders(str(program), None, HOST, [str(wrong)])
