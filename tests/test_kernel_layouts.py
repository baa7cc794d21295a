"""The list of struct members that the kernel half relies on has all that its code asks for."""

import ast
from collections.abc import Iterator
from pathlib import Path

from faultkit.kernel.layouts import NEEDED

PACKAGE = Path(__file__).resolve().parent.parent / "faultkit" / "kernel"
READERS = ("need", "pointer", "unsigned")  # the type is the argument before the last


def _asked() -> Iterator[tuple[str, str, str]]:
    """(where, type, member) of every literal that the code can't do without."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            where = f"{path.name}:{node.lineno}"
            if isinstance(node.func, ast.Attribute) and node.func.attr == "layout":
                for member in _members(node.args[1:]):
                    yield where, node.args[0].value, member
            if not isinstance(node.func, ast.Name):
                continue
            if node.func.id in READERS and len(node.args) > 2:
                words = [arg.value for arg in node.args[-2:] if isinstance(arg, ast.Constant)]
                if len(words) == 2 and all(isinstance(word, str) for word in words):
                    yield where, words[0], words[1]
            elif node.func.id == "first_offset":
                for arg in node.args[1:]:
                    words = [getattr(item, "value", None) for item in getattr(arg, "elts", ())]
                    if words and all(isinstance(word, str) for word in words):
                        yield where, words[0], words[1]
            elif node.func.id == "Layout":
                for member in _members(node.args[2:]):
                    yield where, node.args[1].value, member


def _members(nodes: list[ast.expr]) -> Iterator[str]:
    """What a Layout reads: names, or alternatives, of which one that ends in None is optional."""
    for node in nodes:
        if isinstance(node, ast.Constant):
            yield node.value
        elif isinstance(node, ast.Tuple) and isinstance(node.elts[0], ast.Constant):
            names = [getattr(item, "value", None) for item in node.elts]
            if names[-1] is not None:
                yield from names


def test_every_member_asked_for_is_listed() -> None:
    listed = {place for group in NEEDED for place in group}
    asked = list(_asked())
    assert len(asked) > 80, "the search for what the code asks for finds too little"
    optional = {("semaphore", "last_holder"), ("worker", "current_color")}
    missing = [entry for entry in asked if entry[1:] not in listed | optional]
    # types of modules that may be built in, and BTF of modules, which came with 5.11
    done_without = ("fuse_", "ovl_", "btf")
    assert not [entry for entry in missing if not entry[1].startswith(done_without)]


def test_no_group_is_listed_twice() -> None:
    assert len(NEEDED) == len(set(NEEDED))
