"""`deadlock` is a well-behaved gdb command: it sources quietly, changes nothing, ends cleanly."""

import json
import os
import re
import shutil
import subprocess
import time

import harness
import pytest
from harness import CHECKOUT, COMMANDS, run_gdb
from scenarios import ALL
from terminal import PAGER, SOURCE, TROUBLE, Terminal, batch, commands, quiet

SCENES = {scenario.name: scenario for scenario in ALL}
# What gdb says when Ctrl-C comes just while it asks its own Python unwinders; it then goes on.
GDB_SWALLOWED = "Python Exception <class 'KeyboardInterrupt'>"


@pytest.fixture(scope="module")
def stuck():
    """Two threads in a deadlock of two mutexes."""
    with harness.running(SCENES["mutex-normal"], "dbg") as stage:
        yield stage


def start(*arguments, **options):
    """gdb as a process of its own, for its exit status, environment or directory."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8", **options.pop("env", {})}
    done = subprocess.run(
        [harness.gdb_program(), "-batch", *arguments],
        env=environment,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=60,
        check=False,
        **options,
    )
    assert not TROUBLE.search(done.stdout + done.stderr), done.stdout + done.stderr
    return done


# --- sourcing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 2])
def test_sourcing_prints_nothing(times):
    assert batch(source=SOURCE * times) == ("", "")


def copy_of_the_house(directory):
    for package in ("faultkit", "gdb_ext"):
        shutil.copytree(
            CHECKOUT / package, directory / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    return directory / "gdb_ext" / "faultkit.py"


def test_sourcing_again_takes_edited_files(tmp_path):
    file = copy_of_the_house(tmp_path)
    words = tmp_path / "faultkit" / "target.py"
    edit = words.read_text().replace("{message}; {remedy}", "{message} EDITED {remedy}")
    (tmp_path / "edit.py").write_text(
        f"open({str(words)!r}, 'w').write({edit!r} + '#' * 99)\n"  # another size: a new .pyc
    )
    _, stderr = batch(
        "deadlock",
        f"source {tmp_path / 'edit.py'}",
        f"source {file}",
        "deadlock",
        source=("-ex", f"source {file}"),
    )
    first, second = stderr.splitlines()
    assert "EDITED" not in first
    assert "no core is loaded EDITED attach" in second


@pytest.mark.parametrize("how", ["relative", "symlink", "gdbinit", "early", "directory"])
def test_sourcing_from_anywhere(tmp_path, how):
    path = COMMANDS
    if how == "symlink":
        path = tmp_path / "somewhere.py"
        path.symlink_to(COMMANDS)
    elif how == "directory":
        (tmp_path / "house").symlink_to(CHECKOUT)
        path = tmp_path / "house" / "gdb_ext" / "faultkit.py"
    elif how == "relative":
        path = os.path.relpath(COMMANDS, tmp_path)
    where = ["-ex", f"source {path}"]
    if how == "early":
        where = ["-iex", f"source {path}"]
    elif how == "gdbinit":
        (tmp_path / ".gdbinit").write_text(f"source {path}\n")
        where = []
    done = start(*where, "-ex", "deadlock", cwd=tmp_path, env={"HOME": str(tmp_path)})
    assert done.stdout == ""
    assert done.stderr.startswith("deadlock: no process and no core is loaded; attach with")
    assert done.stderr.count("\n") == 1


def test_another_faultkit_earlier_on_the_path_is_left_alone(tmp_path, stuck):
    for name in ("faultkit", "gdb_ext"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemError('the wrong one')\n")
    stdout, _ = batch(
        f"deadlock {stuck.pid}",
        source=("-ex", f"python import sys; sys.path.insert(0, {str(tmp_path)!r})", *SOURCE),
    )
    assert "VERDICT: DEADLOCK" in stdout


def test_it_only_appends_to_the_path(tmp_path):
    stdout, _ = batch(
        "python import sys; old = list(sys.path)",
        f"source {COMMANDS}",
        f"source {COMMANDS}",
        "python print(sys.path[:len(old)] == old, len(sys.path) == len(set(sys.path[len(old):]))"
        " + len(old), sys.path[-1])",
        source=(),
    )
    assert stdout.split()[:2] == ["True", "True"]


def test_site_directory_gives_the_packages(tmp_path, stuck):
    """Without any package the report is plainer and says in a line how to mend that; with
    FAULTKIT_SITE they are found, and draw what is longer than a few rows."""
    file = copy_of_the_house(tmp_path)
    site = tmp_path / "site"
    site.mkdir()
    (site / "tabulate.py").write_text(
        "def tabulate(rows, **_):\n    return '\\n'.join('TABLE ' + r[0] for r in rows)\n"
    )
    hide = tmp_path / "hide.py"
    hide.write_text(
        "import sys, importlib.util\n"
        "class Hide:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        top = name.split('.')[0]\n"
        f"        if top == 'tabulate' and {str(site)!r} in sys.path:\n"
        f"            file = {str(site)!r} + '/tabulate.py'\n"
        "            return importlib.util.spec_from_file_location(name, file)\n"
        "        if top in ('pygments', 'elftools', 'tabulate'):\n"
        "            raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Hide())\n"
    )
    words = ("-nx", "-ex", f"source {hide}", "-ex", f"source {file}")
    words += ("-ex", "set faultkit color on")
    plain = start(*words, "-ex", f"deadlock {stuck.pid}")
    assert "VERDICT: DEADLOCK: 1 cycle, 2 threads" in plain.stdout
    assert plain.stdout.count("PLAIN: ") == 2
    for package in ("tabulate", "pygments"):
        # where the distribution keeps pip out of its Python, its own package is named
        remedy = f"(python3 -m pip install |apt-get install python3-){package}\n"
        assert re.search(f"PLAIN: {package} is not installed; {remedy}", plain.stdout)
    assert "\x1b" not in plain.stdout
    found = {"FAULTKIT_SITE": f"/nowhere:{site}"}
    few = start(*words, "-ex", f"deadlock {stuck.pid}", env=found)
    with harness.running(SCENES["mutex-ring-12"], "dbg") as ring:
        many = start(*words, "-ex", f"deadlock {ring.pid} --stacks none", env=found)
    assert few.stdout.count("TABLE ") == 0
    assert many.stdout.count("TABLE ") == 12
    assert few.stdout.count("PLAIN: ") == many.stdout.count("PLAIN: ") == 1


# --- what it leaves as it was -----------------------------------------------------------------


def test_no_setting_of_gdb_changes(tmp_path, stuck):
    before, after = tmp_path / "before", tmp_path / "after"
    batch(
        f"pipe info set | cat > {before}",
        f"source {COMMANDS}",
        "deadlock",
        f"deadlock {stuck.pid} --stacks all",
        f"pipe info set | cat > {after}",
        source=("-p", str(stuck.pid)),
    )

    def settings(path):
        lines = path.read_text().splitlines()
        return [line for line in lines if not re.match(r"convenience:|\$", line)]

    ours = [line for line in settings(after) if line.startswith("faultkit color")]
    theirs = [line for line in settings(after) if line not in ours]
    assert len(settings(before)) > 100
    assert theirs == settings(before)
    assert ours == ["faultkit color:  faultkit's reports are coloured: auto."]
    harness.assert_unharmed(stuck)


@pytest.mark.parametrize("theirs", ["python", "define"])
def test_the_bare_name_of_another_plugin_is_left_to_it(tmp_path, stuck, theirs):
    plugin = tmp_path / "plugin.gdb"
    plugin.write_text(
        "define deadlock\n  echo theirs\\n\nend\n"
        if theirs == "define"
        else "python\nclass D(gdb.Command):\n def __init__(self):\n"
        "  super().__init__('deadlock', gdb.COMMAND_USER)\n"
        " def invoke(self, a, t): print('theirs')\nD()\nend\n"
    )
    stdout, _ = batch(
        "deadlock",
        f"faultkit deadlock {stuck.pid}",
        source=("-ex", f"source {plugin}", *SOURCE, *SOURCE),
    )
    assert stdout.startswith("theirs\n")
    assert "VERDICT: DEADLOCK" in stdout


def test_a_longer_name_of_another_plugin_does_not_keep_ours_away(tmp_path, stuck):
    plugin = tmp_path / "plugin.gdb"
    plugin.write_text("define deadlocks\n  echo theirs\\n\nend\n")
    stdout, _ = batch(f"deadlock {stuck.pid}", source=("-ex", f"source {plugin}", *SOURCE))
    assert "VERDICT: DEADLOCK" in stdout


# --- help, completion, settings ---------------------------------------------------------------


def test_help():
    stdout, _ = batch("help faultkit")
    assert "faultkit deadlock -- Find deadlocks: who waits for whom" in stdout
    assert batch("faultkit")[0] == stdout
    bare, prefixed = batch("help deadlock")[0], batch("help faultkit deadlock")[0]
    assert bare == prefixed
    assert "Usage: deadlock [PID...]" in bare


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("deadlock --st", ["deadlock --stacks"]),
        ("deadlock --stacks ", [f"deadlock --stacks {word}" for word in ("all", "cycle", "none")]),
        ("deadlock --stacks n", ["deadlock --stacks none"]),
        ("deadlock 1 --js", ["deadlock 1 --json"]),
        ("deadlock --s", ["deadlock --stacks", "deadlock --svg"]),
        ("faultkit k", ["faultkit kdecode"]),
        ("faultkit ", [f"faultkit {name}" for name in ("deadlock", "dstate", "kdecode", "sigsrc")]),
        ("kdecode --no", ["kdecode --no-dis", "kdecode --no-source"]),
        ("dstate --s", ["dstate --stacks"]),
        ("dstate --stacks --m", ["dstate --stacks --min-age"]),
        ("faultkit deadlock --o", ["faultkit deadlock --output"]),
        ("set faultkit color ", [f"set faultkit color {word}" for word in ("auto", "off", "on")]),
        ("deadlock --nonsense", []),
        (
            "sigsrc --tracer ",
            [f"sigsrc --tracer {w}" for w in ("bpftrace", "systemtap", "tracefs")],
        ),
        ("dstate --min-age ", []),
    ],
)
def test_completion(typed, offered):
    stdout, stderr = batch("complete " + typed)
    assert sorted(stdout.splitlines()) == offered
    assert stderr == ""


def test_files_complete(tmp_path):
    (tmp_path / "reports").touch()
    options = {
        "deadlock": ("json", "dot", "svg", "output"),
        "dstate": ("from",),
        "sigsrc": ("log", "from", "vmlinux", "module"),
        "kdecode": ("from", "html", "source", "debug-dir", "vmlinux", "module"),
    }
    typed = [
        f"{command} --{option} {tmp_path}/rep" for command in options for option in options[command]
    ]
    stdout, _ = batch(*(f"complete {line}" for line in typed))
    assert stdout.splitlines() == [f"{line}orts" for line in typed]


def test_process_ids_complete():
    pid = str(os.getpid())
    assert f"deadlock {pid}" in batch(f"complete deadlock {pid[:-1]}")[0].splitlines()


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        ("set faultkit color blue", 'Undefined item: "blue".'),
        ("faultkit nonsense", 'Undefined faultkit command: "nonsense".  Try "help faultkit".'),
        ("set faultkit x", 'Undefined set faultkit command: "x".  Try "help set faultkit".'),
    ],
)
def test_wrong_words(command, answer):
    assert batch(command) == ("", answer + "\n")


@pytest.mark.parametrize(
    ("environment", "command", "colored"),
    [
        ({"TERM": "xterm-256color"}, None, True),
        ({"TERM": "dumb"}, None, False),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, None, False),
        ({"TERM": "xterm-256color"}, "set style enabled off", False),
        ({"TERM": "xterm-256color"}, "set faultkit color off", False),
        ({"TERM": "dumb"}, "set faultkit color on", True),
    ],
)
def test_color_at_a_terminal(stuck, environment, command, colored):
    pytest.importorskip("pygments")
    with Terminal(**environment) as gdb:
        gdb.run(command or "echo \\n")
        # gdb 18 itself lets no colour through to a dumb terminal
        bold = gdb.run(r"python gdb.write('\033[1mbold\033[m\n')")
        gdb.type(f"deadlock {stuck.pid}\n")
        said = gdb.until("SUMMARY: ")
    assert "DEADLOCK" in said
    # a terminal that is not dumb is told of brackets around pasted text, with ...?2004l
    escape = "\x1b\\[[0-9;]*m"
    assert bool(re.search(escape, said)) == (colored and bool(re.search(escape, bold)))


def test_no_color_where_there_is_no_terminal(stuck):
    lines = (
        "show faultkit color",
        f"deadlock {stuck.pid}",
        "set faultkit color on",
        "show faultkit color",
        f"deadlock {stuck.pid}",
    )
    stdout, _ = run_gdb([*SOURCE, *commands(*lines)])
    auto, _, on = stdout.partition("coloured: on.")
    assert "coloured: auto." in auto
    assert "\x1b" not in auto
    assert on.count("VERDICT") == 1


# --- at the terminal --------------------------------------------------------------------------


def test_the_selection_stays(stuck):
    with Terminal("-p", str(stuck.pid)) as gdb:
        gdb.run("thread 2")
        gdb.run("up 3")
        selected = gdb.selection()
        for command in (
            "deadlock",
            "deadlock --stacks all",
            "deadlock --json /nonexistent/x",
            "deadlock --nonsense",
            "deadlock 0",
            f"deadlock {stuck.pid}",
            "faultkit",
            "deadlock 999999999",
        ):
            said = gdb.run(command)
            assert not TROUBLE.search(said)
            assert gdb.selection() == selected, command
        assert "3  " in gdb.run("frame").partition("#")[2][:4]


def test_quitting_at_the_pager(stuck):
    with Terminal("-p", str(stuck.pid)) as gdb:
        gdb.run("thread 2")
        gdb.run("up 2")
        selected = gdb.selection()
        gdb.run("set height 5")
        first = gdb.run("deadlock --stacks all", PAGER)
        assert "VERDICT: DEADLOCK" in first
        assert gdb.run("q").strip() in ("", "Quit")
        gdb.run("set height 0")
        assert gdb.selection() == selected
        assert "VERDICT: DEADLOCK" in gdb.run("deadlock")


def test_eighty_columns_are_obeyed(stuck):
    with Terminal("-p", str(stuck.pid)) as gdb:
        gdb.run("set width 80")
        gdb.run("set height 0")
        said = gdb.run("deadlock --stacks all")
    assert "CYCLE" in said
    assert [line for line in said.splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("how", ["attached", "unattached"])
def test_control_c_in_the_middle(how):
    with harness.running(SCENES["mutex-victims-200"], "dbg") as stage:
        target = ("-p", str(stage.pid)) if how == "attached" else ()
        command = "deadlock --stacks all" + (f" {stage.pid}" if not target else "")
        with Terminal(*target) as gdb:
            gdb.run("set height 0")
            selected = gdb.selection() if target else None
            interrupted = 0
            for delay in (0.02, 0.05, 0.1, 0.15, 0.25, 0.4, 0.6):
                gdb.type(command + "\n")
                gdb.until("\n")  # the echo: it runs now
                time.sleep(delay)
                gdb.type("\x03")
                said = gdb.until("(gdb) ")
                # where it was too late, the prompt itself is interrupted, and comes again
                gdb.type("echo still-here\\n\n")
                gdb.until("\nstill-here\n")
                gdb.until("(gdb) ")
                if "SUMMARY" not in said:
                    interrupted += 1
                    assert said.replace("^C", "").strip() == "Quit"
                elif GDB_SWALLOWED not in said:
                    assert not TROUBLE.search(said), said
                if target:
                    assert gdb.selection() == selected
            assert interrupted
            assert "VERDICT: DEADLOCK" in gdb.run(command)
        harness.assert_unharmed(stage)


def test_what_control_c_interrupts_begins_anew(monkeypatch):
    """An interrupted import of the providers must not leave a table without them behind."""
    from faultkit import waits

    complete = [waits._providers_of(package) for package in waits._all_packages()]
    assert all(complete)
    monkeypatch.setattr(waits, "_providers", {})
    monkeypatch.setattr(waits, "_packages", [])

    def interrupted(name):
        raise KeyboardInterrupt

    for _ in range(3):
        with monkeypatch.context() as during, pytest.raises(KeyboardInterrupt):
            during.setattr(waits, "import_module", interrupted)
            for package in waits._all_packages():
                waits._providers_of(package)
        waits._all_packages()
    assert [waits._providers_of(package) for package in waits._all_packages()] == complete


def test_pipe(stuck):
    stdout, stderr = batch(f"pipe deadlock {stuck.pid} | head -3", "echo after\\n")
    lines = stdout.splitlines()
    assert lines[0].startswith("faultkit ")
    assert lines[1].startswith("VERDICT: DEADLOCK")
    assert (len(lines), lines[3]) == (4, "after")
    assert stderr == ""


# --- where the report goes --------------------------------------------------------------------


def test_files(tmp_path, stuck):
    pid = stuck.pid
    stdout, stderr = batch(
        f"deadlock {pid} --output {tmp_path}/text --json {tmp_path}/json --dot {tmp_path}/dot"
    )
    assert (stdout, stderr) == ("", "")
    assert "VERDICT: DEADLOCK" in (tmp_path / "text").read_text()
    assert json.loads((tmp_path / "json").read_text())["verdict"] == "found"
    assert (tmp_path / "dot").read_text().startswith("digraph deadlock {")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dot", "json", "text"]


def test_what_is_read_is_a_file_and_no_symbol():
    for word in ("missing", "~/missing"):
        _, stderr = batch(f"kdecode --from {word}")
        assert re.match("kdecode: cannot read .*missing: No such file", stderr)


def test_a_tilde_is_a_home(tmp_path):
    """As gdb's own commands, and its shells, have it."""
    (tmp_path / "log").write_text("hello\n")
    command = "dstate --from ~/log --json ~/json"
    done = start("-nx", *SOURCE, "-ex", command, env={"HOME": str(tmp_path)})
    assert done.stderr == ""
    assert json.loads((tmp_path / "json").read_text())["target"]["name"] == f"{tmp_path}/log"


