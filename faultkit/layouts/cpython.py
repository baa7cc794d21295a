"""CPython's objects, thread states and GIL in memory, 3.9 to 3.14, with or without symbols.

Nothing here asks which version it is: an object's type names itself, a thread state is known by
its neighbours in the list and by the pthread_t it holds, a GIL by the thread state it names.
"""

from __future__ import annotations

from collections.abc import Container

from faultkit.layouts import glibc, musl
from faultkit.record import NamedTuple
from faultkit.target import Process, ReadError

TYPE_AT = 8  # PyObject.ob_type
TP_NAME, TP_BASICSIZE = 24, 32  # of PyTypeObject
LONGEST_NAME = 64
HIGHEST = 1 << 47  # user-space addresses are below


def is_pointer(word: int, alignment: int = 8) -> bool:
    """Whether a word can be the address of an object in user space."""
    return 0x1000 <= word < HIGHEST and word % alignment == 0


def thread_of(process: Process, ident: int, tids: Container[int]) -> int | None:
    """The tid of the thread whose pthread_t (threading.get_ident()) is `ident`, or None."""
    if not is_pointer(ident):
        return None
    tid = glibc.thread_of_descriptor(process, ident, tids)
    return tid if tid is not None else musl.thread_of_descriptor(process, ident, tids)


def thread_is_gone(process: Process, ident: int) -> bool:
    """Whether `ident` was a thread's pthread_t and that thread has exited: glibc keeps its
    descriptor, in which the kernel has cleared the tid, or has unmapped it with the stack."""
    if process.mapping(ident) is None:
        return is_pointer(ident, 64)
    try:
        head = process.words(ident, 3)
        return head[0] == head[2] == ident and process.u32(ident + glibc.TID_AT) == 0
    except ReadError:
        return False


class PythonMemory:
    """Reads Python objects of one process; remembers the names of types."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self._type_names: dict[int, str] = {}

    def type_name(self, address: int) -> str:
        """tp_name of the object at `address`, "" if there is no object."""
        if not is_pointer(address):
            return ""
        try:
            kind = self.process.u64(address + TYPE_AT)
            if kind not in self._type_names:
                self._type_names[kind] = self._read_type_name(kind)
            return self._type_names[kind]
        except ReadError:
            return ""

    def _read_type_name(self, kind: int) -> str:
        """A type is an object whose own type's name is "type", or a metaclass's."""
        if not is_pointer(kind):
            return ""
        try:
            return self.c_string(self.process.u64(kind + TP_NAME))
        except ReadError:
            return ""

    def c_string(self, address: int) -> str:
        """The printable ASCII string at `address`, "" where there is none."""
        if not is_pointer(address, 1):
            return ""
        size = min(LONGEST_NAME, 4096 - address % 4096)
        try:
            data = self.process.read(address, size)
            if b"\0" not in data and size < LONGEST_NAME:
                data += self.process.read(address + size, LONGEST_NAME - size)
        except ReadError:
            return ""
        text, end, _ = data.partition(b"\0")
        return text.decode() if end and text.isascii() and text.decode().isprintable() else ""

    def text(self, address: int, longest: int = 512) -> str | None:
        """The str object at `address` if it is compact ASCII, up to `longest` characters."""
        if self.type_name(address) != "str":
            return None
        try:
            length = self.process.u64(address + 16)
            if not 0 < length <= longest:
                return None
            # PyASCIIObject ended with a wstr pointer up to 3.11; the text ends with a 0 byte
            for start in (40, 48):
                data = self.process.read(address + start, length + 1)
                if data[-1] == 0 and 0 not in data[:-1] and data.isascii():
                    return data[:-1].decode()
        except ReadError:
            pass
        return None

    def bytes_of(self, address: int, longest: int = 1 << 20) -> bytes:
        """The contents of the bytes object at `address`, b"" if it is none."""
        if self.type_name(address) != "bytes":
            return b""
        try:
            size = self.process.u64(address + 16)
            return self.process.read(address + 32, size) if size <= longest else b""
        except ReadError:
            return b""


    def items_of(self, address: int, most: int = 256) -> tuple[int, ...]:
        """The items of the tuple at `address`, () if it is none.  They begin where its type says
        that a tuple without any ends (tp_basicsize): 3.14 has a hash before them."""
        if self.type_name(address) != "tuple":
            return ()
        try:
            start = self.process.u64(self.process.u64(address + TYPE_AT) + TP_BASICSIZE)
            count = min(self.process.u64(address + 16), most)
            return self.process.words(address + start, count)
        except ReadError:
            return ()


class ThreadState(NamedTuple):
    """A PyThreadState and the thread that it belongs to."""

    address: int
    tid: int


STATE_WORDS = 40  # of a PyThreadState: enough for what is looked for in it
IDENT_WORDS = range(8, 32)  # where thread_id is, 136 to 176 bytes in


def read_thread_state(process: Process, address: int, tids: Container[int]) -> ThreadState | None:
    """The PyThreadState at `address`, or None: {prev, next, interp, ...} with prev and next
    pointing back to it, and a thread_id that is the pthread_t of one of `tids`
    (Include/cpython/pystate.h)."""
    try:
        words = process.words(address, STATE_WORDS)
        previous, following, interpreter = words[:3]
        if not is_pointer(interpreter):
            return None
        if previous and (not is_pointer(previous) or process.u64(previous + 8) != address):
            return None
        if following and (not is_pointer(following) or process.u64(following) != address):
            return None
    except ReadError:
        return None
    for index in IDENT_WORDS:
        tid = thread_of(process, words[index], tids)
        if tid is not None:
            return ThreadState(address, tid)
    return None


def list_thread_states(
    process: Process, first: ThreadState, tids: Container[int], limit: int = 100_000
) -> dict[int, int]:
    """All thread states of `first`'s interpreter, by tid: the list in both directions."""
    found = {first.tid: first.address}
    for link in (0, 8):
        at = first.address
        for _ in range(limit):
            try:
                at = process.u64(at + link)
            except ReadError:
                break
            if not at:
                break
            state = read_thread_state(process, at, tids)
            if state is None:
                continue  # between the creation of its state and its start
            if found.setdefault(state.tid, at) != at:
                break  # a cycle: not a list that we understand
    return found


