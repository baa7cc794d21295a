"""What a wheel and a source archive hold, and an installation from them, all without a network."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import faultkit

ROOT = Path(__file__).resolve().parent.parent
GDB = os.environ.get("GDB", "gdb")
PACKAGES = ("faultkit", "gdb_ext", "crash_ext")


def run(*command, **options):
    """The output of a command that ends well."""
    done = subprocess.run(
        list(map(str, command)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        **options,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the files that git knows, or would: building writes into the source tree; in a
    directory as users have them."""
    copy = tmp_path_factory.mktemp("the source é")
    ignored = {".git", ".venv", "build", "dist", "__pycache__"}

    def ignore(directory, names):
        return [name for name in names if name in ignored or name.endswith((".egg-info", "_cache"))]

    shutil.copytree(ROOT, copy, ignore=ignore, dirs_exist_ok=True)
    return copy


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    """The wheel of this source."""
    directory = tmp_path_factory.mktemp("wheel")
    run(
        *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"),
        *("--no-build-isolation", "--wheel-dir", directory, source),
        cwd=directory,
    )
    (wheel,) = directory.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def sdist(source, tmp_path_factory):
    """The names in the source archive, below its top directory."""
    directory = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "setup.py", "--quiet", "sdist", "--dist-dir", directory, cwd=source)
    (archive,) = directory.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        return {name.partition("/")[2] for name in tar.getnames()}


@pytest.fixture(scope="module")
def installation(wheel, tmp_path_factory):
    """A virtual environment with the wheel in it and nothing else, as pipx makes them."""
    venv = tmp_path_factory.mktemp("installation") / "venv"
    run(sys.executable, "-m", "venv", venv)
    run(venv / "bin" / "pip", "install", "--quiet", "--no-deps", "--no-index", wheel)
    return venv


def modules():
    return {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
    }


def test_wheel_holds_every_module_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert {name for name in names if name.endswith(".py")} == modules()
    assert "faultkit/py.typed" in names
    assert not [name for name in names if not name.startswith(PACKAGES)]


def test_wheel_has_faultkit_so_where_crash_s_header_is(wheel):
    built = Path("/usr/include/crash/defs.h").exists()
    with zipfile.ZipFile(wheel) as archive:
        objects = {name for name in archive.namelist() if name.endswith(".so")}
        assert "crash_ext/src/shim.c" in archive.namelist()
    assert objects == ({"crash_ext/faultkit.so", "crash_ext/_faultkit.so"} if built else set())
    assert wheel.name.endswith("-py3-none-linux_x86_64.whl" if built else "-py3-none-any.whl")


def test_wheel_s_metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (path,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        metadata = archive.read(path).decode()
        assert any(name.endswith("/LICENSE") for name in archive.namelist())
    assert f"\nVersion: {faultkit.__version__}\n" in metadata
    assert "\nRequires-Python: >=3.9\n" in metadata
    assert re.search(r"^License(-Expression)?: GPL-3.0-or-later$", metadata, re.MULTILINE)
    needed = re.findall(r"^Requires-Dist: ([A-Za-z]+)[^;\n]*$", metadata, re.MULTILINE)
    assert sorted(name.lower() for name in needed) == ["pyelftools", "pygments", "tabulate"]


def test_sdist_holds_what_builds_tests_and_explains_it(sdist):
    assert modules() <= sdist
    assert {
        "LICENSE",
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "Makefile",
        "pyproject.toml",
        "setup.py",
        "examples/transfer.c",
        "tests/test_packaging.py",
        "tests/roots/run",
        "tools/transcripts",
    } <= sdist
    assert not [name for name in sdist if "__pycache__" in name or name.startswith(".venv")]


def test_installed_path_is_sourced_by_gdb(installation, tmp_path):
    """Also where nothing else, such as this checkout, could help it."""
    path = run(installation / "bin" / "faultkit", "path", cwd=tmp_path).rstrip("\n")
    assert path.startswith(str(installation.resolve()))
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "FAULTKIT"))}
    output = run(
        *(GDB, "-nx", "-batch", "-ex", f"source {path}", "-ex", "help faultkit"),
        *("-ex", "python import faultkit.cli; print(faultkit.__file__)"),
        cwd=tmp_path,
        env={**environment, "HOME": str(tmp_path)},
    )
    assert "deadlock" in output
    assert output.splitlines()[-1].startswith(str(installation.resolve()))


def test_installed_module_runs_as_the_script_does(installation, tmp_path):
    python = installation / "bin" / "python"
    script = run(installation / "bin" / "faultkit", "--version", cwd=tmp_path)
    assert run(python, "-m", "faultkit", "--version", cwd=tmp_path) == script
    assert script == f"faultkit {faultkit.__version__}\n"


def test_requirements_are_setup_s(wheel):
    """tools/requirements reads setup.py without running it; the wheel's metadata is what ran."""
    printed = run(sys.executable, ROOT / "tools" / "requirements").split("\n")
    with zipfile.ZipFile(wheel) as archive:
        (path,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        metadata = archive.read(path).decode()
    for line in filter(None, printed):
        name, version = re.match(r"(\w+)>=(\S+)$", line).groups()
        assert re.search(rf"^Requires-Dist: {name} ?\(?>={re.escape(version)}\)?$", metadata, re.M)
