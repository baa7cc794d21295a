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
DICT_AT = (16, -24, -32)  # an instance's dictionary, in a plain class: to 3.10, since 3.12, 3.11


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
    process = memory.process
    try:
        before = process.words(instance - 32, 8)
        kind = process.u64(instance + TYPE_AT)
    except ReadError:
        return False
    for offset in DICT_AT:
        if dict_has(memory, before[(offset + 32) // 8], name, value):
            return True
    # values without a dictionary: pointed to (3.11), tagged (3.12), within the object (3.13)
    arrays = (before[0], before[1] + 1, instance + 24)
    return any(
        _shared_has(memory, keys, array, name, value)
        for keys in _shared_keys(memory, kind)
        for array in arrays
        if is_pointer(array)
    )


def _table_has(memory: PythonMemory, keys: int, name: str, value: int) -> bool:
    for words in _chunks(memory, keys):
        for index in range(1, len(words)):
            if words[index] == value and memory.text(words[index - 1]) == name:
                return True
    return False


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
