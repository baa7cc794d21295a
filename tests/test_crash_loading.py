"""faultkit.so in crashes of all ages, and where it can't be loaded: one clear line."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from crash_session import CHECKOUT, EXTENSION, Session, built, command
from lab.dumps import dump

SOURCE = CHECKOUT / "crash_ext/src"
INCLUDE = "/usr/include/crash"


def copy(directory):
    for package in ("faultkit", "crash_ext"):
        shutil.copytree(CHECKOUT / package, directory / package, ignore=ignored, symlinks=True)


def build(directory, **settings):
    """faultkit.so built in a copy of the packages; `settings` are make's."""
    words = [f"{name}={value}" for name, value in settings.items()]
    make = ["make", "-s", "-C", str(directory / "crash_ext/src"), *words]
    subprocess.run(make, check=True, timeout=300)
    return directory / "crash_ext/faultkit.so"


def ignored(_, names):
    return [name for name in names if name.endswith((".so", "__pycache__"))]


@pytest.fixture(scope="module")
def quiet():
    return dump("quiet")


@pytest.mark.parametrize(
    ("kernel", "root"),
    [
        ("6.1", "none"),
        pytest.param("5.10", "bookworm", marks=pytest.mark.matrix),
        pytest.param("6.1", "sid", marks=pytest.mark.matrix),
        pytest.param("7", "sid", marks=pytest.mark.matrix),
    ],
)
def test_one_binary_serves_all_crashes(kernel, root):
    """This machine's own, which is Debian 12's 8.0.2 there, and sid's 9.0.2, as all other tests
    Debian 13's 8.0.6."""
    made = dump("sleeping", kernel)
    with Session(made, root) as session:
        assert session.loaded.endswith(f"{EXTENSION}: shared object loaded\n")
        session.run(f"mod -s faultlab {made.module}")
        report = session.run("deadlock --stacks none")
        if "| crash 8.0.2" in report and kernel == "6.1":
            assert "VERDICT: INCONCLUSIVE" in report
            said = " ".join(report.split())
            assert re.search(r"LIMIT: crash 8.0.2 lists \d+ of \d+ tasks; crash before 8.0.4", said)
        else:
            assert "VERDICT: DEADLOCK" in report


def test_an_unknown_layout_is_refused(quiet, tmp_path):
    """As of a crash whose program_context has another field."""
    (tmp_path / "include").mkdir()
    header = (tmp_path / "include/defs.h").write_text
    with open(f"{INCLUDE}/defs.h") as file:
        text = file.read()
    copy(tmp_path)
    field = "char *program_path;"
    assert field in text
    header(text.replace(field, "long one_more;" + field, 1))
    extension = build(tmp_path, CRASH_INCLUDE=tmp_path / "include")
    with Session(quiet, extension=None) as session:
        said = session.run(f"extend {extension}")
        line, *rest = said.splitlines()
        assert line.startswith("faultkit: crash 8.0.6 lays out program_context.")
        assert "make crash-ext CRASH_INCLUDE=DIR" in line
        assert all("shared object unloaded" in text for text in rest)
        assert "command not found" in session.run("deadlock")
        # A good one still loads.
        assert session.run(f"extend {EXTENSION}") == f"{EXTENSION}: shared object loaded\n"


def test_a_library_older_than_the_files_beside_it_is_told(quiet, tmp_path):
    used = re.findall(r"_faultkit\.(\w+)", (CHECKOUT / "crash_ext/embedded.py").read_text())
    assert "read_each" in used
    copy(tmp_path)
    source = tmp_path / "crash_ext/src/memory.c"
    source.write_text(source.read_text().replace('{"read_each"', '{"not_yet_known"'))
    with Session(quiet, extension=build(tmp_path)) as session:
        assert session.run("deadlock") == (
            "deadlock: faultkit.so is older than the files beside it; build it (make crash-ext) "
            "and start crash again\n"
        )
    loaded = "import crash_ext.embedded as host\nprint(*sorted(host._TAKEN))"
    with Session(quiet) as session:
        assert session.python(tmp_path, loaded).split() == sorted(set(used))


