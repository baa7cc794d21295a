"""Runtimes whose waits threads do not show."""

import os
import shutil
import subprocess
import time

import pytest
from lang_waits import compile_source

from faultkit.procfs.process import ProcProcess
from faultkit.runtimes import opaque_runtime

GO_IDLE = """package main

import "time"

func main() { time.Sleep(time.Hour) }
"""


def runtime_of(command, seconds=15):
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        name = os.path.basename(command[0])
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if os.path.basename(os.readlink(f"/proc/{process.pid}/exe")) == name:
                break
            time.sleep(0.01)
        time.sleep(0.1)
        return opaque_runtime(ProcProcess(process.pid))
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("flags", [(), ("-ldflags=-s -w",)], ids=["plain", "stripped"])
def test_go(tmp_path, flags):
    if shutil.which("go") is None:
        pytest.skip("no go here")
    source = tmp_path / "idle.go"
    source.write_text(GO_IDLE)
    program = tmp_path / "idle"
    environment = {**os.environ, "GOCACHE": str(tmp_path / "cache"), "GOFLAGS": "-mod=mod"}
    subprocess.run(["go", "build", *flags, "-o", program, source], check=True, env=environment)
    assert "goroutines" in str(runtime_of([str(program)]))


def test_go_note_is_enough_where_the_file_is_gone(tmp_path):
    if shutil.which("go") is None:
        pytest.skip("no go here")
    source = tmp_path / "gone.go"
    source.write_text(GO_IDLE)
    program = tmp_path / "gone"
    environment = {**os.environ, "GOCACHE": str(tmp_path / "cache")}
    subprocess.run(["go", "build", "-o", program, source], check=True, env=environment)
    process = subprocess.Popen([program])
    try:
        time.sleep(0.2)
        program.unlink()
        assert "goroutines" in str(opaque_runtime(ProcProcess(process.pid)))
    finally:
        process.kill()
        process.wait()


def test_c_program_has_none(tmp_path):
    source = "#include <unistd.h>\nint main(void) { pause(); }\n"
    program = compile_source(tmp_path, "ruby_like.c", source, "gcc")
    assert runtime_of([str(program)]) is None


def test_python_has_none():
    assert (
        runtime_of([os.path.realpath("/usr/bin/python3"), "-c", "import time; time.sleep(60)"])
        is None
    )
