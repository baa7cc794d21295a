"""`kdecode` in a real gdb: on faults, threads and signal handlers of programs, built by gcc and
clang, with and without optimization; and on a kernel's vmlinux."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from harness import gdb_program

EXTENSION = Path(__file__).parent.parent / "gdb_ext/faultkit.py"

PROGRAM = Path(__file__).parent / "programs/victim.c"
SOURCE = PROGRAM.read_text()

COMPILERS = [
    pytest.param(compiler, options, id=f"{compiler}{options.split()[0]}")
    for compiler in ("gcc", "clang")
    for options in ("-O2", "-O0", "-O2 -gdwarf-4")
    if (compiler, options) != ("clang", "-O2 -gdwarf-4")
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the programs are, with their source."""
    folder = tmp_path_factory.mktemp("kdecode")
    (folder / "victim.c").write_text(SOURCE)
    return folder


def built(folder, compiler, options):
    program = folder / ("victim-" + re.sub(r"\W", "", compiler + options))
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    if not program.exists():
        subprocess.run(
            [compiler, "-g", *options.split(), "-pthread", "victim.c", "-o", str(program)],
            cwd=folder, check=True, timeout=120,
        )  # fmt: skip
    return program


def gdb(program, *commands):
    """What gdb prints for commands, after the extension was sourced."""
    words = [gdb_program(), "-q", "-nx", "-batch", "-ex", f"source {EXTENSION}"]
    for each in ("set debuginfod enabled off", "set startup-with-shell off", *commands):
        words += ["-ex", each]
    done = subprocess.run(
        [*words, str(program)], capture_output=True, text=True, timeout=120, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout + done.stderr


def report(folder, program, argument, words="", *before):
    path = folder / "report.json"
    path.unlink(missing_ok=True)
    said = gdb(program, f"run {argument}", *before, f"kdecode {words} --json {path}")
    assert path.exists(), said
    return json.loads(path.read_text())


def line_of(text):
    """The number of the one line of the source that holds a text."""
    (number,) = [n for n, line in enumerate(SOURCE.split("\n"), 1) if text in line]
    return number


@pytest.mark.parametrize("compiler, options", COMPILERS)
def test_a_fault_s_operand(folder, compiler, options):
    found = report(folder, built(folder, compiler, options), "f")
    frame = found["findings"][0]
    assert frame["symbol"] == "walk" or frame["symbol"] == "packet_len"
    (note,) = frame["notes"]
    assert re.search(r"\w+ = 0x10, read of 0x1c|read of \S+->next->len: \S+->next is 0x10", note)
    if options.startswith("-O2"):
        assert re.search(r"read of (queue->head|packet)->next->len: ", note)
        assert next(i for i in frame["inlines"])["line"] in (
            line_of("return packet->next->len"), line_of("packet_len(queue->head)"),
        )  # fmt: skip
    assert next(i for i in frame["disassembly"] if i["current"])["address"] == frame["address"]
    assert frame["inlines"][0]["line"] in [number for number, _ in frame["source"]]


@pytest.mark.parametrize("compiler, options", COMPILERS)
def test_values_are_those_that_were_passed(folder, compiler, options):
    """Whatever is claimed of the arguments is true, in each of the three calls."""
    found = report(folder, built(folder, compiler, options), "f", "--no-dis --no-source")
    calls = [frame for frame in found["findings"] if frame["symbol"] == "walk"]
    assert len(calls) == 3
    seen = 0
    for depth, frame in enumerate(calls):
        arguments = frame["arguments"]
        for name, right in (("depth", str(depth)), ("why", None)):
            value = arguments[name]
            if value["unavailable"]:
                continue
            seen += 1
            if right is not None:
                assert value["value"] == right
            else:
                assert value["meaning"] == '"draining"'
        assert frame["locals"]["local"]["value"] == str(2 * depth)
    assert seen >= (4 if (compiler, options) == ("gcc", "-O2") else 2)
    if options == "-O0":
        assert seen == 6


def test_no_caller_saved_register_above_the_first_frame(folder):
    """clang's location lists leave the arguments in registers that the calls below changed."""
    program = built(folder, "clang", "-O2")
    found = report(folder, program, "t", "--all --no-dis --no-source")
    for frame in found["findings"]:
        values = [*frame["arguments"].values(), *frame["locals"].values()]
        for value in values:
            if not frame["exact"] and value["origin"]:
                plain = re.fullmatch(r"(r[a-z0-9]+)(, unwound)?", value["origin"])
                kept = ("rbx", "rbp", "rsp", "r12", "r13", "r14", "r15")
                assert plain is None or plain[1] in kept, value


def test_a_write_and_a_division(folder):
    program = built(folder, "gcc", "-O2")
    (note,) = report(folder, program, "w")["findings"][0]["notes"]
    assert re.fullmatch(
        r"\w+ = 0x0, write to queue->owner->name: queue->owner is 0x0 \(NULL\)", note
    )
    (note,) = report(folder, program, "d")["findings"][0]["notes"]
    assert re.fullmatch(r"division by \w+ = 0x0", note)


def test_poison(folder):
    (note,) = report(folder, built(folder, "gcc", "-O2"), "p")["findings"][0]["notes"]
    assert "queue->head->next is 0x6b6b6b6b6b6b6b6b" in note
    assert "use after free" in note


def test_frames_that_a_signal_interrupted(folder):
    """A handler's caller is no caller: the interrupted frame stands where it was stopped."""
    program = built(folder, "gcc", "-O2")
    found = report(folder, program, "s", "--no-dis", "signal SIGUSR1")
    frames = found["findings"]
    names = [frame["symbol"] for frame in frames]
    place = names.index("<signal handler called>")
    assert frames[place - 1]["symbol"] == "handler"
    assert frames[place - 1]["locals"]["got"]["value"] == "10"
    assert frames[place + 1]["exact"]
    caller = next(frame for frame in frames if frame["symbol"] == "interrupted")
    assert caller["locals"]["seen"]["value"] == "42"


def test_all_threads_and_the_selected_one(folder):
    program = built(folder, "gcc", "-O2")
    found = report(folder, program, "t", "--all --brief")
    assert len(found["traces"]) == 3
    second = report(folder, program, "t", "--no-dis", "thread 2")
    assert len(second["traces"]) == 1
    frame = next(frame for frame in second["findings"] if frame["symbol"] == "worker")
    assert frame["locals"]["number"]["value"] == "1"


def test_a_core_is_as_the_process(folder, tmp_path):
    program = built(folder, "gcc", "-O2")
    live = report(folder, program, "f", "--no-source")
    core = tmp_path / "core"
    gdb(program, "run f", f"gcore {core}")
    path = tmp_path / "core.json"
    said = gdb(program, f"core-file {core}", f"kdecode --no-source --json {path}")
    assert path.exists(), said
    dead = json.loads(path.read_text())
    assert dead["target"]["kind"] == "core"
    for one, other in zip(live["findings"], dead["findings"]):
        assert one["inlines"] == other["inlines"]
        assert [i["text"] for i in one["disassembly"]] == [i["text"] for i in other["disassembly"]]
        assert one["notes"] == other["notes"]
        for name, value in one["locals"].items():
            assert other["locals"][name]["value"] == value["value"]


def test_a_tree_of_another_version_is_told(folder, tmp_path):
    """--source with lines moved: said, as the function's name is not where it was."""
    program = built(folder, "gcc", "-O2")
    (tmp_path / "victim.c").write_text("\n" * 9 + SOURCE)
    said = gdb(program, "run f", f"kdecode --no-dis --source {tmp_path}")
    assert "does not match the build" in said
    (tmp_path / "victim.c").write_text(SOURCE)
    said = gdb(program, "run f", f"kdecode --no-dis --source {tmp_path}")
    assert "does not match the build" not in said
    assert "return packet_len(queue->head) + local;" in said


def test_places_without_a_process(folder):
    said = gdb(built(folder, "gcc", "-O2"), "kdecode walk divide+4 --context 2")
    assert re.search(r"#0 +0x[0-9a-f]+ walk\+0x0", said)
    assert re.search(r"#1 +0x[0-9a-f]+ divide\+0x4", said)
    assert f"victim.c:{line_of('return number / by')}" in said
    assert "no address or symbol" in gdb(built(folder, "gcc", "-O2"), "kdecode nothing_such")


def test_page_and_text_name_the_same_frames(folder):
    page = folder / "page.html"
    program = built(folder, "gcc", "-O2")
    said = gdb(program, "run f", f"kdecode --html {page}")
    text = page.read_text()
    heads = re.findall(r"^#\d+ +0x[0-9a-f]+ .*$", said, re.M)
    assert heads
    for head in heads:
        assert head in text
    assert text.count("<details") == len(heads)


def test_hostile_strings_do_not_steer_the_terminal(folder):
    """A name in memory with escape codes is escaped."""
    program = built(folder, "gcc", "-O2")
    said = gdb(program, "run f", r"set var *(char*)($rsp+0)=27", "kdecode")
    assert "\x1b" not in said.replace("\x1b[m", "")


def test_a_kernel_s_vmlinux():
    """Places in a kernel that gdb has only the vmlinux of."""
    if "FAULTKIT_ROOT_SUITE" in os.environ:
        pytest.skip("a root can't fetch kernels")
    from lab.kernels import kernel

    vmlinux = kernel("6.1").vmlinux
    said = gdb(vmlinux, "kdecode schedule+0x5a __mutex_lock.constprop.0 --context 2")
    assert re.search(r"schedule  kernel/sched/core\.c:\d+", said)
    assert re.search(r"=>.* call +0x[0-9a-f]+ <__schedule>", said)
    assert re.search(r"#1 +0x[0-9a-f]+ __mutex_lock\.constprop\.0\+0x0", said)


CLASSES = """\
#include <algorithm>
#include <functional>
#include <map>
#include <string>
#include <vector>
namespace ns { namespace {
template <class T> struct Box { T value; int cmp(const T &o) const { return value < o ? -1 : 1; } };
struct Base { virtual ~Base() = default; virtual int go(int x, const std::string &s) = 0; };
struct Derived final : Base { int k = 3; int go(int x, const std::string &s) override; };
int Derived::go(int x, const std::string &s) {
  std::vector<int> w{5, 4, 3, 99, x};
  std::sort(w.begin(), w.end(), [&](int a, int b) { return a < b + k; });
  std::map<std::string, int> m{{s, 1}, {"b", x}};
  return m[s] + w[0] + Box<int>{x}.cmp(k);
}
}
int run(std::function<int(int)> f, int n) { return f(n); }
}
static int __attribute__((noinline)) twice(int a, int *b) { return *b += a ? twice(a - 1, b) : 1; }
int main(int argc, char **) {
  ns::Derived d;
  int n = argc;
  return ns::run([&](int z) { return d.go(z, "a"); }, 7) + twice(3, &n);
}
"""


@pytest.mark.parametrize("options", ["-O2", "-O0"])
def test_places_in_a_file_with_demangled_names(tmp_path, options):
    """Templates, lambdas, parts and clones of functions: gdb shows their names otherwise than the
    file's symbol table has them."""
    source = tmp_path / "classes.cc"
    source.write_text(CLASSES)
    program = tmp_path / "classes"
    subprocess.run(["g++", "-g", options, str(source), "-o", str(program)], check=True, timeout=120)
    code = subprocess.run(["objdump", "-d", "--no-show-raw-insn", "-j", ".text", str(program)],
                          capture_output=True, text=True, check=True, timeout=120)  # fmt: skip
    calls = re.findall(r"^ *([0-9a-f]+):\tcallq? .*\n *([0-9a-f]+):", code.stdout, re.M)
    returns = [after for _, after in calls[:: max(1, len(calls) // 40)]]
    path = tmp_path / "places.json"
    words = " ".join(f"0x{each}" for each in returns)
    said = gdb(program, f"kdecode {words} --no-dis --json {path}")
    assert path.exists(), said
    frames = json.loads(path.read_text())["findings"]
    assert len(frames) == len(returns)
    expected = subprocess.run(
        ["addr2line", "-a", "-i", "-e", str(program), *(f"{int(a, 16) - 1:x}" for a in returns)],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    chains = expected.stdout.split("\n0x")
    compared = 0
    for frame, chain in zip(frames, chains):
        lines = [line.split(" (")[0].rpartition(":")[2] for line in chain.split("\n")[1:] if line]
        if lines != ["?"]:
            assert [str(each["line"]) for each in frame["inlines"]] == lines, frame["symbol"]
            compared += 1
    assert compared > len(returns) * 3 // 4
