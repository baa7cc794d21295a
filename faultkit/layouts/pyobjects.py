"""What CPython's objects lead to by name: attributes, what classes define, functions' parts,
3.8 to 3.14."""

from collections.abc import Iterator

from faultkit.layouts.cpython import TYPE_AT, PythonMemory, is_pointer
from faultkit.layouts.pydict import dict_entries, own_attributes
from faultkit.target import ReadError

# of PyTypeObject, the same in all these versions
TP_FLAGS, TP_DICT, TP_MRO = 168, 264, 344
IS_TYPE = 1 << 31  # Py_TPFLAGS_TYPE_SUBCLASS, in the flags of a type's type
HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE
MD_DICT, CELL_REF = 16, 16
MOST_CLASSES = 32  # of one class and its bases
FUNCTION_WORDS = 10
WRAPPER_WORDS = 10  # of a staticmethod, classmethod, property, functools.partial
WRAPPERS = ("staticmethod", "classmethod", "property", "functools.partial")
TRIVIAL = frozenset(("", "str", "int", "NoneType", "bool", "float", "bytes"))


class PythonObjects:
    """Follows names from object to object; remembers dictionaries, which hold still."""

    def __init__(self, memory: PythonMemory) -> None:
        self.memory = memory
        self._dicts: dict[int, dict[str, int]] = {}
        self._owned: dict[int, dict[str, int]] = {}
        self._flags: dict[int, int] = {}
        self._mro: dict[int, list[int]] = {}
        self._classes: dict[int, list[int]] = {}

    def entries(self, dictionary: int) -> dict[str, int]:
        """The values by those keys of the dictionary that are names; {} if it is none."""
        if dictionary not in self._dicts:
            self._dicts[dictionary] = dict_entries(self.memory, dictionary)
        return self._dicts[dictionary]

    def flags(self, kind: int) -> int:
        """tp_flags."""
        if kind not in self._flags:
            try:
                self._flags[kind] = self.memory.process.u64(kind + TP_FLAGS)
            except ReadError:
                self._flags[kind] = 0
        return self._flags[kind]

    def type_of(self, value: int) -> int:
        """The object's type; 0 if there is no object."""
        try:
            return self.memory.process.u64(value + TYPE_AT) if is_pointer(value) else 0
        except ReadError:
            return 0

    def is_class(self, value: int) -> bool:
        """Whether the object is a type."""
        kind = self.type_of(value)
        return bool(kind) and bool(self.flags(kind) & IS_TYPE)

    def _bases(self, kind: int) -> list[int]:
        """The class and its bases, but for those of C, in the order in which they are asked."""
        if kind not in self._mro:
            try:
                bases = self.memory.items_of(self.memory.process.u64(kind + TP_MRO)) or (kind,)
            except ReadError:
                bases = ()
            plain = [base for base in bases[:MOST_CLASSES] if self.flags(base) & HEAP_TYPE]
            self._mro[kind] = plain
        return self._mro[kind]

    def classes(self, names: int) -> list[int]:
        """The classes among a module's globals."""
        if names not in self._classes:
            found = [value for value in self.entries(names).values() if self.is_class(value)]
            self._classes[names] = found
        return self._classes[names]

    def _body(self, kind: int) -> dict[str, int]:
        try:
            return self.entries(self.memory.process.u64(kind + TP_DICT))
        except ReadError:
            return {}

    def methods(self, kind: int) -> Iterator[int]:
        """The functions that the class and its bases define."""
        for base in self._bases(kind):
            for value in self._body(base).values():
                if self.memory.type_name(value) == "function":
                    yield value

    def own(self, value: int) -> dict[str, int]:
        """The attributes of the object itself, if its class is not of C."""
        if value not in self._owned:
            kind = self.type_of(value)
            known = self.memory.type_name(value) not in TRIVIAL and not self.is_class(value)
            is_plain = known and bool(self.flags(kind) & HEAP_TYPE)
            self._owned[value] = own_attributes(self.memory, value) if is_plain else {}
        return self._owned[value]

    def defined(self, kind: int, name: str) -> int:
        """What the class or the first of its bases to do so defines as `name`; 0 for nothing."""
        bodies = (self._body(base) for base in self._bases(kind))
        return next((body[name] for body in bodies if name in body), 0)

    def attribute(self, value: int, name: str) -> int:
        """The object's attribute: a module's, its own, or its class's; 0 if it isn't found.
        What a class defines comes as it stands there, not bound to the object."""
        kind = self.memory.type_name(value)
        if kind in TRIVIAL:
            return 0
        try:
            if kind == "module":
                return self.entries(self.memory.process.u64(value + MD_DICT)).get(name, 0)
        except ReadError:
            return 0
        if self.is_class(value):
            return self.defined(value, name)
        return self.own(value).get(name) or self.defined(self.type_of(value), name)

    def cell(self, value: int) -> int:
        """The object, or what is in it if it is a cell."""
        if self.memory.type_name(value) != "cell":
            return value
        try:
            return self.memory.process.u64(value + CELL_REF)
        except ReadError:
            return 0

    def function(self, value: int) -> tuple[int, int, tuple[int, ...]]:
        """(code, globals, what is in its closure) of a function (PyFunctionObject: code, globals,
        defaults, kwdefaults, closure to 3.9; globals, builtins, name, qualname, code... since)."""
        try:
            words = self.memory.process.words(value, FUNCTION_WORDS)
        except ReadError:
            return 0, 0, ()
        if self.memory.type_name(words[2]) == "code":
            code, scope, closure = words[2], words[3], words[6]
        elif self.memory.type_name(words[6]) == "code":
            code, scope, closure = words[6], words[2], words[9]
        else:
            return 0, 0, ()
        return code, scope, tuple(self.cell(item) for item in self.memory.items_of(closure))

    def unbound(self, value: int) -> int:
        """The function of a bound method; 0 if it is none."""
        try:
            is_method = self.memory.type_name(value) == "method"
            return self.memory.process.u64(value + 16) if is_method else 0
        except ReadError:
            return 0

    def wrapped(self, value: int) -> Iterator[int]:
        """The functions and methods that a wrapper of C's is made of."""
        if self.memory.type_name(value) in WRAPPERS:
            try:
                words = self.memory.process.words(value, WRAPPER_WORDS)[2:]
            except ReadError:
                return
            for word in words:
                if self.memory.type_name(word) in ("function", "method"):
                    yield word
