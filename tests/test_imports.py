"""The rules on who imports what, and who prints, read from the source of every file."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

HOSTS = {"gdb", "crash", "pykdump", "epython", "LinuxDump", "_faultkit"}
HOST_OF = {
    "faultkit": set(),
    "gdb_ext": {"gdb"},
    "crash_ext": {"crash", "pykdump", "LinuxDump", "_faultkit"},
}
RENDER_ONLY = {"tabulate", "pygments"}
HEAVY = {"elftools", "tabulate", "pygments", "json", "ctypes", "typing"}
MAY_PRINT = ("faultkit/render/", "faultkit/cli/")
# Run by hand in processes of their own: instant sourcing is not at stake.
HEAVY_AT_TOP = ("faultkit/cli/", "gdb_ext/probe.py")

FILES = sorted(path for package in HOST_OF for path in (ROOT / package).rglob("*.py"))


def name(path: Path) -> str:
    """The path as the tests show it, and as the rules are written."""
    return path.relative_to(ROOT).as_posix()


every_file = pytest.mark.parametrize("path", FILES, ids=map(name, FILES))


def imports(tree: ast.AST) -> "set[str]":
    """The top-level names of all modules imported anywhere in the tree, relative ones left out."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module.split(".")[0])
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func
            called_name = getattr(called, "attr", getattr(called, "id", ""))
            if called_name in ("import_module", "__import__"):
                found.add(str(node.args[0].value).split(".")[0])
    return found


def imports_when_loaded(tree: ast.AST) -> "set[str]":
    """The modules imported as soon as the file is: function bodies and type checking left out."""
    found = set()
    pending = list(ast.iter_child_nodes(tree))
    while pending:
        node = pending.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            pending += node.orelse
            continue
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= imports(node)
        pending += ast.iter_child_nodes(node)
    return found


def prints(tree: ast.AST) -> "list[int]":
    """The lines that print, or take hold of the standard streams."""
    lines = []
    for node in ast.walk(tree):
        call = isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
        stream = (
            isinstance(node, ast.Attribute)
            and node.attr in ("stdout", "stderr", "__stdout__", "__stderr__")
            and getattr(node.value, "id", "") == "sys"
        )
        if call or stream:
            lines.append(node.lineno)
    return lines


def parse(path: Path) -> ast.AST:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def test_files_are_found():
    assert len(FILES) > 20


@every_file
def test_host_modules_stay_in_their_package(path):
    allowed = HOST_OF[name(path).split("/")[0]]
    assert not imports(parse(path)) & HOSTS - allowed


@every_file
def test_core_does_not_import_the_extensions(path):
    if name(path).startswith("faultkit/"):
        assert not imports(parse(path)) & {"gdb_ext", "crash_ext"}


@every_file
def test_tables_and_colours_are_the_renderers(path):
    if not name(path).startswith("faultkit/render/"):
        assert not imports(parse(path)) & RENDER_ONLY


@every_file
def test_heavy_modules_are_imported_where_they_are_used(path):
    if not name(path).startswith(HEAVY_AT_TOP):
        assert not imports_when_loaded(parse(path)) & HEAVY


@every_file
def test_only_renderers_and_the_console_script_print(path):
    if name(path).startswith("faultkit/") and not name(path).startswith(MAY_PRINT):
        assert prints(parse(path)) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import gdb", {"gdb"}),
        ("from gdb.types import x", {"gdb"}),
        ("def f():\n import gdb.types", {"gdb"}),
        ("importlib.import_module('gdb')", {"gdb"}),
        ("__import__('gdb')", {"gdb"}),
        ("from . import gdb", set()),
    ],
)
def test_the_rule_sees_every_form_of_import(source, found):
    assert imports(ast.parse(source)) == found


def test_the_rules_see_what_runs_at_load_and_what_prints():
    tree = ast.parse(
        "try:\n import json\nexcept ImportError: pass\nclass A:\n import ctypes\n"
        "def f():\n import pygments\n print(1)\n sys.stdout.write('')\n"
        "if TYPE_CHECKING:\n import tabulate\n"
    )
    assert imports_when_loaded(tree) == {"json", "ctypes"}
    assert prints(tree) == [8, 9]
