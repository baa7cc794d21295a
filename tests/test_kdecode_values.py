"""Arguments and locals in the frames of the lab's dumps, beside what drgn makes of them: what it
shows is there and the same, and nothing else is claimed that is not so."""

import sys
from collections import Counter
from typing import ClassVar

import pytest

if sys.version_info < (3, 11):
    pytest.skip("drgn is installed for Python 3.11 and newer", allow_module_level=True)

from drgn_kernel import DrgnKernel
from kernel_dumps import open_as, opened
from lab.dumps import dump

from faultkit.debuginfo.find import Places
from faultkit.debuginfo.kernel import Kernel as DebugFiles
from faultkit.decode.kernel import KernelSubject
from faultkit.decode.source import Sources
from faultkit.decode.view import Wanted, dress
from faultkit.kdecode import examine
from faultkit.kernel.system import System
from faultkit.model import Frame
from faultkit.options.kdecode import KdecodeArguments

KERNELS = (
    "6.1",
    *(pytest.param(name, marks=pytest.mark.matrix) for name in ("5.10", "6.12", "7")),
)


def subject_of(boot, kernel="6.1"):
    made = dump(boot, kernel)
    system = System(opened(boot, kernel))
    places = Places(str(made.vmlinux), (str(made.module),), (str(made.kernel.debug),))
    files = DebugFiles(places, system.kernel.release, use_cache=False)
    return KernelSubject(system, files, Sources((), None))


def compare(kernel, task, views, told):
    """Compare a task's variables with drgn's; counts, and what differs."""
    try:
        trace = kernel.program.stack_trace(kernel._struct(task))
    except (ValueError, LookupError):
        return
    by_place = {(v.address, v.context.registers.get("rsp")): v for v in views}
    for frame in trace:
        view = by_place.get((frame.pc, frame.sp))
        if frame.pc < 1 << 63:
            continue
        mine = {}
        for found in view.found() if view is not None else ():
            mine.setdefault(found.variable.name, []).append(found)
        try:
            names = frame.locals()
        except LookupError:
            continue
        for name in names:
            try:
                theirs = frame[name]
                shown = not theirs.absent_
                data = theirs.to_bytes_() if shown and theirs.address_ is None else None
            except Exception:
                continue  # drgn does not know an operation, or can't read it
            if not shown:
                continue
            told["shown"] += 1
            same = [
                found
                for found in mine.get(name, ())
                if (found.data == data if data is not None else found.address == theirs.address_)
            ]
            known = [f for f in mine.get(name, ()) if f.reason is None]
            if same:
                told["same"] += 1
            elif known:
                told["different"] += 1
                print("DIFFERENT", task.name, frame.name, name, theirs, known)
            else:
                told["missed"] += 1
                print("MISSED", task.name, frame.name, name, [f.reason for f in mine.get(name, ())])


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("boot", ["sleeping", "users", "spin-crossed", "spin-panic"])
def test_what_drgn_shows(boot, kernel):
    subject = subject_of(boot, kernel)
    told = Counter()
    for task in subject.system.tasks:
        views = [shown.view for shown in subject.task_frames(task)]
        compare(subject.system.kernel, task, views, told)
    print(told)
    assert told["shown"] > 200
    assert told["different"] == 0
    assert told["same"] >= 0.97 * told["shown"]


def frames_of(subject, name):
    task = next(task for task in subject.system.tasks if task.name == name)
    frames = subject.task_frames(task)
    dress(frames, subject, Wanted())
    return {shown.decoded.symbol.split(".")[0]: shown for shown in frames}


def value(shown, name):
    values = shown.decoded.arguments + shown.decoded.locals
    return next(value for value in values if value.name == name)


def test_meanings_of_pointers():
    """A mutex of a module by its symbol, tasks by name, and what lies in a slab."""
    subject = subject_of("sleeping")
    frames = frames_of(subject, "mx-a")
    assert value(frames["__mutex_lock"], "lock").meaning == "lab_audit [faultlab]"
    assert '"mx-a"' in value(frames["__schedule"], "prev").meaning
    assert value(frames["kthread"], "create").meaning == "slab kmalloc-64"
    assert "saved it" in value(frames["kthread"], "create").origin


def test_entry_values_by_the_call():
    """What a function was given and did not keep, told by the call: one that goes by way of a
    retpoline too; not where an exception lies between."""
    subject = subject_of("sleeping")
    frames = frames_of(subject, "mx-a")
    given = value(frames["mutex_abba_a"], "unused")
    assert (given.text, given.origin) == ("NULL", "rdi at entry, by the call")


def test_no_stale_register():
    """In no frame but one that was stopped is a value from a register that callees may change."""
    subject = subject_of("spin-crossed")
    seen = 0
    for task in subject.system.tasks:
        for shown in subject.task_frames(task):
            if shown.view.exact:
                continue
            kept = {"rbx", "rbp", "rsp", "r12", "r13", "r14", "r15"}
            assert set(shown.view.context.registers) <= kept
            seen += 1
    assert seen > 100


