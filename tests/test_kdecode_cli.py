"""`faultkit kdecode` in the shell, on the lab's consoles and kernels."""

import gzip
import json
import lzma
import os
import pty
import re
import subprocess
import sys

import pytest
from lab.dumps import dump
from lab.kernels import kernel
from lines_oracle import functions, lines, return_addresses

from faultkit.code.elf import open_elf
from faultkit.debuginfo.debugfile import open_debug_file

COMMAND = [sys.executable, "-m", "faultkit", "kdecode"]
KERNELS = ["6.1", *(pytest.param(name, marks=pytest.mark.matrix) for name in ("5.10", "6.12", "7"))]


def kdecode(*words, text=None, **variables):
    """(what it prints, its exit status); what goes wrong is in its answer too."""
    environment = {key: value for key, value in os.environ.items() if key != "DEBUGINFOD_URLS"}
    done = subprocess.run(
        [*COMMAND, *map(str, words)],
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**environment, **variables},
        check=False,
        timeout=300,
    )
    assert "Traceback" not in done.stdout
    return done.stdout, done.returncode


def report(*words, **more):
    said, status = kdecode(*words, "--json", "-", **more)
    assert status == 0, said
    return json.loads(said)


def drgn_frames(made):
    """(function, end of the path, line) of the panicked CPU's task, inlined ones too."""
    drgn = pytest.importorskip("drgn")
    from drgn.helpers.linux.sched import cpu_curr

    program = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
    program.set_core_dump(str(made.vmcore))
    program.load_debug_info([str(made.vmlinux), str(made.module)])
    cpu = int(re.search(r"soft lockup - CPU#(\d+)", made.console)[1])
    found = []
    for frame in program.stack_trace(cpu_curr(program, cpu)):
        file, line, column = frame.source()
        found.append((frame.name, "/".join(file.split("/")[-2:]), line, column))
    return found


@pytest.mark.parametrize("name", KERNELS)
def test_a_console_is_decoded_as_drgn_decodes_the_dump(name):
    made = dump("spin-panic", name)
    told = report(made.directory / "console", "--vmlinux", made.vmlinux, "--module", made.module)
    assert told["verdict"] == "found" and not told["limits"]
    lockup, panic = told["traces"]
    assert (lockup["kind"], panic["kind"]) == ("lockup", "panic")
    expected = drgn_frames(made)
    begin = next(i for i, frame in enumerate(expected) if frame[0] == "watchdog_timer_fn")
    frames = [told["findings"][number] for number in panic["frames"]]
    found = []
    for frame in frames:
        if frame["unreliable"]:
            continue
        for inline in frame["inlines"]:
            where = "/".join(inline["file"].split("/")[-2:])
            found.append((inline["function"], where, inline["line"], inline["column"] or 0))
    start = next(i for i, frame in enumerate(found) if frame[0] == "watchdog_timer_fn")
    # Of assembly there are symbols only, several for a place.
    assert [frame[1:] for frame in found[start:]] == [frame[1:] for frame in expected[begin:]]
    for mine, drgns in zip(found[start:], expected[begin:]):
        assert mine[0] in (drgns[0], None)
    # The same exception stands in the first trace.
    first = told["findings"][lockup["frames"][0]]
    assert first["exact"] and first["inlines"] in [frame["inlines"] for frame in frames]


@pytest.mark.parametrize("name", ["6.1", pytest.param("6.12", marks=pytest.mark.matrix)])
def test_frames_that_tail_calls_elide_are_named(name):
    made = dump("spin-panic", name)
    told = report(made.directory / "console", "--vmlinux", made.vmlinux)
    noted = {
        frame["symbol"]: frame["notes"]
        for frame in told["findings"]
        if any("elided" in note for note in frame["notes"])
    }
    # panic() calls dump_stack(), which ends with a jump to dump_stack_lvl().
    assert list(noted) == ["dump_stack_lvl"]
    assert "called by way of dump_stack, elided" in noted["dump_stack_lvl"][0]


def test_a_module_without_debug_information_is_told_of():
    made = dump("spin-panic")
    said, status = kdecode(made.directory / "console", "--vmlinux", made.vmlinux, "--brief")
    assert status == 0
    assert "LIMIT: no debug information of faultlab: give --module FILE" in said
    line = next(line for line in said.splitlines() if "native_queued_spin_lock_slowpath" in line)
    assert re.match(r" #0  native_queued_spin_lock_slowpath\+0x\w+/0x\w+  kernel/locking/", line)


def test_addresses_as_arguments_and_in_a_text():
    vmlinux = kernel("6.1").vmlinux
    asked = return_addresses(vmlinux, 20, seed=11)
    chains = open_debug_file(str(vmlinux)).chains(address - 1 for address in asked)
    expected = [lines(chains[address - 1]) for address in asked]
    words = [f"{address:x}" for address in asked]
    by_words = report("--vmlinux", vmlinux, *words)
    by_text = report("--vmlinux", vmlinux, "-", text="\n".join(words))
    for told in (by_words, by_text):
        found = [
            [(i["file"], i["line"] or 0, i["column"] or 0) for i in frame["inlines"]]
            for frame in told["findings"]
        ]
        assert found == expected
    exact = report("--vmlinux", vmlinux, "--exact", *words)
    assert all(frame["exact"] for frame in exact["findings"])
    assert [f["inlines"] for f in exact["findings"]] != [f["inlines"] for f in told["findings"]]


