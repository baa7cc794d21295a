"""Values of programs whose debug information lies in several units or files: link-time
optimization, type units, dwz; and of types that only some languages have."""

import json
import shutil
import subprocess

import pytest
from test_kdecode_gdb import gdb

POINTS = """\
struct point { int x, y; const char *name; };
enum color { RED = 1, GREEN = 2 };
int end(struct point *at, enum color color, long double wide);
"""
MAIN = """\
#include "points.h"
int main(int argc, char **argv)
{
    struct point here = {argc, 5, "here"};
    return end(&here, GREEN, -2.5L) + here.x;
}
"""
END = """\
#include <stdlib.h>
#include "points.h"
__attribute__((noinline, noipa)) static int deeper(struct point at, enum color color, int *sum)
{
    if (*sum > at.y)
        abort();
    return color;
}
int end(struct point *at, enum color color, long double wide)
{
    volatile int sum = at->y + (int) color;
    struct point copy = *at;
    volatile long double kept = wide;
    return deeper(copy, color, (int *) &sum) + copy.x + (int) kept;
}
"""
BUILDS = {
    "plain": (["gcc", "-g", "-O0"], None),
    "lto": (["gcc", "-g", "-O0", "-flto"], None),
    "types": (["g++", "-g", "-O0", "-fdebug-types-section"], None),
    "dwz": (["gcc", "-g", "-O0"], "one"),
    "shared": (["gcc", "-g", "-O0"], "shared"),
}


def build(folder, kind):
    """A program, its debug information packed as `kind` says."""
    command, packed = BUILDS[kind]
    if packed is not None and shutil.which("dwz") is None:
        pytest.skip("dwz is not installed")
    (folder / "points.h").write_text(POINTS)
    suffix = "cc" if command[0] == "g++" else "c"
    for name, text in (("main", MAIN), ("end", END)):
        (folder / f"{name}.{suffix}").write_text(text)

    def run(*words):
        subprocess.run(words, cwd=folder, check=True, timeout=120)

    sources = [f"main.{suffix}", f"end.{suffix}"]
    for name in ("program", "other"):  # what only one file has is not shared
        run(*command, *sources, "-o", name)
    if packed == "one":
        run("dwz", "program")
    elif packed == "shared":
        run("dwz", "-m", "shared.debug", "program", "other")
        assert b".gnu_debugaltlink" in (folder / "program").read_bytes()
    if b".debug_types" in (folder / "program").read_bytes():
        pytest.skip("this compiler writes DWARF 4, whose section of types is not read")
    return folder / "program"


def frames_of(program, path):
    """What kdecode says of the frames of a program that has aborted, by functions."""
    said = gdb(program, "run", f"kdecode --no-dis --no-source --json {path}")
    assert path.exists(), said
    return {
        inline["function"]: frame
        for frame in json.loads(path.read_text())["findings"]
        for inline in frame["inlines"]
    }


@pytest.mark.parametrize("kind", BUILDS)
def test_values_whose_types_are_elsewhere(tmp_path, kind):
    frames = frames_of(build(tmp_path, kind), tmp_path / "report.json")
    inner = frames["deeper"]
    values = {**inner["arguments"], **inner["locals"]}
    assert values["color"]["type"] == "enum color"
    assert values["color"]["value"] == "GREEN (2)"
    assert values["at"]["type"] == "struct point"
    assert values["at"]["value"].startswith("{x = 1, y = 5, name = 0x")
    outer = frames["end"]["locals"]
    assert outer["kept"]["value"] == "-2.5" and outer["kept"]["type"].endswith("long double")
    assert outer["sum"]["value"] == "7"
    assert all(each["type"] != "void" for each in {**values, **outer}.values())


SHAPES = """\
enum Shape { Circle(u32), Rect { w: u32, h: u32 }, Unit }
#[inline(never)]
fn stop(some: &Option<u32>, shape: &Shape) -> ! {
    let (copied, kept, none) = (*some, match shape {
        Shape::Rect { w, h } => Shape::Rect { w: *w, h: *h },
        Shape::Circle(r) => Shape::Circle(*r),
        Shape::Unit => Shape::Unit,
    }, Shape::Unit);
    if std::hint::black_box((&copied, &kept, &none)).0.is_some() { std::process::abort() }
    loop {}
}
fn main() { stop(&Some(7), &Shape::Rect { w: 2, h: 3 }) }
"""