def test_calls_jumps_and_patches():
    """The code is the dump's: calls have names, what was patched at boot is told."""
    subject = subject_of("sleeping")
    frames = frames_of(subject, "mx-a")
    current = {name: [i for i in f.decoded.instructions if i.current] for name, f in frames.items()}
    assert [i.note for i in current["schedule"]] == ["__schedule"]
    assert [i.note for i in current["mutex_abba_a"]] == ["mutex_lock"]
    notes = [i.note for f in frames.values() for i in f.decoded.instructions if i.note]
    assert "patched: fentry, not traced" in notes
    assert any(note.startswith("patched: return thunk") for note in notes)
    assert not any(note.startswith("patched: alternative") for note in notes)
    loop = frames["schedule"].decoded.instructions
    assert any(i.target in {j.address for j in loop} for i in loop)


FAULT = "mov 0x10(%rbx),%r8"  # of the mutex's wait_list.next, behind the call that slept


class Faulted(DrgnKernel):
    """A dump in which a task of a real one, whose frames, code and stack it keeps, was stopped by
    a page fault in __mutex_lock()."""

    at = 0
    registers_then: ClassVar[dict[str, int]] = {}

    def frames(self, task, limit=64):
        frames = list(super().frames(task, limit))
        place = next((i for i, f in enumerate(frames) if f.address == self.at), None)
        if task.name != "mx-a" or place is None:
            return tuple(frames)
        stopped = frames[place]
        handler = self.symbol("asm_exc_page_fault") + 0x22
        registers = {**self.registers_then, "rip": self.at, "rsp": stopped.sp}
        entry = Frame(0, handler, "asm_exc_page_fault", 0x22, sp=stopped.sp - 0x100)
        return (entry, stopped._replace(registers=registers), *frames[place + 1 :])


def test_the_operand_of_an_oops_and_of_its_dump(tmp_path):
    """A fault in a member of a variable that is in a register: the dump's frame and the text of
    the same oops name the operand alike."""
    made = dump("sleeping")
    real = subject_of("sleeping")
    task = next(task for task in real.system.tasks if task.name == "mx-a")
    frame = next(
        shown for shown in real.task_frames(task)
        if (shown.decoded.symbol or "").startswith("__mutex_lock")
    )  # fmt: skip
    names = "rax rbx rcx rdx rsi rdi rbp r8 r9 r10 r11 r12 r13 r14 r15".split()
    Faulted.at = frame.decoded.address
    Faulted.registers_then = dict.fromkeys(names, 0xFFFF888000000000) | {"rbx": 0x6B6B6B6B6B6B6B6B}
    kernel = open_as(Faulted, made)
    subject = KernelSubject(
        System(kernel), DebugFiles(Places(str(made.vmlinux)), kernel.release), Sources()
    )
    frames = subject.task_frames(task)
    dress(frames, subject, Wanted())
    assert [shown.faulted for shown in frames[:3]] == [False, True, False]
    (note,) = frames[1].decoded.notes
    assert next(i for i in frames[1].decoded.instructions if i.current).text == FAULT
    assert note == (
        "rbx = 0x6b6b6b6b6b6b6b6b, read of lock->wait_list.next: lock is 0x6b6b6b6b6b6b6b6b (slab "
        "poison of freed memory (POISON_FREE): use after free)"
    )
    values = {value.name: value for value in frames[1].decoded.arguments}
    assert values["lock"].text == "0x6b6b6b6b6b6b6b6b" and values["lock"].origin == "rbx"

    symbol = f"{frames[1].decoded.symbol}+{frames[1].decoded.offset:#x}"
    code = kernel.read(Faulted.at - 8, 24).hex(" ").split()
    oops = tmp_path / "oops"
    oops.write_text(
        "general protection fault, probably for non-canonical address 0x6b6b6b6b6b6b6b7b: 0\n"
        f"CPU: 1 PID: 107 Comm: mx-a Not tainted {kernel.release} #1\n"
        f"RIP: 0010:{symbol}/{frames[1].decoded.size:#x}\n"
        f"Code: {' '.join(code[:8])} <{code[8]}> {' '.join(code[9:])}\n"
        "RSP: 0018:ffffc90000000000 EFLAGS: 00010246\n"
        "RAX: ffff888000000000 RBX: 6b6b6b6b6b6b6b6b RCX: ffff888000000000\n"
        "RDX: ffff888000000000 RSI: ffff888000000000 RDI: ffff888000000000\n"
        "RBP: ffff888000000000 R08: ffff888000000000 R09: ffff888000000000\n"
        "R10: ffff888000000000 R11: ffff888000000000 R12: ffff888000000000\n"
        "R13: ffff888000000000 R14: ffff888000000000 R15: ffff888000000000\n"
        "Call Trace:\n <TASK>\n kthread+0xda/0x100\n </TASK>\n"
    )
    report = examine(
        KdecodeArguments((str(oops),), vmlinux=str(made.vmlinux)), {"name": None, "version": None}
    )
    text = report.traces[0].frames[0]
    assert text.notes == [note]
    assert text.inlines == frames[1].decoded.inlines
    assert next(i for i in text.instructions if i.current).text == FAULT
