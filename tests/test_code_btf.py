"""BTF as gcc writes it says what gcc does; damaged BTF raises nothing but FormatError."""

import re
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faultkit.code import FormatError
from faultkit.code.btf import Btf, index
from faultkit.code.elf import open_elf

SOURCE = """
#include <stddef.h>
#include <stdio.h>

typedef struct { int counter; } atomic_t;
typedef union { struct { unsigned char locked, pending; }; unsigned int val; } qlock;
struct list { struct list *next, *prev; };
struct bits { unsigned int one : 1, two : 2, rest : 29; long after; };
enum colour { RED = 3, GREEN, BLUE = -5 };
enum wide { HUGE_ONE = 1ll << 40, TINY_ONE = -1 };
struct lock {
    const volatile atomic_t owner;
    qlock wait_lock;
    struct list waiters;
    union { struct { short a, b; }; long both; };
    struct { int x; struct { char y[7]; char z; } inner; } unnamed[3];
    struct bits bits;
    enum colour colour;
    void (*call)(int);
    char name[24];
};
struct lock lock;
enum wide wide;
struct { int first; struct lock second; } outer;
typedef const struct lock lock_t;
lock_t *pointer;

#define OFFSET(type, member) printf("offset %s " #member " %zu\\n", #type, offsetof(type, member));
#define SIZE(type, member) \\
    printf("size %s " #member " %zu\\n", #type, sizeof(((type *) 0)->member));
#define BOTH(type, member) OFFSET(type, member) SIZE(type, member)

int main(void)
{
    BOTH(struct lock, owner) BOTH(struct lock, owner.counter) BOTH(struct lock, wait_lock)
    BOTH(struct lock, wait_lock.pending) BOTH(struct lock, wait_lock.val)
    BOTH(struct lock, waiters.prev) BOTH(struct lock, b) BOTH(struct lock, both)
    BOTH(struct lock, unnamed) BOTH(struct lock, bits.after) BOTH(struct lock, colour)
    BOTH(struct lock, call) BOTH(struct lock, name) BOTH(lock_t, name) BOTH(atomic_t, counter)
    BOTH(struct list, next) BOTH(qlock, locked)
    printf("sizeof %zu %zu %zu\\n", sizeof(struct lock), sizeof(lock_t), sizeof(qlock));
    return 0;
}
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """(the BTF section, what the program itself prints of its layout)."""
    directory = tmp_path_factory.mktemp("btf")
    (directory / "layout.c").write_text(SOURCE)
    run = {"cwd": directory, "check": True, "timeout": 60}
    try:
        subprocess.run(["gcc", "-gbtf", "-O0", "-c", "layout.c"], **run)
    except subprocess.CalledProcessError:
        pytest.skip("this gcc does not know -gbtf")
    subprocess.run(["gcc", "layout.o", "-o", "layout"], **run)
    printed = subprocess.run(["./layout"], stdout=subprocess.PIPE, text=True, **run).stdout
    return open_elf(str(directory / "layout.o")).section_data(".BTF"), printed


def test_offsets_and_sizes_are_the_compiler_s(compiled):
    data, printed = compiled
    btf = Btf(data)
    checked = 0
    for what, name, path, value in re.findall(r"^(offset|size) (.+) (\S+) (\d+)$", printed, re.M):
        member = btf.member(btf.type(name.split()[-1]), path)
        found = member.offset / 8 if what == "offset" else btf.size(member.type)
        assert found == int(value), (what, name, path)
        checked += 1
    assert checked == 34
    sizes = [btf.size(btf.type(name)) for name in ("lock", "lock_t", "qlock")]
    assert " ".join(map(str, sizes)) in printed


def test_bit_fields_have_a_width(compiled):
    btf = Btf(compiled[0])
    bits = btf.type("bits")
    assert [btf.member(bits, name)[::2] for name in ("one", "two", "rest")] == [
        (0, 1),
        (1, 2),
        (3, 29),
    ]


def test_enumeration_constants(compiled):
    btf = Btf(compiled[0])
    assert [btf.enumerator(name) for name in ("RED", "GREEN", "PURPLE")] == [3, 4, None]
    assert btf.enumerator("BLUE") & 0xFFFFFFFF == -5 & 0xFFFFFFFF  # gcc 12 says not: signed


@pytest.mark.parametrize("name", ["", "nothing", "loc", "counter", "RED"])
def test_what_is_no_type_is_none(compiled, name):
    assert Btf(compiled[0]).type(name) is None


@pytest.mark.parametrize("path", ["", "nothing", "waiters.next.prev", "owner.", ".", "name.x"])
def test_what_is_no_member_is_none(compiled, path):
    btf = Btf(compiled[0])
    assert btf.member(btf.type("lock"), path) is None


def ask_all(data):
    btf = Btf(data, index)
    for name in ("lock", "lock_t", "qlock", "list", "int"):
        number = btf.type(name)
        if number is not None:
            btf.size(number)
            for path in ("name", "both", "waiters.prev.next", "unnamed.inner.z", "x"):
                member = btf.member(number, path)
                if member is not None:
                    btf.size(member.type)
    btf.enumerator("BLUE")
    btf.enumerator("HUGE_ONE")


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_btf_does_no_harm(compiled, data):
    damaged = bytearray(compiled[0])
    for _ in range(data.draw(st.integers(1, 12))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    size = data.draw(st.integers(0, len(damaged)))
    for piece in (damaged, damaged[:size]):
        try:
            ask_all(bytes(piece))
        except FormatError:
            pass
