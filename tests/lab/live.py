"""A guest in which crash looks at its own kernel, by /proc/kcore, while that runs."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from .fixture import ROOTS, Fixture, fixture, in_root
from .kernels import kernel
from .qemu import command_line, slot
from .scenarios.boots import find
from .store import LabError

CHECKOUT = Path(__file__).resolve().parent.parent.parent
LIVE = Path("live")  # in the guest: the root that crash has
MEMORY = 4096  # MiB: vmlinux with its debug information is unpacked into it
SECONDS = 900  # of boot and session, emulated
REST = "while :; do sleep 100000; done\n"  # the end of the guests' init
BEGIN, END = "live begins", "live ends"
# crash compares its vmlinux with /proc/version by strings(1); a Debian root has no busybox.
APPLETS = ("strings", "grep", "sed", "cat", "uname", "ls", "head")
LEFT_OUT = ("test", "idlelib", "tkinter", "ensurepip")  # of Python's library


def look(boot: str, commands: Sequence[str], storm: bool = False, name: str = "6.1") -> str:
    """What crash prints of these commands in a guest that plays a boot's faults; `storm`: while
    processes come and go all the time.  LabError if it does not get there."""
    made = fixture(kernel(name))
    with tempfile.TemporaryDirectory(prefix="faultlab.", dir=made.directory.parent) as folder:
        extra = Path(folder) / "extra"
        _fill(extra, made, commands, storm)
        initrd = Path(folder) / "initrd"
        with open(initrd, "wb") as image:  # a kernel unpacks one archive after the other
            image.write(made.initramfs.read_bytes())
            image.flush()
            files = b"\0".join(_relative(extra))
            subprocess.run(
                ["cpio", "--quiet", "-0", "-o", "-H", "newc", "--owner=0:0"],
                cwd=extra, input=files, stdout=image, check=True,
            )  # fmt: skip
        shutil.rmtree(extra)
        said = _run(made, initrd, find(boot).command_line(name), Path(folder) / "console")
    _, begun, rest = said.partition(BEGIN)
    session, ended, _ = rest.partition(END)
    if not begun or not ended:
        raise LabError(f"crash in the guest did not get to its end:\n{said[-3000:]}")
    return session


def _relative(folder: Path) -> Iterator[bytes]:
    for path in sorted(folder.rglob("*")):
        yield str(path.relative_to(folder)).encode()


def _run(made: Fixture, initrd: Path, append: str, console: Path) -> str:
    command = command_line(made.kernel.image, initrd, append, console, cpus=2, memory=MEMORY)
    with slot():
        try:
            subprocess.run(command, stdin=subprocess.DEVNULL, timeout=SECONDS, check=True)
        except subprocess.SubprocessError as error:
            said = console.read_text(errors="replace")[-3000:] if console.exists() else ""
            raise LabError(f"the guest: {error}\n{said}") from None
    return console.read_text(errors="replace").replace("\r", "")


def _fill(extra: Path, made: Fixture, commands: Sequence[str], storm: bool) -> None:
    """Everything that a session of crash needs, and the init that runs it."""
    suite = made.kernel.root
    root = Path(in_root_path(suite))
    live = extra / LIVE
    for folder in ("proc", "sys", "dev", "tmp", "root", "usr/bin", "usr/lib", "lib64"):
        (live / folder).mkdir(parents=True)
    (live / "bin").symlink_to("usr/bin")
    (live / "lib").symlink_to("usr/lib")
    python = in_root(suite, "sh", "-c", "ls /usr/lib/x86_64-linux-gnu/libpython3.*.so.1.0").strip()
    needed = in_root(suite, "ldd", "/usr/bin/crash", "/usr/bin/bash", python)
    libraries = {word for word in needed.split() if word.startswith("/") and ".so" in word}
    for path in [
        *sorted(word.rstrip(":") for word in libraries),
        "/usr/bin/crash",
        "/usr/bin/bash",
    ]:
        to = live / path.lstrip("/")
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / path.lstrip("/"), to)
    (live / "usr/bin/sh").symlink_to("bash")
    shutil.copy(shutil.which("busybox") or "/bin/busybox", live / "usr/bin/busybox")
    for applet in APPLETS:
        (live / "usr/bin" / applet).symlink_to("busybox")
    version = Path(python).name.removeprefix("lib").removesuffix(".so.1.0")
    shutil.copytree(
        root / "usr/lib" / version, live / "usr/lib" / version,
        ignore=shutil.ignore_patterns("__pycache__", *LEFT_OUT), symlinks=True,
    )  # fmt: skip
    for package in ("faultkit", "crash_ext"):
        shutil.copytree(
            CHECKOUT / package, live / "faultkit" / package,
            ignore=shutil.ignore_patterns("__pycache__", "src"),
        )  # fmt: skip
    shutil.copy(made.kernel.vmlinux, live / "root/vmlinux")
    shutil.copy(made.module, live / "root/faultlab.ko")
    lines = [
        "mod -s faultlab /root/faultlab.ko",
        "extend /faultkit/crash_ext/faultkit.so",
        *commands,
        "q",
    ]
    (live / "root/commands").write_text("".join(f"{line}\n" for line in lines))
    init = (Path(__file__).parent / "init").read_text()
    assert init.endswith(REST)
    storms = (
        "while :; do /bin/busybox true; done & while :; do ls -R /proc; done >/dev/null 2>&1 &\n"
    )
    (extra / "init").write_text(
        init.removesuffix(REST)
        + (storms if storm else "")
        + f"for folder in proc sys dev; do mount --bind /$folder /{LIVE}/$folder; done\n"
        f"echo '{BEGIN}' >/dev/ttyS0\n"
        f"TERM=dumb HOME=/root LC_ALL=C chroot /{LIVE} /usr/bin/bash -c "
        "'crash -s --no_scroll /root/vmlinux </root/commands' >/dev/ttyS0 2>&1\n"
        f"echo '{END}' >/dev/ttyS0\n"
        "poweroff -f\n"
    )
    (extra / "init").chmod(0o755)


def in_root_path(suite: str) -> str:
    """Where a Debian root lies."""
    done = subprocess.run([ROOTS / "root", suite], capture_output=True, text=True, check=True)
    return done.stdout.strip()
