"""Unwinding without a debugger against gdb's, on live processes."""

import struct
import time

import pytest
from code_targets import VARIANTS, build, running

from faultkit.code.images import Images
from faultkit.code.unwind import PROLOGUE, SIGNAL, unwind
from faultkit.target import ReadError


@pytest.fixture(scope="module", params=VARIANTS)
def target(request, tmp_path_factory):
    executable = build(tmp_path_factory.mktemp("unwind"), request.param)
    with running(executable) as target:
        target.variant = request.param
        yield target
        target.await_blocked()


def test_same_frames_as_gdb(target, tmp_path):
    if target.variant == "musl":
        pytest.skip("gdb itself goes astray in a libc without call frame information")
    ours = dict(target.stacks())
    theirs = target.gdb_stacks(tmp_path)
    found = expected = 0
    for tid, steps in ours.items():
        truth = [pc for pc, _ in theirs[tid]]
        sure = [step.pc for step in steps if step.sure]
        # Never a wrong frame presented as sure.  (gdb may stop one frame earlier.)
        assert sure[: len(truth)] == truth[: len(sure)], (tid, target.variant)
        found += sum(a == b for a, b in zip((s.pc for s in steps), truth))
        expected += len(truth)
    assert found >= 0.95 * expected, (found, expected)


BODIES = {
    "in_mutex": ["lock_pair"],
    "in_condition": [],
    "in_read": [],
    "in_nanosleep": ["nanosleep"],
    "in_depth": ["deeper"],
    "in_signal": ["interrupted"],
    "in_alloca": ["variable"],
    "in_callback": ["compare"],
    "in_many": ["many"],
    "in_aligned": [],
}


def test_reaches_each_thread_function(target):
    """Also where the C library has neither call frame information nor symbols (musl)."""
    if "stripped" in target.variant:
        pytest.skip("no names")
    reached = []
    for _, steps in target.stacks():
        symbols = [target.code.symbol(step.code_address) for step in steps if step.sure]
        names = [symbol.name.split(".")[0] for symbol in symbols if symbol]
        bodies = [name for name in names if name in BODIES]
        assert len(bodies) <= 1, names
        for body in bodies:
            assert set(BODIES[body]) <= set(names) or target.variant in ("opt", "static", "musl")
        reached += bodies
    assert sorted(reached) == sorted(BODIES)


def test_finds_the_interrupted_function(target):
    chains = [
        [symbol and symbol.name for symbol in map(symbol_of(target), steps)]
        for _, steps in target.stacks()
        if any(step.how == SIGNAL for step in steps)
    ]
    assert len(chains) == 1
    if "stripped" not in target.variant:
        assert "handler" in chains[0] and "in_signal" in chains[0]
        assert chains[0].index("handler") < chains[0].index("interrupted")


def symbol_of(target):
    return lambda step: target.code.symbol(step.code_address)


def test_recovers_the_frame_pointer_that_proc_does_not_tell(target):
    if target.variant not in ("dbg", "stripped-O0", "framepointers"):
        pytest.skip("this variant's functions do not need rbp")
    hows = [step.how for _, steps in target.stacks() for step in steps]
    assert PROLOGUE in hows


def test_two_stacks_are_quick(target):
    process, calls = target.process, []
    tasks = process.tasks()[:2]
    started = time.process_time()
    images = Images(process.read, process.mappings(), target.pid)
    for task in tasks:
        call = process.syscall(task)
        calls.append(unwind(process.read, images, {"rip": call.pc, "rsp": call.sp}))
    assert time.process_time() - started < 0.05
    assert all(len(steps) > 2 for steps in calls)


def test_arguments_of_earlier_calls(target):
    """The thread that holds `accounts` and waits for `audit`: both found from its code."""
    seen = set()
    for _, steps in target.stacks():
        for number, step in enumerate(steps):
            for call in target.code.instructions(step.code_address):
                if call.kind == "call" and call.address <= step.code_address:
                    reached = target.code.called(call)
                    value = target.code.argument(steps, number, call.address)
                    if reached and value and value.certain and reached.name:
                        symbol = target.code.symbol(value.value)
                        if symbol and not symbol.offset:
                            seen.add((reached.name, symbol.name))
    if "stripped" in target.variant:
        assert not any(name == "accounts" for _, name in seen)
    else:
        locks = {name for function, name in seen if "mutex_lock" in function}
        assert {"accounts", "audit"} <= locks, seen


@pytest.mark.parametrize("fill", [b"\x00", b"\xff", b"\x90", b"\x41"])
def test_garbage_registers_give_no_stack(target, fill):
    address = int.from_bytes(fill * 8, "little") & (1 << 47) - 1
    stack = unwind(target.process.read, target.code.images, {"rip": address, "rsp": address})
    assert len(stack) <= 1


def test_overwritten_stack_gives_no_sure_frame(target):
    """The same registers over a stack of pointers into itself, and of zeros."""
    call = target.process.syscall(target.process.tasks()[1])
    low, high = call.sp - 4096, call.sp + (1 << 16)

    def over(word):
        def read(address, size):
            if low <= address and address + size <= high:
                words = b"".join(word(a) for a in range(address & ~7, address + size + 8, 8))
                return words[address & 7 :][:size]
            if low < address + size and address < high:
                raise ReadError(address, size)
            return target.process.read(address, size)

        return read

    for word in (lambda a: bytes(8), lambda a: struct.pack("<Q", a + 16)):
        read = over(word)
        images = Images(read, target.process.mappings(), target.pid)
        steps = unwind(read, images, {"rip": call.pc, "rsp": call.sp})
        assert len(steps) == 1