@pytest.mark.parametrize("more", ["", "--output {0}/text", "--dot {0}/dot"])
def test_json_on_standard_output_is_one_object(tmp_path, stuck, more):
    stdout, _ = batch(f"deadlock {stuck.pid} --json - {more.format(tmp_path)}")
    assert json.loads(stdout)["schema"] == "faultkit/1"


@pytest.mark.parametrize("option", ["json", "output", "dot", "svg"])
def test_a_file_that_cannot_be_written(tmp_path, stuck, option):
    if option == "svg" and shutil.which("dot") is None:
        pytest.skip("no graphviz here")
    for path in ("/nonexistent/x", str(tmp_path), "/dev/full"):
        done = start("-nx", *SOURCE, "-ex", f"deadlock {stuck.pid} --{option} {path}")
        assert done.stderr.startswith(f"deadlock: cannot write {path}: ")
        assert done.stderr.endswith("; name another file\n") and done.stderr.count("\n") == 1
        assert done.returncode == 1 or gdb_major() < 12


def gdb_major():
    return int(re.search(r"(\d+)\.\d+", start("--version").stdout)[1])


def test_drawing(tmp_path, stuck):
    if shutil.which("dot") is None:
        pytest.skip("no graphviz here")
    for locale in ("C", "C.UTF-8"):
        done = start(
            "-nx",
            *SOURCE,
            "-ex",
            f"deadlock {stuck.pid} --svg {tmp_path}/svg",
            env={"LC_ALL": locale},
        )
        assert done.stderr == ""
        assert "</svg>" in (tmp_path / "svg").read_text()