def test_kaslr_is_told_by_addresses_with_symbols():
    vmlinux = kernel("6.1").vmlinux
    shift = 0x1C200000
    named = {name: (address, size) for name, _, address, size in functions(vmlinux)}
    lines = []
    for name in ("__schedule", "schedule_timeout", "do_nanosleep", "hrtimer_nanosleep"):
        address, size = named[name]
        lines.append(f"=> {name} ({address + size // 2 + shift:x})")
    told = report("--vmlinux", vmlinux, "-", text="\n".join(lines))
    assert all(frame["inlines"] for frame in told["findings"])
    address, size = named["do_nanosleep"]
    plain = f"{address + size // 2 + shift:#x}"
    (frame,) = report("--vmlinux", vmlinux, "--kaslr", f"{shift:x}", plain)["findings"]
    assert frame["symbol"] == "do_nanosleep"
    assert frame["inlines"] == told["findings"][2]["inlines"]
    said, status = kdecode("--vmlinux", vmlinux, hex(named["do_nanosleep"][0] + 0x30000000))
    assert status == 2 and "--kaslr OFFSET" in " ".join(said.split())


def test_another_build_gets_no_lines():
    made = dump("spin-panic")
    console = made.console.replace("+0x118/0x2f4", "+0x118/0x2a4").replace(made.kernel.abi, "6.9.9")
    told, status = kdecode("--vmlinux", made.vmlinux, "--json", "-", "-", text=console)
    told = json.loads(told)
    assert status == 2 and told["verdict"] == "inconclusive"
    assert any("6.9.9" in limit for limit in told["limits"])
    assert not any(i["line"] for frame in told["findings"] for i in frame["inlines"])


def test_debug_directories_and_the_number_of_frames():
    made = dump("spin-panic")
    console = made.directory / "console"
    folder = made.kernel.directory
    told = report(console, "--debug-dir", folder, "--debug-dir", made.module.parent, "-n", "3")
    assert [len(trace["frames"]) for trace in told["traces"]] == [3, 3]
    assert all(frame["inlines"] for frame in told["findings"])


def test_an_unpacked_package_is_a_debug_directory(tmp_path):
    made = kernel("6.1")
    boot = tmp_path / "usr" / "lib" / "debug" / "boot"
    modules = tmp_path / "usr" / "lib" / "debug" / "lib" / "modules"
    boot.mkdir(parents=True)
    (boot / f"vmlinux-{made.abi}").symlink_to(made.vmlinux)
    for release in ("5.0.0", made.abi):
        (modules / release / "kernel" / "fs").mkdir(parents=True)
    (modules / "5.0.0" / "kernel" / "fs" / "ext4.ko").symlink_to(made.debug / "jbd2.ko.debug")
    ext4 = modules / made.abi / "kernel" / "fs" / "ext4.ko"
    ext4.symlink_to(made.debug / "ext4.ko.debug")
    sizes = {name: size for name, _, _, size in functions(made.debug / "ext4.ko.debug")}
    text = (
        f"CPU: 0 PID: 1 Comm: x Not tainted {made.abi} #1\nCall Trace:\n schedule+0x5e/0xd0\n"
        f" ext4_sync_file+0x12/{sizes['ext4_sync_file']:#x} [ext4]\n"
    )
    told = report("--debug-dir", tmp_path, "--brief", "-", text=text)
    assert told["findings"][1]["inlines"][-1]["function"] == "ext4_sync_file"
    assert not told["limits"] and not told["notes"]


def test_a_debug_directory_goes_before_this_machines_kernel():
    folder = kernel("6.1").directory
    told = report("--debug-dir", folder, "-", text="[<0>] schedule+0x1/0xc7\n")
    assert told["findings"][0]["inlines"] and not told["notes"]


