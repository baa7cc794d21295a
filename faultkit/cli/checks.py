"""What `faultkit doctor` looks at; every check returns rows and prints nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from shlex import quote

import faultkit
from faultkit.cli import startup
from faultkit.cli.crash_checks import crash_checks
from faultkit.cli.path import extension_path
from faultkit.cli.remedies import apt_install, as_root, own_command
from faultkit.cli.rows import MISSING, OK, WARNING, Row
from faultkit.target import FaultkitError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


CAP_SYS_PTRACE = 19  # include/uapi/linux/capability.h
SECONDS = 60  # for one run of gdb: it may be on a network file system, cold


def all_checks(gdb: str) -> list[Row]:
    """Every check, with the gdb of that name or path."""
    rows = gdb_checks(gdb)
    usable = rows[0].status == OK
    rows.append(ptrace_check(gdb if usable else None))
    rows += [hidepid_check(), core_check(), gdbinit_check(gdb), *crash_checks()]
    return rows


def run_gdb(gdb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run gdb in batch mode, without any gdbinit.  Raises FaultkitError when it can't be run."""
    try:
        return subprocess.run(
            [gdb, "-nx", "-batch", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=SECONDS,
            check=False,
        )
    except OSError as error:
        raise FaultkitError(f"cannot run {gdb}: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise FaultkitError(f"{gdb} gave no answer in {SECONDS} s") from error


def gdb_checks(gdb: str) -> list[Row]:
    """gdb, its Python, whether faultkit loads in it, and the packages it finds then."""
    path = shutil.which(gdb)
    if path is None:
        return [Row("gdb", MISSING, f"no {gdb} on PATH", apt_install("gdb"))]
    try:
        banner = run_gdb(path, "--version").stdout.split("\n", 1)[0]
    except FaultkitError as error:
        return [Row("gdb", MISSING, str(error), apt_install("--reinstall", "gdb"))]
    if not banner.startswith("GNU gdb"):
        return [Row("gdb", MISSING, f"{path} is not gdb", own_command("doctor --gdb GDB"))]
    rows = [Row("gdb", OK, f"{path}: {banner}")]
    try:
        probe = _probe(path)
    except FaultkitError as error:
        return [*rows, Row("faultkit in gdb", MISSING, error.message, error.remedy)]
    if probe is None:
        remedy = f"{apt_install('gdb')}   # gdb-minimal has no Python"
        return [*rows, Row("gdb's Python", MISSING, "this gdb has no Python", remedy)]
    rows.append(Row("gdb's Python", OK, f"{probe['python']} in {probe['prefix']}"))
    if probe["failure"] is None:
        rows.append(Row("faultkit in gdb", OK, f"{faultkit.__version__}: {extension_path()}"))
    else:
        source = quote(f"source {extension_path()}")
        remedy = f"{quote(path)} -nx -ex 'set python print-stack full' -ex {source}   # see why"
        rows.append(Row("faultkit in gdb", MISSING, probe["failure"], remedy))
    return rows + [_package_row(name, found) for name, found in probe["packages"].items()]


def _probe(gdb: str) -> dict[str, Any] | None:
    """What gdb_ext/probe.py tells from inside gdb, None when gdb has no Python.  Raises
    FaultkitError where gdb has one, and does not run the script."""
    script = str(extension_path().with_name("probe.py"))
    done = run_gdb(gdb, "-x", script)
    for line in done.stdout.splitlines():
        if line.startswith("faultkit-probe "):
            answer: dict[str, Any] = json.loads(line.split(" ", 1)[1])
            return answer
    if "True" not in run_gdb(gdb, "-ex", "python print(True)").stdout:
        return None
    said = [line for line in done.stderr.splitlines() if line.strip()]
    # gdb 16 reads a script's own path by the locale's characters.
    remedy = "export LC_ALL=C.UTF-8" if not script.isascii() else f"{quote(gdb)} -x {quote(script)}"
    raise FaultkitError(said[0] if said else f"gdb does not run {script}", remedy)


def _package_row(name: str, found: dict[str, str | None] | None) -> Row:
    if found is not None:
        return Row(name, OK, f"{found['version'] or '?'} in {found['path']}")
    checkout = Path(faultkit.__file__).resolve().parent.parent
    tools = checkout / "tools" / "venv"
    here = tools.is_file() and os.access(checkout, os.W_OK)
    remedy = quote(str(tools)) if here else apt_install(f"python3-{name}")
    if name == "pyelftools":
        return Row(name, WARNING, "gdb finds none: debug information is not read", remedy)
    return Row(name, WARNING, "gdb finds none: plainer output", remedy)


def ptrace_check(gdb: str | None) -> Row:
    """Whether this user may attach to its own processes: gdb tries, on one made for that.

    The kernel's rules: kernel/ptrace.c, security/yama/yama_lsm.c; a container's seccomp filter
    or user namespace can forbid it besides.
    """
    scope = _first_line("/proc/sys/kernel/yama/ptrace_scope")
    status = dict(
        line.split(":\t", 1) for line in _text("/proc/self/status").split("\n") if ":\t" in line
    )
    capable = int(status.get("CapEff", "0"), 16) >> CAP_SYS_PTRACE & 1
    facts = [
        f"yama ptrace_scope {scope}" if scope is not None else "no yama",
        "with CAP_SYS_PTRACE" if capable else "without CAP_SYS_PTRACE",
    ]
    if status.get("Seccomp", "0").strip() == "2":
        facts.append("under a seccomp filter")
    detail = ", ".join(facts)
    if gdb is None:
        return Row("ptrace", WARNING, f"not tried without gdb; {detail}", None)
    refusal = _attach(gdb)
    if refusal is None:
        return Row("ptrace", OK, f"gdb attaches to your processes; {detail}")
    if scope == "3":
        remedy = "set kernel.yama.ptrace_scope = 0 in /etc/sysctl.d and reboot"
    elif scope in ("1", "2"):
        remedy = as_root("sysctl kernel.yama.ptrace_scope=0") + "   # or run gdb by sudo"
    else:
        remedy = "in a container: docker run --cap-add=SYS_PTRACE --security-opt seccomp=unconfined"
    return Row("ptrace", MISSING, f"{refusal}; {detail}", remedy)


def _attach(gdb: str) -> str | None:
    """gdb's refusal to attach to a process of ours that is not its child; None if it did."""
    # A process that waits for its input to end, which needs no program but /bin/cat.
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as victim:
        try:
            done = run_gdb(gdb, "-p", str(victim.pid), "-ex", "info inferiors", "-ex", "detach")
        except FaultkitError as error:
            return str(error)
        finally:
            victim.kill()
    if f"process {victim.pid}" in done.stdout:
        return None
    refusals = [line for line in done.stderr.splitlines() if "ptrace" in line or "ttach" in line]
    return refusals[-1].strip() if refusals else "gdb cannot attach"


def hidepid_check() -> Row:
    """Whether /proc shows other users' processes (Documentation/filesystems/proc.rst, hidepid)."""
    options: list[str] = []
    for line in _text("/proc/self/mounts").split("\n"):
        fields = line.split()
        if len(fields) > 3 and fields[1] == "/proc" and fields[2] == "proc":
            options = fields[3].split(",")
    hidden = [option for option in options if option.startswith("hidepid=")]
    if not hidden or hidden[0] in ("hidepid=0", "hidepid=off"):
        return Row("/proc", OK, "shows all processes")
    if os.geteuid() == 0:
        return Row("/proc", OK, f"{hidden[0]}; root sees all processes")
    remedy = as_root("mount -o remount,hidepid=0 /proc") + "   # or run faultkit by sudo"
    return Row("/proc", WARNING, f"{hidden[0]}: others' processes are hidden", remedy)


def core_check() -> Row:
    """Where a core of a crashed process goes (man 5 core)."""
    import resource

    pattern = _first_line("/proc/sys/kernel/core_pattern")
    if pattern is None:
        return Row("core files", WARNING, "cannot read kernel.core_pattern", None)
    if pattern.startswith("|"):
        program = pattern[1:].split()[0] if pattern[1:].split() else ""
        if not os.path.exists(program):
            remedy = as_root("sysctl kernel.core_pattern=core.%p")
            return Row("core files", WARNING, f"piped to {program}, which is not here", remedy)
        by = "; get one by coredumpctl dump" if "systemd-coredump" in program else ""
        return Row("core files", OK, f"piped to {program}{by}")
    limit, most = resource.getrlimit(resource.RLIMIT_CORE)
    if limit == 0:
        remedy = "ulimit -c unlimited"
        if most != resource.RLIM_INFINITY and os.geteuid() != 0:
            remedy = as_root("prlimit --pid $$ --core=unlimited")
        return Row("core files", WARNING, "none are written: the limit is 0", remedy)
    return Row("core files", OK, f"written to {pattern}")


def gdbinit_check(gdb: str) -> Row:
    """Whether the gdbinit that gdb reads sources a faultkit that is there."""
    file = startup.default_file(gdb)
    try:
        found = startup.loaded(startup.read(file))
    except FaultkitError as error:
        return Row("gdbinit", WARNING, str(error), None)
    remedy = own_command("install")
    if not found:
        return Row("gdbinit", WARNING, f"{file} does not source faultkit", remedy)
    if not found[-1].is_file():
        return Row("gdbinit", MISSING, f"{file} sources {found[-1]}, gone", remedy)
    return Row("gdbinit", OK, f"{file} sources {found[-1]}")


def _text(path: str) -> str:
    """The file's text, "" where it can't be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


def _first_line(path: str) -> str | None:
    lines = _text(path).splitlines()
    return lines[0].strip() if lines else None
