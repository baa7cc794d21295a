"""Where a report goes: files of all kinds, the standard output, and what can't be written."""

import json
import os
import subprocess
import sys

import pytest
from harness import CHECKOUT

from faultkit.render import save
from faultkit.target import FaultkitError

OWN = str(os.getpid())


def faultkit(*words, **options):
    """Run the console script: (status, standard output, standard error)."""
    done = subprocess.run(
        [sys.executable, "-m", "faultkit", *words],
        cwd=CHECKOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=60,
        check=False,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("option", ["--json", "--output", "--dot"])
@pytest.mark.parametrize("file", ["/dev/full", "/nonexistent/x", "/tmp"])
def test_what_cannot_be_written_is_named(option, file):
    status, _, errors = faultkit("deadlock", OWN, option, file)
    assert status == 1
    assert errors.startswith(f"faultkit: cannot write {file}: ")
    assert errors.endswith("; name another file\n") and errors.count("\n") == 1


def test_a_full_standard_output():
    with open("/dev/full", "w") as full:
        status, _, errors = faultkit("deadlock", OWN, stdout=full)
    assert (status, errors) == (1, "faultkit: standard output: No space left on device\n")


def test_a_closed_standard_output(tmp_path):
    command = [sys.executable, "-m", "faultkit", "deadlock", OWN, "--json", str(tmp_path / "json")]
    closing = ["sh", "-c", 'exec >&-; exec "$@"', "sh", *command]
    done = subprocess.run(closing, cwd=CHECKOUT, stderr=subprocess.PIPE, text=True, check=False)
    assert done.stderr == ""
    assert json.loads((tmp_path / "json").read_text())["command"] == "deadlock"


@pytest.mark.parametrize(
    ("option", "begins"), [("--json", "{"), ("--dot", "digraph "), ("--output", "faultkit ")]
)
def test_standard_output(option, begins):
    _, shown, errors = faultkit("deadlock", OWN, option, "-")
    assert shown.startswith(begins) and errors == ""
    assert ("VERDICT" in shown) == (option == "--output")


def test_one_at_a_time_on_standard_output(tmp_path):
    status, shown, errors = faultkit("deadlock", OWN, "--json", "-", "--dot", "-")
    assert (status, shown, errors.count("\n")) == (1, "", 1)
    file = tmp_path / "text"
    _, shown, _ = faultkit("deadlock", OWN, "--json", "-", "--output", str(file))
    assert json.loads(shown)["command"] == "deadlock"
    assert "VERDICT" in file.read_text()


def test_links_stay_and_modes_too(tmp_path):
    secret, link = tmp_path / "secret", tmp_path / "link"
    secret.write_text("before")
    secret.chmod(0o600)
    link.symlink_to(secret)
    save(str(link), "after")
    assert link.is_symlink() and secret.read_text() == "after"
    assert secret.stat().st_mode & 0o777 == 0o600
    assert sorted(os.listdir(tmp_path)) == ["link", "secret"]


def test_a_link_to_another_file_system(tmp_path):
    if not os.access("/dev/shm", os.W_OK) or os.stat("/dev/shm").st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system here")
    other = f"/dev/shm/faultkit-{os.getpid()}"
    (tmp_path / "link").symlink_to(other)
    try:
        save(str(tmp_path / "link"), "text")
        with open(other) as file:
            assert file.read() == "text"
    finally:
        os.unlink(other)


def test_nothing_of_a_failure_is_left(tmp_path):
    link, folder = tmp_path / "link", tmp_path / "folder"
    folder.mkdir()
    for file in (folder, folder / "none" / "x"):
        with pytest.raises(FaultkitError, match="cannot write"):
            save(str(file), "text")
    link.symlink_to(folder)
    with pytest.raises(FaultkitError, match="Is a directory"):
        save(str(link), "text")
    assert sorted(os.listdir(tmp_path)) == ["folder", "link"]
