"""Builds test programs, each in its variants, into a cache that processes may share.

Environment: FAULTKIT_CACHE names the cache's directory; CC and CXX the compilers.
"""

import contextlib
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

PROGRAMS = Path(__file__).resolve().parent / "programs"


class HarnessError(Exception):
    """The harness itself could not do its part."""


class Unplayable(Exception):
    """This machine cannot do what the test needs; the text says why."""


COMMON = ("-Wall", "-Wextra", "-pthread")
FLAGS = {  # what each variant of a C or C++ program adds
    "dbg": ("-g", "-O0"),
    "opt": ("-g", "-O2"),
    "stripped": ("-O2", "-s"),
    "static": ("-g", "-O2", "-static"),
    "static-stripped": ("-O2", "-static", "-s"),
    "musl": ("-g", "-O2", "-static"),
    "musl-stripped": ("-O2", "-static", "-s"),
    "musl-dynamic": ("-g", "-O2"),
}
RUST_FLAGS = {
    "rust": ("-g", "-C", "opt-level=0"),
    "rust-opt": ("-g", "-C", "opt-level=2"),
    "rust-stripped": ("-C", "opt-level=2", "-C", "strip=symbols"),
    "rust-abort": ("-g", "-C", "opt-level=2", "-C", "panic=abort"),
    "rust-abort-stripped": ("-C", "opt-level=2", "-C", "panic=abort", "-C", "strip=symbols"),
}
GO_FLAGS = {"go": (), "go-stripped": ("-ldflags=-s -w",)}


# References to pthread functions may be weak (librt's, libstdc++'s): before glibc 2.34, where they
# moved to libc, a static program has them only if it takes all of libpthread.a.
ALL_OF_LIBPTHREAD = ("-Wl,--whole-archive", "-lpthread", "-Wl,--no-whole-archive")


def libraries(variant: str) -> tuple[str, ...]:
    return ALL_OF_LIBPTHREAD if variant.startswith("static") else ()


def compile_c(source: Path, variant: str, output: Path) -> list[str]:
    compiler = "musl-gcc" if variant.startswith("musl") else os.environ.get("CC", "gcc")
    flags = (*COMMON, *FLAGS[variant])
    return [compiler, *flags, "-o", str(output), str(source), *libraries(variant), "-lrt"]


def compile_cxx(source: Path, variant: str, output: Path) -> list[str]:
    compiler = os.environ.get("CXX", "g++")
    flags = (*COMMON, *FLAGS[variant])
    return [compiler, "-std=c++20", *flags, "-o", str(output), str(source), *libraries(variant)]


def compile_rust(source: Path, variant: str, output: Path) -> list[str]:
    flags = RUST_FLAGS[variant]
    return ["rustc", "--edition=2021", *flags, "-o", str(output), str(source)]


def compile_go(source: Path, variant: str, output: Path) -> list[str]:
    return ["go", "build", *GO_FLAGS[variant], "-o", str(output), str(source)]


BUILDERS = {".c": compile_c, ".cc": compile_cxx, ".rs": compile_rust, ".go": compile_go}
VERSION_FLAG = {"go": "version"}


@functools.cache
def compiler_version(compiler: str) -> str:
    """What the compiler says that it is; raises Unplayable if it isn't there."""
    if shutil.which(compiler) is None:
        raise Unplayable(f"no {compiler} here")
    command = [compiler, VERSION_FLAG.get(compiler, "--version")]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def cache_directory() -> Path:
    fallback = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "faultkit"
    return Path(os.environ.get("FAULTKIT_CACHE") or fallback) / "programs"


def build(program: str, variant: str) -> Path:
    """The executable of tests/programs/`program` in `variant`, built unless it is cached.

    Safe when several processes build the same: each builds its own, the first one's is used.
    """
    source = PROGRAMS / program
    name = Path(program).stem
    make = BUILDERS[source.suffix]
    command = make(source, variant, Path("OUTPUT"))
    digest = hashlib.sha256(compiler_version(command[0]).encode())
    digest.update("\0".join(command[:-1]).encode())
    for path in [source, *sorted(PROGRAMS.glob("*.h"))]:
        digest.update(path.read_bytes())
    directory = cache_directory() / digest.hexdigest()[:16]
    executable = directory / name
    if not executable.exists():
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory) as scratch:
            fresh = Path(scratch) / name
            done = subprocess.run(
                make(source, variant, fresh), capture_output=True, text=True, check=False
            )
            if done.returncode or done.stderr:
                raise HarnessError(f"building {program} ({variant}):\n{done.stderr}")
            with contextlib.suppress(FileExistsError):  # another's, which may run already
                os.link(fresh, executable)
    return executable


def command_line(program: str, variant: str) -> list[str]:
    """What to run for `program`: its executable, or its interpreter and itself."""
    source = PROGRAMS / program
    if source.suffix != ".py":
        return [str(build(program, variant))]
    return [interpreter(variant), str(source)]


def interpreter(variant: str) -> str:
    """The real executable (no shim, no virtual environment: cores need it) for "python", the
    system's, or "python3.N", the system's or pyenv's; raises Unplayable if there is none."""
    name = "python3" if variant == "python" else variant
    homes = sorted(Path.home().glob(f".pyenv/versions/{name[len('python') :]}*/bin"))
    for directory in (Path("/usr/bin"), *homes):
        if os.access(directory / name, os.X_OK):
            return os.path.realpath(directory / name)
    raise Unplayable(f"no {name} here")
