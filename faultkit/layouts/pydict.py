"""Whether a name leads to an object: in a CPython dictionary, or as an instance's attribute.

The question is asked with the object known, so that hash tables need not be understood: an entry
of any version is {..., key, value}, and a name's place among shared keys is counted.
"""

from collections.abc import Iterator

from faultkit.layouts.cpython import TYPE_AT, PythonMemory, is_pointer
from faultkit.target import ReadError

MOST_ENTRIES = 1 << 15  # words of a dictionary's table that are looked at
MOST_NAMES = 64  # attributes of one instance
KEYS_AT, VALUES_AT = 32, 40  # PyDictObject.ma_keys, ma_values
TYPE_WORDS = 130  # of a PyHeapTypeObject, ht_cached_keys being one
SPLIT = 2  # DICT_KEYS_SPLIT, dk_kind since 3.11
TP_FLAGS, TP_DICTOFFSET = 168, 288
MANAGED_DICT, INLINE_VALUES = 1 << 4, 1 << 2  # Py_TPFLAGS_...: since 3.11, 3.13
MOST_OFFSET = 1 << 16


def dict_has(memory: PythonMemory, dictionary: int, name: str, value: int) -> bool:
    """Whether `dictionary[name]` is the object at `value`."""
    if memory.type_name(dictionary) != "dict":
        return False
    try:
        keys, values = memory.process.words(dictionary + KEYS_AT, 2)
    except ReadError:
        return False
    if is_pointer(values):
        return _shared_has(memory, keys, _values_at(memory, values), name, value)
    return _table_has(memory, keys, name, value)


def attribute_is(memory: PythonMemory, instance: int, name: str, value: int) -> bool:
    """Whether the attribute `name` of the instance itself is the object at `value`."""
    dictionary, array = _own_places(memory, instance)
    if dictionary:
        return dict_has(memory, dictionary, name, value)
    if not array:
        return False
    kind = memory.process.u64(instance + TYPE_AT)
    return any(_shared_has(memory, keys, array, name, value) for keys in _shared_keys(memory, kind))


def _own_places(memory: PythonMemory, instance: int) -> tuple[int, int]:
    """(the instance's dictionary, its values without one), each 0 if it has none.  Only where the
    type has them: what lies before an object may be another's."""
    try:
        kind = memory.process.u64(instance + TYPE_AT)
        offset = memory.process.u64(kind + TP_DICTOFFSET)
        if 0 < offset < MOST_OFFSET:
            found = memory.process.u64(instance + offset)
            return (found if memory.type_name(found) == "dict" else 0), 0
        flags = memory.process.u64(kind + TP_FLAGS)
        if not flags & MANAGED_DICT:
            return 0, 0
        values, dictionary = memory.process.words(instance - 32, 2)
    except ReadError:
        return 0, 0
    if memory.type_name(dictionary) == "dict":
        return dictionary, 0
    # pointed to (3.11), the same word tagged (3.12), within the object (3.13)
    if flags & INLINE_VALUES:
        return 0, instance + 24
    array = dictionary + 1 if dictionary & 1 else values
    return 0, array if is_pointer(array) else 0


def dict_entries(memory: PythonMemory, dictionary: int) -> dict[str, int]:
    """The values by those keys of the dictionary that are names; {} if it is none."""
    if memory.type_name(dictionary) != "dict":
        return {}
    try:
        keys, values = memory.process.words(dictionary + KEYS_AT, 2)
        if is_pointer(values):
            return _shared_entries(memory, keys, _values_at(memory, values))
    except ReadError:
        return {}
    found: dict[str, int] = {}
    for key, value in _table_entries(memory, keys):
        if is_pointer(value) and (name := memory.text(key)) is not None:
            found[name] = value
    return found


def own_attributes(memory: PythonMemory, instance: int) -> dict[str, int]:
    """The attributes of the instance itself, by name."""
    dictionary, array = _own_places(memory, instance)
    if dictionary:
        return dict_entries(memory, dictionary)
    kind = memory.process.u64(instance + TYPE_AT) if array else 0
    for keys in _shared_keys(memory, kind) if array else ():
        found = _shared_entries(memory, keys, array)
        if found and all(memory.type_name(value) for value in found.values()):
            return found
    return {}


