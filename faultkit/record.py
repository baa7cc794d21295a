"""NamedTuple and Protocol without typing, the import of which takes longer than most analyses.

What type checkers see are typing's own.  `from __future__ import annotations` keeps annotations
from being evaluated, and typing from being needed, at run time."""

from __future__ import annotations

from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple as NamedTuple
    from typing import Protocol as Protocol
else:

    class _Type(type):
        """Makes a namedtuple of a class with annotations, and gives it what else the class has."""

        def __new__(mcs, name, bases, namespace):
            if not bases:
                return super().__new__(mcs, name, bases, namespace)
            fields = tuple(namespace.get("__annotations__", ()))
            defaults = [namespace[field] for field in fields if field in namespace]
            made = namedtuple(name, fields, defaults=defaults, module=namespace["__module__"])
            for key, value in namespace.items():
                if key not in fields and key != "__module__":
                    setattr(made, key, value)
            return made

    class NamedTuple(metaclass=_Type):
        """A tuple with a name for each of its annotated fields."""

    class Protocol:
        """Describes what is asked of a class."""
