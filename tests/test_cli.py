"""The console script: `install`, `path`, `doctor`, run as a user would, with a home of its own."""

import json
import os
import pty
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from faultkit.cli import checks
from faultkit.cli.remedies import as_root

ROOT = Path(__file__).resolve().parent.parent
EXTENSION = ROOT / "gdb_ext" / "faultkit.py"
GDB = os.environ.get("GDB", "gdb")


@pytest.fixture
def home(tmp_path):
    """A home directory with nothing in it."""
    home = tmp_path / "home"
    home.mkdir()
    return home


@pytest.fixture
def faultkit(home):
    """Run the console script there; stdin is not a terminal."""

    def run(*arguments, checkout=ROOT, **changes):
        return subprocess.run(
            [sys.executable, "-m", "faultkit", *map(str, arguments)],
            cwd=checkout,
            env=environment(home, **changes),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


def environment(home, **changes):
    others = ("XDG_", "FAULTKIT_", "PYTHON")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(others)}
    return {**kept, "HOME": str(home), **changes}


def ask_gdb(home, *commands):
    """What gdb, started in that home with its gdbinit, answers."""
    arguments = [argument for command in commands for argument in ("-ex", command)]
    return subprocess.run(
        [GDB, "-batch", *arguments],
        env=environment(home),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=home,
    )


def good(done):
    """Its output, once it is known to have ended well and silently on stderr."""
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def refused(done):
    """Its one line of error, with the remedy after the semicolon."""
    assert done.returncode != 0
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("faultkit: ") and "; " in done.stderr
    return done.stderr


# The command line itself.


def test_no_arguments_print_the_help(faultkit):
    output = good(faultkit())
    for command in ("install", "path", "doctor"):
        assert command in output


def test_version_is_the_package_s(faultkit):
    import faultkit as package

    assert good(faultkit("--version")) == f"faultkit {package.__version__}\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("no-such-command", "see `faultkit --help`"),
        ("deadlock --nope 1", "unrecognized arguments: --nope; see `faultkit deadlock --help`"),
        ("dstate 1 2 --json", "expected one argument; see `faultkit dstate --help`"),
        ("sigsrc 0", "`0` is no process id; see `faultkit sigsrc --help`"),
        ("kdecode", "see `faultkit kdecode --help`"),
    ],
)
def test_what_is_not_understood_is_an_error(faultkit, words, said):
    """Of status 1: 2 is that of an answer which is inconclusive."""
    done = faultkit(*words.split())
    assert said in refused(done) and done.returncode == 1