@pytest.mark.parametrize("library", ["/nonexistent", "libc.so.6"])
def test_no_python_is_one_line(quiet, library):
    with Session(quiet, FAULTKIT_LIBPYTHON=library) as session:
        first, *rest = session.loaded.splitlines()
        assert first == (
            "faultkit: FAULTKIT_LIBPYTHON names no library of Python that loads; "
            "unset it, or name a libpython3.X.so.1.0"
        )
        assert len(rest) == 1 and "shared object unloaded" in rest[0]  # crash's own words
        assert "hexadecimal: 1" in session.run("eval 1")


def test_foreign_pythons_in_the_environment_do_no_harm(quiet, tmp_path):
    (tmp_path / "python3").symlink_to(sys.executable)
    environment = {"PYTHONHOME": "/nonexistent", "PATH": f"{tmp_path}:/usr/bin:/bin:/usr/sbin"}
    with Session(quiet, **environment) as session:
        assert session.loaded == f"{EXTENSION}: shared object loaded\n"
        source = "import os\nprint(os.environ['PYTHONHOME'], os.environ['PATH'])"
        told = session.python(tmp_path, source)
        assert told == f"/nonexistent {environment['PATH']}\n"


def test_a_name_that_is_taken_is_left_to_its_owner(quiet, tmp_path):
    other = tmp_path / "other.so"
    source = tmp_path / "other.c"
    source.write_text(
        '#include "defs.h"\n'
        'static void run(void) { fprintf(fp, "the other deadlock\\n"); }\n'
        'static char *help[] = {"deadlock", "other", " ", "other", NULL};\n'
        'static struct command_table_entry table[] = {{"deadlock", run, help, 0}, {NULL}};\n'
        "static void __attribute__((constructor)) load(void) { register_extension(table); }\n"
    )
    flags = ["-DX86_64", "-DGDB_10_2", "-shared", "-fPIC", f"-I{INCLUDE}"]
    subprocess.run(["gcc", "-w", *flags, str(source), "-o", str(other)], check=True)
    with Session(quiet, extension=None) as session:
        session.run(f"extend {other}")
        assert session.run(f"extend {EXTENSION}") == f"{EXTENSION}: shared object loaded\n"
        assert session.run("deadlock") == "the other deadlock\n"
        assert "VERDICT: NOT FOUND" in session.run("faultkit deadlock")


def test_a_minimal_session_is_told(quiet):
    with Session(quiet, options=("--minimal",)) as session:
        assert "\nfaultkit: crash runs with --minimal; start it without\n" in session.loaded


def test_crash_loads_what_install_wrote(quiet, tmp_path):
    built()
    environment = {**os.environ, "HOME": str(tmp_path)}
    install = [sys.executable, "-m", "faultkit", "install", "--crash"]
    subprocess.run(install, env=environment, cwd=CHECKOUT, check=True, timeout=60)
    with Session(quiet, extension=None, HOME=str(tmp_path)) as session:
        assert "VERDICT: NOT FOUND" in session.run("deadlock")
    subprocess.run([*install, "--remove"], env=environment, cwd=CHECKOUT, check=True, timeout=60)
    assert not (tmp_path / ".crashrc").exists()


def test_a_session_ends_as_it_would_without(quiet):
    def end(lines):
        words = command(quiet, "trixie", "-s", "--no_scroll")
        done = subprocess.run(words, input=lines, capture_output=True, text=True, timeout=120)
        return done.returncode, done.stderr

    loaded = f"extend {EXTENSION}\ndeadlock\n"
    assert end(loaded + "q\n") == end("q\n") == (0, "")
    assert end(loaded) == end("")  # the end of its input
