"""Owners of locks where all who use them are in one pid namespace that is not ours, as in a
container that is looked at from outside."""

import contextlib
import json
import subprocess
import sys
import time

import pytest
from building import command_line
from harness import CHECKOUT, Unplayable

from faultkit.procfs.status import children

pytestmark = pytest.mark.skipif(
    subprocess.run(["unshare", "-pf", "true"], check=False, capture_output=True).returncode != 0,
    reason="no pid namespaces (needs CAP_SYS_ADMIN)",
)


@contextlib.contextmanager
def contained(directory, program, scene):
    """Plays the scene in a pid namespace of its own; gives the id that its first process has
    here."""
    command = ["unshare", "-pf", "--mount-proc", "--kill-child", *command_line(program, "dbg")]
    with subprocess.Popen(
        [*command, scene], stdout=subprocess.PIPE, text=True, cwd=directory
    ) as process:
        try:
            for line in process.stdout:
                if line.startswith("ready"):
                    break
            else:
                raise Unplayable("unshare can't give a process a /proc of its own here")
            time.sleep(0.5)
            yield children(process.pid)[0]
        finally:
            process.kill()


def ask(pid):
    command = [sys.executable, "-m", "faultkit", "deadlock", str(pid), "--json", "-"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT, timeout=60)
    return json.loads(run.stdout)


def kinds(report):
    return [
        (finding["type"], sorted(member["waits_for"]["kind"] for member in finding["members"]))
        for finding in report["findings"]
    ]


def test_a_child_of_vfork_waits_for_a_thread_of_its_parent(tmp_path):
    with contained(tmp_path, "mixed.c", "vfork-child") as pid:
        report = ask(pid)
    assert kinds(report) == [("cycle", ["join", "pthread_mutex", "vfork"])]


def test_owners_in_other_processes_are_found_by_their_ids_inside(tmp_path):
    with contained(tmp_path, "ipc_shared.c", "mutex-anon") as pid:
        pids = {pid, *children(pid)}
        report = ask(pid)
    assert kinds(report) == [("cycle", ["pthread_mutex", "pthread_mutex"])]
    (cycle,) = report["findings"]
    assert {member["task"]["pid"] for member in cycle["members"]} == pids


def test_an_owner_that_has_ended_is_told(tmp_path):
    with contained(tmp_path, "ipc_shared.c", "mutex-dead-owner") as pid:
        report = ask(pid)
    assert kinds(report) == [("orphaned-lock", ["pthread_mutex"])]
    assert report["findings"][0]["confidence"] == "proven"