def test_path_is_the_file_gdb_can_source(faultkit):
    path = good(faultkit("path")).rstrip("\n")
    assert Path(path) == EXTENSION
    done = subprocess.run(
        [GDB, "-nx", "-batch", "-ex", f"source {path}", "-ex", "help faultkit"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert "deadlock" in done.stdout
    assert done.stderr == ""


def test_a_reader_that_leaves_early_is_no_error(home):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "faultkit", "path"],
            cwd=ROOT,
            env=environment(home),
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_says_so_in_one_line(home, tmp_path):
    started = tmp_path / "started"
    slow_gdb = tmp_path / "slow-gdb"
    slow_gdb.write_text(f"#!/bin/sh\necho >{started}\nexec sleep 60\n")
    slow_gdb.chmod(0o755)
    with subprocess.Popen(
        [sys.executable, "-m", "faultkit", "doctor", "--gdb", str(slow_gdb)],
        cwd=ROOT,
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        while not started.exists():
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)  # as the terminal does
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors == "faultkit: interrupted\n"


# install


CONTENTS = [
    b"",
    b"\n",
    b"set pagination off\n",
    b"set pagination off",
    b"set history save on\r\n# \xff\xfe not UTF-8\n\n\n",
]


@pytest.mark.parametrize("before", CONTENTS)
def test_remove_restores_the_file_byte_for_byte(faultkit, home, before):
    file = home / ".gdbinit"
    file.write_bytes(before)
    file.chmod(0o640)
    output = good(faultkit("install"))
    assert f"+source {EXTENSION}" in output
    assert file.read_bytes().startswith(before)
    assert file.read_bytes().splitlines().count(f"source {EXTENSION}".encode()) == 1
    assert (home / ".gdbinit.faultkit-backup").read_bytes() == before
    good(faultkit("install", "--remove"))
    assert file.read_bytes() == before
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_a_file_that_install_made_is_removed_again(faultkit, home):
    good(faultkit("install"))
    assert (home / ".gdbinit").is_file()
    good(faultkit("install", "--remove"))
    assert not (home / ".gdbinit").exists()


def test_what_the_user_adds_to_a_made_file_stays(faultkit, home):
    good(faultkit("install"))
    with (home / ".gdbinit").open("a") as file:
        file.write("set print pretty on\n")
    good(faultkit("install", "--remove"))
    assert (home / ".gdbinit").read_text() == "set print pretty on\n"


def test_what_the_user_adds_below_keeps_its_own_line(faultkit, home):
    file = home / ".gdbinit"
    file.write_bytes(b"set pagination off")
    good(faultkit("install"))
    with file.open("a") as stream:
        stream.write("set print pretty on\n")
    good(faultkit("install", "--remove"))
    assert file.read_bytes() == b"set pagination off\nset print pretty on\n"


def test_gdb_loads_what_install_wrote(faultkit, home):
    (home / ".gdbinit").write_bytes(b"set confirm off")
    assert "Undefined" in ask_gdb(home, "help faultkit").stderr
    good(faultkit("install"))
    done = ask_gdb(home, "show confirm", "help faultkit")
    assert done.stderr == ""
    assert "confirm" in done.stdout and "is off" in done.stdout and "deadlock" in done.stdout
    good(faultkit("install", "--remove"))
    assert "Undefined" in ask_gdb(home, "help faultkit").stderr


@pytest.mark.parametrize("existing", [(".gdbinit",), (".config/gdb/gdbinit",), ()])
def test_install_takes_the_file_that_gdb_reads(faultkit, home, existing):
    check_that_gdb_reads_it(faultkit, home, existing)


def test_install_takes_the_file_that_gdb_reads_of_two(faultkit, home):
    check_that_gdb_reads_it(faultkit, home, (".gdbinit", ".config/gdb/gdbinit"))


def check_that_gdb_reads_it(faultkit, home, existing):
    for name in existing:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(f"echo {name}\\n\n")
    good(faultkit("install"))
    assert "deadlock" in ask_gdb(home, "help faultkit").stdout


def test_the_second_install_changes_nothing(faultkit, home):
    good(faultkit("install"))
    before = (home / ".gdbinit").read_bytes()
    assert "nothing to do" in good(faultkit("install"))
    assert (home / ".gdbinit").read_bytes() == before
    assert [path.name for path in home.iterdir()] == [".gdbinit"]


def test_a_line_written_by_hand_is_enough(faultkit, home):
    content = f"source {EXTENSION}\n"
    (home / ".gdbinit").write_text(content)
    assert "nothing to do" in good(faultkit("install"))
    assert "nothing to do" in good(faultkit("install", "--remove"))
    assert (home / ".gdbinit").read_text() == content


def test_install_follows_an_installation_that_moved(faultkit, home, tmp_path):
    moved = tmp_path / "moved to a path with spaces"
    for package in ("faultkit", "gdb_ext"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, moved / package, ignore=ignore)
    (home / ".gdbinit").write_text("set confirm off\n")
    good(faultkit("install", checkout=moved))
    assert f"source {moved}/gdb_ext/faultkit.py\n" in (home / ".gdbinit").read_text()
    assert "deadlock" in ask_gdb(home, "help faultkit").stdout
    good(faultkit("install"))
    content = (home / ".gdbinit").read_text()
    assert content.count("source ") == 1 and f"source {EXTENSION}\n" in content
    good(faultkit("install", "--remove"))
    assert (home / ".gdbinit").read_text() == "set confirm off\n"


def test_dry_run_shows_and_does_nothing(faultkit, home):
    output = good(faultkit("install", "--dry-run"))
    assert f"+source {EXTENSION}" in output
    assert list(home.iterdir()) == []


def test_a_symbolic_link_stays_one(faultkit, home):
    dotfiles = home / "dotfiles"
    dotfiles.mkdir()
    (dotfiles / "gdbinit").write_text("set confirm off\n")
    (home / ".gdbinit").symlink_to("dotfiles/gdbinit")
    good(faultkit("install"))
    assert os.readlink(home / ".gdbinit") == "dotfiles/gdbinit"
    assert f"source {EXTENSION}" in (dotfiles / "gdbinit").read_text()
    assert [path.name for path in dotfiles.iterdir()] == ["gdbinit"]


def test_a_link_to_nothing_stays_one(faultkit, home):
    (home / ".gdbinit").symlink_to("elsewhere")
    good(faultkit("install"))
    assert (home / "elsewhere").is_file()
    good(faultkit("install", "--remove"))
    assert (home / ".gdbinit").is_symlink() and not (home / "elsewhere").exists()


def test_one_debugger_at_a_time(faultkit, home):
    assert "once for each" in refused(faultkit("install", "--crash", "--gdbinit", "x"))
    assert not list(home.iterdir())


def test_backups_are_never_overwritten(faultkit, home):
    (home / ".gdbinit").write_text("one\n")
    (home / ".gdbinit.faultkit-backup").write_text("precious\n")
    assert ".gdbinit.faultkit-backup.1" in good(faultkit("install"))
    assert (home / ".gdbinit.faultkit-backup").read_text() == "precious\n"
    assert (home / ".gdbinit.faultkit-backup.1").read_text() == "one\n"


def test_other_file_by_option(faultkit, home):
    file = home / "other"
    good(faultkit("install", "--gdbinit", file))
    assert f"source {EXTENSION}\n" in file.read_text()
    assert not (home / ".gdbinit").exists()


def test_a_directory_in_place_is_refused(faultkit, home):
    (home / ".gdbinit").mkdir()
    assert "is a directory" in refused(faultkit("install"))
    assert "is a directory" in refused(faultkit("install", "--remove"))


def test_a_file_that_cannot_be_written_is_refused(faultkit):
    # Not even root can make a file in there.
    file = Path("/proc/sys/kernel/ostype")
    before = file.read_bytes()
    assert "cannot write" in refused(faultkit("install", "--gdbinit", file))
    assert file.read_bytes() == before


def test_a_missing_directory_is_refused(faultkit, home):
    error = refused(faultkit("install", "--gdbinit", home / "no" / "gdbinit"))
    assert f"mkdir -p {home}/no" in error
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(("answer", "status"), [("n", 1), ("", 1), ("y", 0)])
def test_on_a_terminal_it_asks_first(home, answer, status):
    controller, terminal = pty.openpty()
    try:
        os.write(controller, f"{answer}\n".encode())
        done = subprocess.run(
            [sys.executable, "-m", "faultkit", "install"],
            cwd=ROOT,
            env=environment(home),
            stdin=terminal,
            capture_output=True,
            text=True,
            timeout=60,
        )
    finally:
        os.close(controller)
        os.close(terminal)
    assert (done.returncode, done.stderr) == (status, "")
    assert f"Change {home}/.gdbinit?" in done.stdout
    assert (home / ".gdbinit").exists() == (status == 0)


def test_yes_does_not_ask_on_a_terminal(home):
    controller, terminal = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "faultkit", "install", "--yes"],
            cwd=ROOT,
            env=environment(home),
            stdin=terminal,
            capture_output=True,
            text=True,
            timeout=60,
        )
    finally:
        os.close(controller)
        os.close(terminal)
    assert "?" not in good(done)
    assert (home / ".gdbinit").exists()