class Gil(NamedTuple):
    """struct _gil_runtime_state (Include/internal/pycore_gil.h); `holder` is the thread state
    that took it last, and has it if `locked`."""

    address: int
    interval: int
    locked: bool
    holder: ThreadState | None


# {ulong interval; PyThreadState *last_holder; int locked; ulong switch_number; cond; mutex ...}
COND_AT = 32
LONGEST_INTERVAL = 1_000_000  # µs; sys.setswitchinterval() gives 5000 unless told otherwise


def gil_of_condvar(process: Process, condvar: int, tids: Container[int]) -> Gil | None:
    """The GIL whose `cond` is the pthread_cond_t at `condvar`, or None."""
    try:
        words = process.words(condvar - COND_AT, 4)
    except ReadError:
        return None
    interval, holder, locked = words[0], words[1], words[2] & 0xFFFFFFFF
    if not 0 < interval <= LONGEST_INTERVAL or locked not in (0, 1) or not is_pointer(holder):
        return None
    state = read_thread_state(process, holder, tids)
    if state is None:
        return None
    return Gil(condvar - COND_AT, interval, bool(locked), state)


# Objects that own a PyThread_type_lock, which on Linux is a pointer to a sem_t
LOCK_AT = 16  # in _thread.lock, _thread.RLock and _queue.SimpleQueue (Modules/*module.c)
RLOCK_OWNER_AT, RLOCK_COUNT_AT = 24, 32
LOCK_TYPES = ("_thread.lock", "_thread.RLock", "_queue.SimpleQueue")
BUFFERED_TYPES = ("_io.BufferedReader", "_io.BufferedWriter", "_io.BufferedRandom")
BUFFERED_WORDS = 32


PARKED = 3  # _Py_LOCKED | _Py_HAS_PARKED of a PyMutex, which is one byte (cpython/lock.h)
OWN_STACK = 1 << 12  # how far above its sp a parked thread's semaphore can be


def parked_mutex(process: Process, sp: int, semaphore: int) -> int | None:
    """The PyMutex that the thread with stack pointer `sp`, asleep on `semaphore`, waits for, or
    None: its wait_entry {park_arg, addr, semaphore...} is on its own stack (Python/parking_lot.c,
    _PyParkingLot_Park, since 3.13)."""
    if not 0 < semaphore - sp < OWN_STACK:
        return None
    try:
        address = process.u64(semaphore - 8)
        return address if process.read(address, 1)[0] == PARKED else None
    except ReadError:
        return None


def mutex_in_object(memory: PythonMemory, mutex: int) -> tuple[int, str] | None:
    """(address, type name) of the Python lock object that has the PyMutex at `mutex` within
    itself, or None (Modules/_threadmodule.c, since 3.13)."""
    name = memory.type_name(mutex - LOCK_AT)
    return (mutex - LOCK_AT, name) if name in LOCK_TYPES else None


def lock_in_object(memory: PythonMemory, address: int, semaphore: int) -> tuple[str, int] | None:
    """(type name, offset of the lock pointer) if the Python object at `address` is one that
    locks with `semaphore`, or None."""
    try:
        words = memory.process.words(address, 3)
        if words[2] == semaphore:
            name = memory.type_name(address)
            return (name, LOCK_AT) if name in LOCK_TYPES else None
        if memory.type_name(address) not in BUFFERED_TYPES:
            return None
        words = memory.process.words(address, BUFFERED_WORDS)
        if semaphore in words:
            return memory.type_name(address), 8 * words.index(semaphore)
    except ReadError:
        pass
    return None
