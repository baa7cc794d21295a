"""`dstate` as users type it: in the shell and in gdb, with and without rights."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from building import Unplayable
from dstate_scenes import SCENES
from terminal import batch

ROOT = Path(__file__).resolve().parent.parent
LOG = ROOT / "tests" / "klogs" / "sysrq-w-4.18.txt"


def faultkit(*words, before=(), **options):
    return subprocess.run(
        [*before, sys.executable, "-m", "faultkit", "dstate", *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "100", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        **({"stdin": subprocess.DEVNULL} if "input" not in options else {}),
        **options,
    )


def refused(*words):
    """The one line of an error."""
    done = faultkit(*words)
    assert done.returncode == 1, done
    assert done.stderr.count("\n") == 1 and "; " in done.stderr
    return done.stderr


def test_a_file_and_its_statuses(tmp_path):
    done = faultkit("--from", LOG)
    assert (done.returncode, done.stderr) == (0, "")
    assert "VERDICT: STUCK: 3 tasks" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100
    nothing = tmp_path / "nothing"
    nothing.write_text("[ 1.0] hello\n")
    done = faultkit("--from", nothing)
    assert done.returncode == 2
    assert "VERDICT: INCONCLUSIVE" in done.stdout and "LIMIT: " in done.stdout


def test_standard_input_and_compressed_files(tmp_path):
    import gzip

    assert "3 tasks" in faultkit("--from", "-", input=LOG.read_text()).stdout
    packed = tmp_path / "log.gz"
    packed.write_bytes(gzip.compress(LOG.read_bytes()))
    assert "3 tasks" in faultkit("--from", packed).stdout
    packed.write_bytes(packed.read_bytes()[:20])
    assert "cannot unpack" in refused("--from", packed)


def test_json_and_output(tmp_path):
    done = faultkit("--from", LOG, "--json", "-")
    report = json.loads(done.stdout)
    assert (report["schema"], report["command"]) == ("faultkit/1", "dstate")
    assert report["target"] == {"kind": "text", "name": str(LOG), "release": None}
    assert {finding["type"] for finding in report["findings"]} == {"blocked-group"}
    for finding in report["findings"]:
        assert {"cause", "function", "tasks", "longest_seconds", "behind", "explanation"} <= set(
            finding
        )
    done = faultkit("--from", LOG, "--output", tmp_path / "text", "--json", tmp_path / "json")
    assert done.stdout == ""
    assert "VERDICT: STUCK" in (tmp_path / "text").read_text()
    assert json.loads((tmp_path / "json").read_text())["verdict"] == "found"


def test_stacks_are_shown_when_asked_for():
    assert "STACK" not in faultkit("--from", LOG).stdout
    assert "jbd2_log_wait_commit+0xac (jbd2)" in faultkit("--from", LOG, "--stacks").stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--from", "/no/such/file"), "cannot read /no/such/file"),
        (("--from", "/"), "cannot read /"),
        (("99999999",), "no process 99999999"),
        (("--all", "1"), "contradict"),
        (("--from", LOG, "1"), "leave them out"),
        (("--from", LOG, "--watch"), "leave them out"),
    ],
)
def test_errors(words, said):
    assert said in refused(*words)


@pytest.mark.parametrize("words", [("x",), ("--min-age", "x"), ("--min-age", "-1"), ("0",)])
def test_usage_errors(words):
    assert "see `faultkit dstate --help`" in refused(*words)


def test_help():
    done = faultkit("--help")
    assert done.returncode == 0
    for option in ("--all", "--from", "--min-age", "--stacks", "--watch", "--json", "--output"):
        assert option in done.stdout


def test_without_rights_it_says_what_it_could_not_see():
    with SCENES["vfork"]() as played:
        time.sleep(1.2)
        try:
            done = faultkit(
                played.pids["parent"],
                "--json",
                "-",
                before=("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"),
            )
        except FileNotFoundError as error:
            raise Unplayable("no setpriv here") from error
        if "Permission denied" in done.stderr or "No module" in done.stderr:
            raise Unplayable("the checkout may not be read by others here")
        report = json.loads(done.stdout)
        assert (done.returncode, report["verdict"]) == (2, "inconclusive")
        assert "run it as root" in report["limits"][0]
        assert "--from FILE" in report["limits"][0]
        (group,) = report["findings"]
        assert group["function"] is None
        assert group["longest_seconds"] >= 1


def test_watching_shows_what_comes_and_goes():
    with subprocess.Popen(
        [sys.executable, "-m", "faultkit", "dstate", "--watch", "--min-age", "0.3"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as watching:
        lines = []
        with SCENES["vfork"]() as played:
            pid = str(played.pids["parent"])
            while not any("is stuck" in line and pid in line for line in lines):
                lines.append(watching.stdout.readline())
        while not any("went on" in line and pid in line for line in lines):
            lines.append(watching.stdout.readline())
        watching.send_signal(signal.SIGINT)
        rest = watching.stdout.read()
        assert watching.wait(30) == 0
        assert "VERDICT: " in rest


def test_in_gdb():
    with SCENES["vfork"]() as played:
        time.sleep(0.5)
        pid = played.pids["parent"]
        stdout, stderr = batch(f"dstate {pid} --min-age 0.3", f"faultkit dstate --from {LOG}")
        assert stderr == ""
        assert "VFORK: 1 task" in stdout and f"task {played.pids['child']}" in stdout
        assert "VERDICT: STUCK: 3 tasks" in stdout


def test_in_gdb_the_inferior_is_meant_and_not_stuck_for_being_attached_to():
    with subprocess.Popen(["sleep", "1000"]) as sleeper:
        try:
            stdout, _ = batch("dstate", source=("-p", str(sleeper.pid), *source()))
            assert f"process {sleeper.pid}" in stdout
            assert "VERDICT: NOT FOUND" in stdout
            assert "NOTE: 1 task not stuck: is stopped by its tracer" in stdout
        finally:
            sleeper.kill()


def source():
    from terminal import SOURCE

    return SOURCE


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("99999999", "dstate: no process 99999999; it has ended"),
        ("--nonsense", "dstate: unrecognized arguments: --nonsense; see `help dstate`"),
        ("--from /no/such/file", "dstate: cannot read /no/such/file"),
        ("--min-age x", "dstate: argument --min-age"),
    ],
)
def test_errors_in_gdb(words, said):
    stdout, stderr = batch(f"dstate {words}")
    assert stdout == "" and stderr.startswith(said) and stderr.count("\n") == 1