# crash


@pytest.fixture
def crash_extension():
    """faultkit.so of this checkout, built."""
    if "FAULTKIT_ROOT_SUITE" in os.environ and not os.path.exists("/usr/include/crash/defs.h"):
        pytest.skip("this root has no crash")
    subprocess.run(["make", "-s", "-C", ROOT / "crash_ext/src"], check=True, timeout=300)
    return ROOT / "crash_ext" / "faultkit.so"


def test_path_of_what_crash_loads(faultkit, crash_extension):
    assert good(faultkit("path", "--crash")) == f"{crash_extension}\n"


def test_install_for_crash_and_take_it_out(faultkit, home, crash_extension):
    file = home / ".crashrc"
    file.write_text("set scroll off")
    assert f"+extend {crash_extension}" in good(faultkit("install", "--crash"))
    assert file.read_text().splitlines()[0::2] == ["set scroll off", f"extend {crash_extension}"]
    assert not (home / ".gdbinit").exists()
    assert "nothing to do" in good(faultkit("install", "--crash"))
    assert "has no line" in good(faultkit("install", "--remove"))  # that is gdb's
    good(faultkit("install", "--crash", "--remove"))
    assert file.read_text() == "set scroll off"
    good(faultkit("install", "--crashrc", home / "other"))
    assert (home / "other").is_file()