def _table_has(memory: PythonMemory, keys: int, name: str, value: int) -> bool:
    for words in _chunks(memory, keys):
        for index in range(1, len(words)):
            if words[index] == value and memory.text(words[index - 1]) == name:
                return True
    return False


def _table_entries(memory: PythonMemory, keys: int) -> Iterator[tuple[int, int]]:
    """The (key, value) pairs of a keys object that isn't shared, behind its table of indexes."""
    try:
        head = memory.process.words(keys, 5)
        if 8 <= head[1] <= MOST_ENTRIES and head[1] & head[1] - 1 == 0:  # dk_size: to 3.10
            wide = 1 if head[1] < 1 << 8 else 2
            start, width, count = keys + 40 + wide * head[1], 3, head[4]
        elif head[1] >> 8 & 0xFF < 20:  # dk_log2_index_bytes, and dk_kind: GENERAL has hashes
            width = 2 if head[1] >> 16 & 0xFF else 3
            start, count = keys + 32 + (1 << (head[1] >> 8 & 0xFF)), head[3]
        else:
            return
        if not 0 < count <= MOST_ENTRIES // width:
            return
        words = memory.process.words(start, width * count)
    except ReadError:
        return
    yield from zip(words[width - 2 :: width], words[width - 1 :: width])


def _chunks(memory: PythonMemory, address: int) -> Iterator[tuple[int, ...]]:
    """The words of a keys object of unknown size, each chunk with the last word of the one
    before."""
    if not is_pointer(address):
        return
    try:
        head = memory.process.words(address, 5)
    except ReadError:
        return
    # dk_size (to 3.10) or 1 << dk_log2_size: the table has at most that many entries
    slots = head[1] if 8 <= head[1] <= MOST_ENTRIES else 1 << (head[1] & 0xFF) % 64
    left = min(5 + 4 * slots, MOST_ENTRIES)
    while left > 0:
        try:
            words = memory.process.words(address, min(left, 512))
        except ReadError:
            return
        yield words
        left -= 511
        address += 8 * 511


def _shared_has(memory: PythonMemory, keys: int, values: int, name: str, value: int) -> bool:
    try:
        held = memory.process.words(values, MOST_NAMES)
    except ReadError:
        held = ()
    for index, key in enumerate(_names(memory, keys)):
        if key == name:
            return index < len(held) and held[index] == value
    return False


def _shared_entries(memory: PythonMemory, keys: int, values: int) -> dict[str, int]:
    names = _names(memory, keys)
    try:
        held = memory.process.words(values, len(names))
    except ReadError:
        return {}
    return {name: value for name, value in zip(names, held) if is_pointer(value)}


def _names(memory: PythonMemory, keys: int) -> list[str]:
    """The names in a keys object with one byte for each index, in their order; [] if it is none."""
    try:
        head = memory.process.words(keys, 5)
        if 8 <= head[1] <= 128 and head[1] & head[1] - 1 == 0:  # dk_size: to 3.10
            start, width, count = keys + 40 + head[1], 3, head[4]
        elif head[1] >> 16 & 0xFF == SPLIT and head[1] >> 8 & 0xFF <= 7:
            start, width, count = keys + 32 + (1 << (head[1] >> 8 & 0xFF)), 2, head[3]
        else:
            return []
        if not 0 < count <= MOST_NAMES:
            return []
        words = memory.process.words(start, width * count)
    except ReadError:
        return []
    texts = [memory.text(word) for word in words[width - 2 :: width]]
    return [text for text in texts if text is not None] if None not in texts else []


def _shared_keys(memory: PythonMemory, kind: int) -> Iterator[int]:
    """The type's words that are a keys object."""
    try:
        words = memory.process.words(kind, TYPE_WORDS)
    except ReadError:
        return
    for word in words[40:]:  # behind the slots that every type has
        if is_pointer(word) and _names(memory, word):
            yield word


def _values_at(memory: PythonMemory, values: int) -> int:
    """Where a split dictionary's values begin: at once, or since 3.13 behind the sizes of what
    lies within the instance."""
    first = memory.process.u64(values)
    return values if first == 0 or is_pointer(first) else values + 8
