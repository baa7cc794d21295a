"""Metadata of the distribution, and which packages it installs.

``INSTALL_REQUIRES`` and ``TEST_REQUIRES`` are plain lists of strings: ``tools/requirements`` reads
them without running this file.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from setuptools import Distribution, find_packages, setup
from setuptools.command.build_py import build_py

try:
    from setuptools.command.bdist_wheel import bdist_wheel
except ImportError:  # setuptools before 70.1
    from wheel.bdist_wheel import bdist_wheel

HERE = Path(__file__).resolve().parent

INSTALL_REQUIRES = [
    "pyelftools>=0.29",
    "tabulate>=0.8.9",
    "pygments>=2.7",
]

TEST_REQUIRES = [
    "pytest>=7.4",
    "pytest-xdist>=3.3",
    "pytest-rerunfailures>=12",
    "hypothesis>=6.80",
    "networkx>=2.8",
    "drgn>=0.0.30; python_version >= '3.11'",
    "setuptools>=61",
    "wheel>=0.38",
    "ruff>=0.5; python_version >= '3.11'",
    "mypy>=1.8; python_version >= '3.11'",
    "types-tabulate; python_version >= '3.11'",
    "types-Pygments; python_version >= '3.11'",
]


def read_version() -> str:
    """The ``__version__`` of faultkit/__init__.py, read without importing the package."""
    text = (HERE / "faultkit" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if match is None:
        raise RuntimeError("faultkit/__init__.py has no line of the form __version__ = \"1.2.3\"")
    return match.group(1)


def crash_headers() -> str:
    """The directory with crash's defs.h, "" where faultkit.so can't be built."""
    folder = os.environ.get("CRASH_INCLUDE", "/usr/include/crash")
    return folder if sys.platform == "linux" and os.path.isfile(f"{folder}/defs.h") else ""


class BuildWithCrash(build_py):
    """Builds faultkit.so, for crash's `extend`, where crash's header is; without it, or if that
    fails, the rest is as good."""

    def run(self) -> None:
        super().run()
        if not crash_headers():
            return
        out = Path(self.build_lib) / "crash_ext"
        # make takes a path with blanks for several: those here have none.
        with tempfile.TemporaryDirectory(prefix="faultkit-") as build:
            where = [f"OUT={build}", f"BUILD={build}/objects"]
            try:
                subprocess.run(["make", "-C", str(HERE / "crash_ext/src"), *where], check=True)
            except (OSError, subprocess.CalledProcessError) as error:
                self.warn(f"crash_ext/faultkit.so was not built: {error}")
                return
            out.mkdir(parents=True, exist_ok=True)
            for library in ("faultkit.so", "_faultkit.so"):
                shutil.copy(Path(build) / library, out / library)


class ForThisMachine(Distribution):
    """A distribution that is not for every machine once it has faultkit.so in it."""

    def has_ext_modules(self) -> bool:
        return bool(crash_headers())


class WheelForAnyPython(bdist_wheel):
    """faultkit.so uses Python's limited API, and is no module of the Python that installs it."""

    def get_tag(self) -> "tuple[str, str, str]":
        platform = super().get_tag()[2]
        return "py3", "none", platform


setup(
    name="faultkit",
    version=read_version(),
    description="gdb and crash commands that say why a program or kernel is stuck, or died",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="GPL-3.0-or-later",
    license_files=["LICENSE"],
    python_requires=">=3.9",
    packages=find_packages(include=["faultkit*", "gdb_ext*", "crash_ext*"]),
    package_data={"faultkit": ["py.typed"], "crash_ext": ["src/*"]},
    cmdclass={"build_py": BuildWithCrash, "bdist_wheel": WheelForAnyPython},
    distclass=ForThisMachine,
    install_requires=INSTALL_REQUIRES,
    extras_require={"test": TEST_REQUIRES},
    entry_points={"console_scripts": ["faultkit = faultkit.cli:main"]},
    zip_safe=False,
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: System Administrators",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        "Topic :: Software Development :: Debuggers",
    ],
)