def test_what_is_not_built_is_told_with_the_way_to_build_it(faultkit, tmp_path):
    shutil.copytree(ROOT / "faultkit", tmp_path / "copy" / "faultkit")
    for arguments in (("path", "--crash"), ("install", "--crash")):
        error = refused(faultkit(*arguments, checkout=tmp_path / "copy"))
        assert "has not been built" in error and "make -C " in error


def test_a_path_that_crash_cannot_load_is_told(faultkit, crash_extension, tmp_path):
    elsewhere = tmp_path / "my tools"
    for package in ("faultkit", "gdb_ext", "crash_ext"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, elsewhere / package, ignore=ignored)
    assert "install under another path" in refused(
        faultkit("install", "--crash", checkout=elsewhere)
    )
    if shutil.which("crash"):
        _, rows = doctor(faultkit, checkout=elsewhere)
        assert rows["crashrc"]["remedy"] == "install under another path"


def test_doctor_looks_at_crash(faultkit, home, crash_extension):
    _, rows = doctor(faultkit, "--gdb", GDB)
    for name in ("crash", "faultkit in crash", "libpython"):
        assert rows[name]["status"] == "ok", rows[name]
    assert rows["crashrc"]["remedy"] == f"cd {ROOT} && python3 -m faultkit install --crash"
    good(faultkit("install", "--crash"))
    _, rows = doctor(faultkit, "--gdb", GDB, FAULTKIT_LIBPYTHON="/nonexistent")
    assert rows["crashrc"]["status"] == "ok"
    assert rows["libpython"]["status"] == "warning"
    _, rows = doctor(faultkit, "--gdb", GDB, PATH="/nonexistent")
    assert rows["crash"]["remedy"] == as_root("apt-get install crash")


# doctor


def doctor(faultkit, *arguments, **changes):
    """The doctor's exit status and rows by name."""
    done = faultkit("doctor", "--json", "-", *arguments, **changes)
    assert done.stderr == ""
    answer = json.loads(done.stdout)
    assert answer["schema"] == "faultkit/1" and answer["command"] == "doctor"
    assert answer["ok"] == (done.returncode == 0)
    return done.returncode, {row["name"]: row for row in answer["checks"]}


def test_doctor_agrees_with_the_real_gdb(faultkit, home):
    _, rows = doctor(faultkit, "--gdb", GDB)
    version = ask_gdb(home, "python print(gdb.VERSION)").stdout.strip()
    python = ask_gdb(home, "python import platform; print(platform.python_version())")
    assert rows["gdb"]["status"] == "ok" and version.split("-")[0] in rows["gdb"]["detail"]
    assert rows["gdb's Python"]["detail"].startswith(python.stdout.strip())
    assert rows["faultkit in gdb"]["status"] == "ok"
    assert str(EXTENSION) in rows["faultkit in gdb"]["detail"]