@pytest.mark.parametrize(
    "words, text, problem",
    [
        (["no-such-file"], None, "no-such-file+0x0: "),
        (["-"], "nothing here\n", "no back trace in standard input"),
        (["oops.txt"], None, "there is no file oops.txt: it was taken for a function"),
        (["12x"], None, "12x is neither a file nor an address"),
        (["-", "--vmlinux", "/nowhere"], "schedule+0x1/0x2\n", "there is no file /nowhere"),
        (["-", "--vmlinux", "/etc/passwd"], "schedule+0x1/0x2\n", "/etc/passwd can't be read"),
        (["-", "--vmlinux", sys.executable], "schedule+0x1/0x2\n", "no debug information"),
        (["-", "--debug-dir", "/nowhere"], "schedule+0x1/0x2\n", "there is no directory /nowhere"),
        (["-", "--source", "/nowhere"], "schedule+0x1/0x2\n", "there is no directory /nowhere"),
        (["-", "--vmlinux", "/etc/passwd"], "schedule+0x1/0x2\n", "give a vmlinux or .ko file"),
        (["-", "-n", "0"], "", "is no number of frames"),
        ([], None, "required"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(words, text, problem):
    said, status = kdecode(*words, text=text or "")
    if problem.startswith("no-such-file"):
        assert "no-such-file is neither a file nor an address" in said and status == 1
        return
    assert problem in said and status in (1, 2)


def test_without_a_vmlinux_the_package_is_named():
    said, status = kdecode("-", text="CPU: 0 PID: 1 Comm: x Not tainted 6.1.0-99-amd64 #1\n"
                           "RIP: 0010:schedule+0x1/0x2\n")  # fmt: skip
    assert status == 2
    assert "apt-get install linux-image-6.1.0-99-amd64-dbg" in " ".join(said.split())


def test_escapes_do_not_reach_the_terminal():
    said, _ = kdecode("--brief", "-", text="BUG: \x1b[2Jred\nRIP: 0010:f+0x1/0x2 [m]\n"
                      "CPU: 0 PID: 1 Comm: \x1b]0;x Not tainted 6.1.0 #1\n")  # fmt: skip
    assert "\x1b" not in said and "\\x1b[2Jred" in said


def test_long_work_shows_progress_on_a_terminal_and_leaves_nothing(tmp_path):
    vmlinux = kernel("6.1").vmlinux
    file = tmp_path / "addresses"
    file.write_text("".join(f"{a:x}\n" for a in return_addresses(vmlinux, 3000, seed=5)))
    leader, follower = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, "--brief", "--vmlinux", str(vmlinux), str(file)],
        stdout=subprocess.DEVNULL,
        stderr=follower,
        env={**os.environ, "FAULTKIT_CACHE": str(tmp_path / "cache")},
    ) as process:
        os.close(follower)
        said = b""
        while True:
            try:
                piece = os.read(leader, 4096)
            except OSError:
                break
            if not piece:
                break
            said += piece
        assert process.wait(timeout=300) == 0
    os.close(leader)
    assert re.search(rb"unit \d+ of \d+", said)
    assert said.endswith(b"\r\x1b[K")


def test_debug_information_comes_from_a_debuginfod_server(tmp_path):
    made = kernel("6.1")
    build_id = open_elf(str(made.vmlinux)).build_id
    folder = tmp_path / "served" / "buildid" / build_id
    folder.mkdir(parents=True)
    (folder / "debuginfo").symlink_to(made.vmlinux)
    command = [sys.executable, "-m", "http.server", "0", "--bind", "127.0.0.1"]
    with subprocess.Popen(
        [*command[:1], "-u", *command[1:]], cwd=tmp_path / "served", stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True,
    ) as server:  # fmt: skip
        try:
            port = re.search(r"port (\d+)", server.stdout.readline())[1]
            text = (
                f"CPU: 0 PID: 1 Comm: x Not tainted 6.1.0-0-none #1 {build_id}\n"
                "RIP: 0010:schedule+0x1/0xc7\n"
            )
            urls = f"http://127.0.0.1:1 http://127.0.0.1:{port}"
            variables = {"DEBUGINFOD_URLS": urls, "DEBUGINFOD_CACHE_PATH": str(tmp_path / "kept")}
            told, status = kdecode("--json", "-", "-", text=text, **variables)
            assert status == 0, told
            (frame,) = json.loads(told)["findings"]
            assert frame["inlines"][-1]["file"].endswith("kernel/sched/core.c")
            assert (tmp_path / "kept" / build_id / "debuginfo").is_file()
        finally:
            server.terminate()
    told, status = kdecode("--json", "-", "-", text=text, **variables)  # kept: no server needed
    assert status == 0, told


def test_an_offset_beyond_a_function_is_no_place_in_the_next():
    vmlinux = kernel("6.1").vmlinux
    (size,) = [size for name, _, _, size in functions(vmlinux) if name == "schedule"]
    words = f"schedule+{size + 0x40:#x}", f"schedule+{size:#x}/{size:#x}"
    beyond, last = report("--vmlinux", vmlinux, *words)["findings"]
    assert beyond["inlines"] == [] and "bytes long" in beyond["notes"][0]
    assert last["inlines"][-1]["function"] == "schedule"  # the call is its last instruction


@pytest.mark.parametrize("how", ["utf-16", "xz", "gz"])
def test_texts_in_other_clothes(how, tmp_path):
    text = "schedule+0x5a/0xc7\n"
    pack = {"utf-16": lambda t: t.encode("utf-16"), "xz": lambda t: lzma.compress(t.encode()),
            "gz": lambda t: gzip.compress(t.encode())}[how]  # fmt: skip
    (tmp_path / "log").write_bytes(pack(text))
    (frame,) = report("--vmlinux", kernel("6.1").vmlinux, tmp_path / "log")["findings"]
    assert frame["symbol"] == "schedule"


def test_a_dump_is_no_text():
    said, status = kdecode(sys.executable)
    assert status == 1 and "is a dump or a program, no text; open it in crash" in said