def test_drawing_without_graphviz(tmp_path, stuck):
    empty = tmp_path / "bin"
    empty.mkdir()
    done = start(
        "-nx",
        *SOURCE,
        "-ex",
        f"python import os; os.environ['PATH'] = {str(empty)!r}",
        "-ex",
        f"deadlock {stuck.pid} --svg {tmp_path}/svg",
    )
    assert done.stderr == (
        "deadlock: --svg needs graphviz, which is not installed; sudo apt-get install graphviz\n"
    )
    assert "VERDICT: DEADLOCK" in done.stdout
    assert not (tmp_path / "svg").exists()


def test_the_exit_status_of_a_batch(stuck):
    assert start("-nx", *SOURCE, "-ex", f"deadlock {stuck.pid}").returncode == 0
    if gdb_major() >= 12:
        assert start("-nx", *SOURCE, "-ex", "deadlock").returncode == 1


# --- in whatever state gdb is -----------------------------------------------------------------


def test_the_selected_inferior_is_examined():
    idle = SCENES["negative-condvar-pool"]
    with harness.running(SCENES["mutex-normal"], "dbg") as one, harness.running(idle, "dbg") as two:
        stdout, stderr = batch(
            f"attach {one.pid}",
            "add-inferior",
            "inferior 2",
            f"attach {two.pid}",
            "deadlock",
            "inferior 1",
            "deadlock",
            "add-inferior",
            "inferior 3",
            "deadlock",
            "inferior 2",
            "deadlock --json -",
            "info inferiors",
        )
        verdicts = re.findall(r"VERDICT: (\w+)", stdout)
        assert verdicts == ["NOT", "DEADLOCK"]
        assert quiet(stderr)[-1].startswith("deadlock: no process and no core is loaded")
        assert f'"name": "{two.pid}"' in stdout
        assert re.search(rf"\* 2 +process {two.pid}", stdout)
        harness.assert_unharmed(one)
        harness.assert_unharmed(two)


