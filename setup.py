"""Metadata of the distribution, and which packages it installs.

``INSTALL_REQUIRES`` and ``TEST_REQUIRES`` are plain lists of strings: ``tools/requirements`` reads
them without running this file.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

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


setup(
    name="faultkit",
    version=read_version(),
    description="gdb commands that say who waits for whom, and why: deadlock diagnosis",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="GPL-3.0-or-later",
    license_files=["LICENSE"],
    python_requires=">=3.9",
    packages=find_packages(include=["faultkit*", "gdb_ext*", "crash_ext*"]),
    package_data={"faultkit": ["py.typed"]},
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