def test_enums_of_rust(tmp_path):
    """The variant that the discriminant tells, and nothing for the others."""
    if shutil.which("rustc") is None:
        pytest.skip("rustc is not installed")
    (tmp_path / "shapes.rs").write_text(SHAPES)
    program = tmp_path / "shapes"
    subprocess.run(["rustc", "-g", "--edition=2021", str(tmp_path / "shapes.rs"), "-o", program],
                   check=True, timeout=300)  # fmt: skip
    told = frames_of(program, tmp_path / "report.json")["stop"]["locals"]
    assert told["copied"]["value"] == "{Some = {__0 = 7}}"
    assert told["kept"]["value"] == "{Rect = {w = 2, h = 3}}"
    assert told["none"]["value"] == "{Unit = {}}"


CLONED = """\
#include <stdlib.h>
static int __attribute__((noinline)) deeper(int *sum, int depth, int step, const char *why)
{
    if (!depth) {
        if (*sum > 2 && why)
            abort();
        return 0;
    }
    *sum += step;
    return deeper(sum, depth - 1, step, why) + *sum;
}
int main(int argc, char **argv)
{
    int sum = argc;
    return deeper(&sum, 4, 1, "why");
}
"""


@pytest.mark.parametrize("build_id", ["sha1", "none"])
@pytest.mark.parametrize("below", ["", ".debug"])
def test_what_a_debug_link_names(tmp_path, build_id, below):
    """The file that gdb finds by .gnu_debuglink; another one of that name is not it.  Clones and
    parts have their own names, not those that gdb makes of them."""
    (tmp_path / "cloned.c").write_text(CLONED)
    folder = tmp_path / below
    folder.mkdir(exist_ok=True)
    program, debug = tmp_path / "cloned", folder / "cloned.debug"

    def run(*words):
        subprocess.run(list(map(str, words)), cwd=tmp_path, check=True, timeout=120)

    run("gcc", "-g", "-O2", f"-Wl,--build-id={build_id}", "cloned.c", "-o", program)
    run("objcopy", "--only-keep-debug", program, debug)
    run("strip", program)
    run("objcopy", f"--add-gnu-debuglink={debug}", program)
    frame = frames_of(program, tmp_path / "report.json")["deeper"]
    assert frame["inlines"][-1]["file"].endswith("cloned.c") and frame["inlines"][-1]["line"]
    assert "[" not in frame["symbol"]
    run("gcc", "-g", "-O1", f"-Wl,--build-id={build_id}", "cloned.c", "-o", debug)
    assert "deeper" not in frames_of(program, tmp_path / "other.json")


ZOO = """\
#include <cstdlib>
struct Der { int dx; static int shared; virtual ~Der() {} };
int Der::shared = 5;
struct Empty {};
static int stop(int n, _Complex double both, _Complex float small)
{
    int many[n];
    for (int i = 0; i < n; i++)
        many[i] = i;
    Der der; der.dx = 3;
    Empty none;
    int rows[2][3] = {{1, 2, 3}, {4, 5, 6}};
    short deep[2][1][2] = {{{1, 2}}, {{3, 4}}};
    if (many[n - 1] + rows[1][1] + deep[1][0][0] + der.dx > 0)
        abort();
    return sizeof none;
}
int main(int argc, char **)
{
    _Complex double both; __real__ both = 1.5; __imag__ both = -2.5;
    return stop(argc + 3, both, both);
}
"""


@pytest.mark.parametrize("compiler", ["g++", "clang++ -gdwarf-4", "clang++ -gdwarf-5"])
def test_arrays_and_members_that_are_not_where_they_seem(tmp_path, compiler):
    """Static members lie elsewhere; bounds that a variable has are no numbers."""
    compiler, *options = compiler.split()
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    (tmp_path / "zoo.cc").write_text(ZOO)
    program = tmp_path / "zoo"
    subprocess.run([compiler, "-g", *options, "-O0", "-w", str(tmp_path / "zoo.cc"), "-o", program],
                   check=True, timeout=120)  # fmt: skip
    frame = frames_of(program, tmp_path / "report.json")["stop"]
    values = {n: v["value"] for n, v in {**frame["arguments"], **frame["locals"]}.items()}
    assert values["both"] == values["small"] == "1.5 + -2.5i"
    assert values["rows"] == "{{1, 2, 3}, {4, 5, 6}}"
    assert values["deep"] == "{{{1, 2}}, {{3, 4}}}"
    assert values["der"].endswith("dx = 3}") and "shared" not in values["der"]
    assert values["many"].startswith("{...} at 0x")
    assert values["none"] == "{}"