def test_locked_scheduling(stuck):
    stdout, _ = batch(
        "set scheduler-locking on",
        "deadlock",
        "show scheduler-locking",
        source=("-p", str(stuck.pid), *SOURCE),
    )
    assert "VERDICT: DEADLOCK" in stdout
    assert 'scheduler operations during all modes is "on"' in stdout or '"on"' in stdout


@pytest.mark.parametrize("verb", ["non-stop", "continue"])
def test_threads_that_run_are_looked_at_while_they_run(stuck, verb):
    """In non-stop mode, and after `continue &`; interrupted ones and running ones mixed too."""
    settings = ["-iex", "set non-stop on"] if verb == "non-stop" else []
    with Terminal(*settings, "-p", str(stuck.pid)) as gdb:
        gdb.run("set height 0")
        gdb.run("continue -a&" if settings else "continue&")
        time.sleep(0.5)
        said = gdb.run("deadlock")
        assert "VERDICT: DEADLOCK: 1 cycle, 2 threads" in said
        assert re.search(r"NOTE: (\d+) of \1 threads are not stopped", said)
        assert "paused" not in said
        assert "pthread_mutex_lock" in said.partition("STACK")[2]  # back traces all the same
        if settings:
            gdb.run("thread 2")
            gdb.run("interrupt")
            time.sleep(0.5)
            said = gdb.run("deadlock")
            assert "VERDICT: DEADLOCK: 1 cycle, 2 threads" in said
            assert re.search(r"NOTE: \d of \d threads are not stopped", said)
        gdb.run("interrupt -a" if settings else "interrupt")
        time.sleep(0.5)
        said = gdb.run("deadlock")
        assert "VERDICT: DEADLOCK: 1 cycle, 2 threads" in said
        assert "not stopped" not in said
    harness.assert_unharmed(stuck)


