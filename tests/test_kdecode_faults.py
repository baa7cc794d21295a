"""What `kdecode` says of the instruction that a program's fault stopped."""

import json
import subprocess

import pytest
from test_kdecode_gdb import gdb

PROGRAM = """\
#include <emmintrin.h>
#include <stdlib.h>
struct ops { long size; int (*run)(int); };
volatile int sink;
__attribute__((noinline)) int call(struct ops *ops) { return ops->run(3) + 1; }
__attribute__((noinline)) __m128i load(char *from) { return _mm_load_si128((__m128i *) from); }
__attribute__((noinline)) int trap(int *number) { ++*number; __builtin_trap(); }
int main(int argc, char **argv)
{
    struct ops ops = {0, NULL};
    char text[64] __attribute__((aligned(16)));
    switch (argv[1][0]) {
    case 'c': return call(&ops);
    case 'l': sink = _mm_cvtsi128_si32(load(text + 1)); return 0;
    default: return trap(&argc);
    }
}
"""


@pytest.mark.parametrize(
    "fault, function, said",
    [
        ("c", None, "no code can be there: a call or jump through a null pointer"),
        ("l", "load", "not at a multiple of 16, as movdqa needs it"),
        ("t", "trap", "__builtin_trap(), or code that the compiler took for unreachable"),
    ],
)
def test_what_the_instruction_did(tmp_path, fault, function, said):
    (tmp_path / "faults.c").write_text(PROGRAM)
    program, path = tmp_path / "faults", tmp_path / "report.json"
    subprocess.run(["gcc", "-g", "-O2", "-w", str(tmp_path / "faults.c"), "-o", str(program)],
                   check=True, timeout=120)  # fmt: skip
    shown = gdb(program, f"run {fault}", f"kdecode --json {path}")
    assert path.exists(), shown
    frame = json.loads(path.read_text())["findings"][0]
    assert frame["symbol"] == function
    assert frame["notes"] and frame["notes"][-1].endswith(said)
    assert function or frame["module"] is None