def test_doctor_sees_the_packages_that_gdb_sees(faultkit):
    _, rows = doctor(faultkit, "--gdb", GDB)
    script = "python import {0}; print('found', {0}.__file__)"
    for name, module in (("pyelftools", "elftools"), ("tabulate", "tabulate")):
        done = subprocess.run(
            [GDB, "-nx", "-batch", "-ex", f"source {EXTENSION}", "-ex", script.format(module)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert (rows[name]["status"] == "ok") == done.stdout.startswith("found ")
        if rows[name]["status"] == "ok":
            assert rows[name]["detail"].split(" in ", 1)[1] in done.stdout


def test_doctor_follows_the_gdbinit(faultkit, home):
    _, rows = doctor(faultkit, "--gdb", GDB)
    assert rows["gdbinit"]["status"] == "warning"
    assert rows["gdbinit"]["remedy"] == f"cd {ROOT} && python3 -m faultkit install"
    good(faultkit("install"))
    _, rows = doctor(faultkit, "--gdb", GDB)
    assert rows["gdbinit"]["status"] == "ok"
    (home / ".gdbinit").write_text("source /nowhere/gdb_ext/faultkit.py\n")
    status, rows = doctor(faultkit, "--gdb", GDB)
    assert (status, rows["gdbinit"]["status"]) == (1, "missing")


def test_doctor_names_the_missing_gdb_and_how_to_get_it(faultkit):
    status, rows = doctor(faultkit, "--gdb", "no-such-gdb")
    assert status == 1
    assert rows["gdb"]["status"] == "missing"
    assert rows["gdb"]["remedy"] == as_root("apt-get install gdb")


def test_doctor_is_not_fooled_by_another_program(faultkit):
    status, rows = doctor(faultkit, "--gdb", "/bin/true")
    assert status == 1
    assert "is not gdb" in rows["gdb"]["detail"]


def test_doctor_knows_a_gdb_without_python(faultkit, tmp_path):
    plain = tmp_path / "gdb"
    plain.write_text(
        "#!/bin/sh\n"
        'case "$*" in *probe.py*|*"python "*)\n'
        'echo "Python scripting is not supported" >&2; exit 1;; esac\n'
        f'exec {GDB} "$@"\n'
    )
    plain.chmod(0o755)
    status, rows = doctor(faultkit, "--gdb", plain)
    assert status == 1
    assert "no Python" in rows["gdb's Python"]["detail"]


def test_doctor_says_why_faultkit_does_not_load(faultkit, tmp_path):
    broken = tmp_path / "broken"
    for package in ("faultkit", "gdb_ext"):
        shutil.copytree(ROOT / package, broken / package)
    (broken / "gdb_ext" / "faultkit.py").write_text("raise ValueError('on purpose')\n")
    status, rows = doctor(faultkit, "--gdb", GDB, checkout=broken)
    assert status == 1
    assert rows["faultkit in gdb"]["status"] == "missing"
    assert str(broken) in rows["faultkit in gdb"]["remedy"]


def test_doctor_sees_that_it_may_not_trace(faultkit, tmp_path):
    """A gdb that gives up root's rights, and is to attach to a process of root's."""
    refusing = tmp_path / "gdb"
    refusing.write_text(
        "#!/bin/sh\n"
        'case "$*" in *" -p "*) set -- -nx -batch -p 1; exec setpriv --reuid 65534 --clear-groups '
        f'{shutil.which(GDB)} "$@";; esac\n'
        f'exec {GDB} "$@"\n'
    )
    refusing.chmod(0o755)
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv, to give up rights")
    status, rows = doctor(faultkit, "--gdb", refusing)
    assert status == 1
    assert rows["ptrace"]["status"] == "missing" and rows["ptrace"]["remedy"]
    assert "not permitted" in rows["ptrace"]["detail"]


def test_doctor_attaches_and_leaves_nothing_behind(faultkit):
    _, rows = doctor(faultkit, "--gdb", GDB)
    assert rows["ptrace"]["status"] == "ok"
    mine = subprocess.run(["ps", "-o", "comm=", "--ppid", str(os.getpid())], capture_output=True)
    assert b"cat" not in mine.stdout.split()


def test_the_remedies_can_be_pasted(faultkit, home, tmp_path):
    """Also where the checkout's path has blanks, and the script is on no PATH."""
    elsewhere = tmp_path / "my tools" / "it's"
    for package in ("faultkit", "gdb_ext", "crash_ext", "tools"):
        ignored = shutil.ignore_patterns("__pycache__", "*.so")
        shutil.copytree(ROOT / package, elsewhere / package, ignore=ignored)
    _, rows = doctor(faultkit, checkout=elsewhere)
    for row in rows.values():
        if row["remedy"]:
            assert subprocess.run(["bash", "-n", "-c", row["remedy"]], check=False).returncode == 0
    paste(rows["gdbinit"]["remedy"], home)
    assert doctor(faultkit, checkout=elsewhere)[1]["gdbinit"]["status"] == "ok"


def paste(remedy, home):
    """Run it as if pasted into a shell somewhere."""
    subprocess.run(
        ["bash", "-c", remedy],
        cwd="/",
        env=environment(home),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        timeout=60,
        check=True,
    )


def test_doctor_tells_a_script_that_does_not_run_from_no_python(faultkit, tmp_path):
    """As gdb 16 does not run those with such a path in the C locale."""
    stub = tmp_path / "gdb"
    stub.write_text(
        "#!/bin/sh\n"
        'case "$*" in *--version*) echo "GNU gdb 16.3";; *print*) echo True;;\n'
        "*) echo \"'ascii' codec can't decode byte 0xc3\" >&2;; esac\n"
    )
    stub.chmod(0o755)
    status, rows = doctor(faultkit, "--gdb", stub)
    assert status == 1 and "gdb's Python" not in rows
    assert "codec" in rows["faultkit in gdb"]["detail"]


def test_doctor_prints_a_table_and_the_mends(faultkit):
    done = faultkit("doctor", "--gdb", GDB)
    lines = done.stdout.splitlines()
    mend = f"cd {ROOT} && python3 -m faultkit install"
    assert lines[0].split() == ["check", "status", "found"]
    assert any(line.split() == ["gdbinit", *mend.split()] for line in lines)
    assert (lines[-1] == "All that faultkit needs is here.") == (done.returncode == 0)


def test_doctor_prints_the_same_without_tabulate(faultkit, tmp_path):
    (tmp_path / "tabulate.py").write_text("raise ImportError('not here')\n")
    plain = faultkit("doctor", "--gdb", "no-such-gdb", PYTHONPATH=str(tmp_path))
    pretty = faultkit("doctor", "--gdb", "no-such-gdb")
    assert [line.split() for line in plain.stdout.splitlines() if "--" not in line] == [
        line.split() for line in pretty.stdout.splitlines() if "--" not in line
    ]


def test_doctor_writes_json_to_a_file(faultkit, tmp_path):
    file = tmp_path / "answer.json"
    faultkit("doctor", "--gdb", "no-such-gdb", "--json", file)
    assert json.loads(file.read_text())["ok"] is False
    error = refused(faultkit("doctor", "--gdb", "no-such-gdb", "--json", tmp_path))
    assert "cannot write" in error


def test_core_check_sees_the_limit():
    """In a process of its own, whose limit may be lowered."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text()
    if pattern.startswith("|"):
        pytest.skip("cores are piped to a program here: the limit does not matter")
    script = (
        "import resource; from faultkit.cli import checks\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(4)[1]))\n"
        "print(*checks.core_check()[:2], sep=':')"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True)
    assert done.stdout == b"core files:warning\n"
    assert checks.core_check().name == "core files"