def test_attached_by_the_id_of_one_thread(stuck):
    """As top -H tells it: gdb has that thread alone, and the others are there all the same."""
    tid = sorted(tid for pid, tid in stuck.tids.values() if tid != pid)[0]
    stdout, _ = batch("deadlock", "info threads", source=("-p", str(tid), *SOURCE))
    assert "VERDICT: DEADLOCK: 1 cycle, 2 threads" in stdout
    assert re.search(r"NOTE: \d+ of \d+ threads are not stopped", stdout)
    assert f"process {stuck.pid} " in stdout
    stdout, _ = batch(f"deadlock {tid}")
    assert "VERDICT: DEADLOCK: 1 cycle, 2 threads" in stdout
    assert f"process {stuck.pid} " in stdout
    harness.assert_unharmed(stuck)


def test_a_process_that_was_started_here():
    program = harness.build("mutex.c", "dbg")
    stdout, stderr = batch(
        "break main", "run normal", "deadlock", "kill", "deadlock", source=(*SOURCE, str(program))
    )
    assert "VERDICT: NOT FOUND: 1 thread, no deadlock" in stdout
    assert quiet(stderr)[-1].startswith("deadlock: no process and no core is loaded; attach with")


def test_after_detaching(stuck):
    stdout, stderr = batch("deadlock", "detach", "deadlock", source=("-p", str(stuck.pid), *SOURCE))
    assert stdout.count("VERDICT: DEADLOCK") == 1
    assert quiet(stderr) == [
        "deadlock: no process and no core is loaded; attach with `gdb -p PID`, load a core, "
        "or name one: deadlock PID"
    ]
    harness.assert_unharmed(stuck)
