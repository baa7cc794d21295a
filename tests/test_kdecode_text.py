"""Back traces in text of all kinds: what is read of them."""

import time

import pytest

from faultkit.traces.reader import distinct, read

OOPS = """\
[  123.456789] BUG: kernel NULL pointer dereference, address: 0000000000000010
[  123.456790] #PF: supervisor read access in kernel mode
[  123.456791] #PF: error_code(0x0000) - not-present page
[  123.456792] PGD 0 P4D 0
[  123.456793] Oops: 0000 [#1] PREEMPT SMP NOPTI
[  123.456794] CPU: 1 PID: 1234 Comm: my cat Tainted: G           OE     5.10.0-46-amd64 #1
[  123.456795] Hardware name: QEMU Standard PC (i440FX + PIIX, 1996), BIOS 1.16.2
[  123.456796] RIP: 0010:frob_read+0x12/0x50 [frob]
[  123.456797] Code: 55 48 89 e5 <8b> 42 10 5d c3
[  123.456798] RSP: 0018:ffffb8c0c0a7be40 EFLAGS: 00010246
[  123.456799] RAX: 0000000000000001 RBX: ffff888003f6a300 RCX: 0000000000000002
[  123.456800] RDX: 0000000000000000 RSI: 00007ffc3f2a1000 RDI: ffff888003f6a300
[  123.456801] RBP: ffffb8c0c0a7be70 R08: 0000000000000003 R09: 0000000000000000
[  123.456802] FS:  00007f6b7a1c1580(0000) GS:ffff88807dc80000(0000) knlGS:0000000000000000
[  123.456803] CS:  0010 DS: 0000 ES: 0000 CR0: 0000000080050033
[  123.456804] CR2: 0000000000000010 CR3: 0000000003f74000 CR4: 00000000000006e0
[  123.456806] Call Trace:
[  123.456807]  <TASK>
[  123.456807]  ? vfs_open+0x1/0x30
[  123.456807]  vfs_read+0x9d/0x190
[  123.456808]  ksys_read+0x5f/0xe0
[  123.456811]  entry_SYSCALL_64_after_hwframe+0x44/0xa9
[  123.456812] RIP: 0033:0x7f6b7a0d2a1e
[  123.456813] Code: Bad RIP value.
[  123.456814] RSP: 002b:00007ffc3f2a0fd8 EFLAGS: 00000246 ORIG_RAX: 0000000000000000
[  123.456815] RAX: ffffffffffffffda RBX: 0000000000020000 RCX: 00007f6b7a0d2a1e
[  123.456820]  </TASK>
[  123.456820] Modules linked in: frob(OE)
[  123.456821] CR2: 0000000000000010
[  123.456822] ---[ end trace 1234567890abcdef ]---
[  123.456823] RIP: 0010:frob_read+0x12/0x50 [frob]
[  123.456824] Code: 55 48 89 e5 <8b> 42 10 5d c3
"""


def entry(trace, index):
    found = trace.entries[index]
    return found.symbol, found.offset, found.size, found.module, found.exact


def symbols(trace):
    return [found.symbol for found in trace.entries]


@pytest.mark.parametrize(
    "prefix",
    ["", "<1>", "[T1234] ", "> ", "Nov 20 03:10:01 build7 kernel: ", "kern  :alert : "],
)
def test_an_oops(prefix):
    (trace,) = read("".join(prefix + line + "\n" for line in OOPS.splitlines()))
    assert trace.kind == "oops"
    assert trace.title == "BUG: kernel NULL pointer dereference, address: 0000000000000010"
    assert (trace.task, trace.pid, trace.cpu) == ("my cat", 1234, 1)
    assert trace.release == "5.10.0-46-amd64"
    assert entry(trace, 0) == ("frob_read", 0x12, 0x50, "frob", True)
    assert symbols(trace)[1:] == [
        "vfs_open", "vfs_read", "ksys_read", "entry_SYSCALL_64_after_hwframe",
    ]  # fmt: skip
    assert [found.unreliable for found in trace.entries] == [False, True, False, False, False]
    assert not any(found.exact for found in trace.entries[1:])
    assert trace.code.data == bytes.fromhex("554889e58b42105dc3") and trace.code.at == 4
    assert trace.registers["rdx"] == 0 and trace.registers["cr2"] == 0x10
    assert trace.registers["rax"] == 1  # the kernel's, not those of user space
    assert trace.registers["r8"] == 3 and trace.registers["rsp"] == 0xFFFFB8C0C0A7BE40


def test_an_oops_of_an_old_kernel():
    (trace,) = read(
        """\
BUG: unable to handle kernel NULL pointer dereference at 0000000000000010
IP: [<ffffffffa0123456>] frob_read+0x12/0x50 [frob]
PGD 0
Oops: 0000 [#1] SMP
CPU: 0 PID: 99 Comm: cat Tainted: G           OE  ------------   3.10.0-1160.el7.x86_64 #1
task: ffff880036a1c500 ti: ffff880036b00000 task.ti: ffff880036b00000
RIP: 0010:[<ffffffffa0123456>]  [<ffffffffa0123456>] frob_read+0x12/0x50 [frob]
RSP: 0018:ffff880036b03e40  EFLAGS: 00010246
RAX: 0000000000000000 RBX: ffff88003b6f3000 RCX: 0000000000000000
Call Trace:
 [<ffffffff811e2f4d>] vfs_read+0x9d/0x170
 [<ffffffff811e3a9f>] ? SyS_read+0x7f/0xe0
 [<ffffffff81692e29>] system_call_fastpath+0x16/0x1b
Code: 55 48 89 e5 <8b> 42 10 5d c3
RIP  [<ffffffffa0123456>] frob_read+0x12/0x50 [frob]
 RSP <ffff880036b03e40>
CR2: 0000000000000010
"""
    )
    assert trace.release == "3.10.0-1160.el7.x86_64"
    assert symbols(trace) == ["frob_read", "vfs_read", "SyS_read", "system_call_fastpath"]
    assert trace.entries[0].exact and trace.entries[0].address == 0xFFFFFFFFA0123456
    assert trace.entries[1].address == 0xFFFFFFFF811E2F4D
    assert trace.entries[2].unreliable
    assert trace.code.at == 4


def test_build_ids_of_kernel_and_modules():
    kernel, module = "ab" * 20, "0123456789abcdef0123456789abcdef01234567"
    (trace,) = read(
        f"""\
WARNING: CPU: 0 PID: 1 at fs/frob.c:12 frob+0x10/0x20 [frob {module}]
CPU: 0 UID: 0 PID: 1 Comm: init Not tainted 6.12.1 #1 {kernel} PREEMPT
RIP: 0010:frob+0x10/0x20 [frob {module}]
Call Trace:
 <TASK>
 do_one_initcall+0x50/0x2a0
"""
    )
    assert trace.kind == "warning"
    assert trace.build_id == kernel
    assert trace.entries[0].build_id == module and trace.entries[0].module == "frob"
    assert trace.release == "6.12.1"


def test_a_panic_in_an_interrupt_has_the_exception_in_its_middle():
    (trace,) = read(
        """\
Kernel panic - not syncing: softlockup: hung tasks
CPU: 3 PID: 130 Comm: ss-a Tainted: G           OEL     6.1.0-56-amd64 #1  Debian 6.1.192-2
Call Trace:
 <IRQ>
 dump_stack_lvl+0x44/0x5c
 panic+0x118/0x2f4
 </IRQ>
 <TASK>
 asm_sysvec_apic_timer_interrupt+0x16/0x20
RIP: 0010:native_queued_spin_lock_slowpath+0x69/0x2a0
Code: 74 08 f3 90 <8b> 03 84 c0
RSP: 0018:ffffccb5c032fee8 EFLAGS: 00000202
RAX: 0000000000000101 RBX: ffffffffc05f14ec RCX: 0000000000000000
 _raw_spin_lock+0x25/0x30
 </TASK>
Kernel Offset: 0x8400000 from 0xffffffff81000000 (relocation range: 0xffffffff80000000-0xff)
---[ end Kernel panic - not syncing: softlockup: hung tasks ]---
"""
    )
    assert trace.kind == "panic" and trace.offset == 0x8400000
    assert [found.exact for found in trace.entries] == [False, False, False, True, False]
    assert trace.entries[3].registers["rbx"] == 0xFFFFFFFFC05F14EC
    assert trace.registers == trace.entries[3].registers
    assert trace.code.at == 4


def test_a_call_through_a_null_pointer():
    (trace,) = read(
        """\
BUG: kernel NULL pointer dereference, address: 0000000000000000
CPU: 0 PID: 1 Comm: init Not tainted 6.1.0 #1
RIP: 0010:0x0
Code: Unable to access opcode bytes at 0xffffffffffffffd6.
RSP: 0018:ffffb8c0c0a7be40 EFLAGS: 00010246
Call Trace:
 frob+0x10/0x20
 0xffffffffc0123456
"""
    )
    assert [found.address for found in trace.entries] == [0, None, 0xFFFFFFFFC0123456]
    assert trace.entries[0].exact and trace.code is None


def test_lockdep():
    traces = read(
        """\
======================================================
WARNING: possible circular locking dependency detected
6.1.0 #1 Not tainted
------------------------------------------------------
mx-a/120 is trying to acquire lock:
ffffffffc05f14ec (lab_audit){+.+.}-{3:3}, at: mutex_abba_a+0x1b/0x60 [faultlab]

but task is already holding lock:
ffffffffc05f1500 (lab_accounts){+.+.}-{3:3}, at: mutex_abba_a+0x10/0x60 [faultlab]

which lock already depends on the new lock.

the existing dependency chain (in reverse order) is:

-> #1 (lab_accounts){+.+.}-{3:3}:
       __mutex_lock+0x90/0x8b0
       mutex_abba_b+0x1b/0x60 [faultlab]

-> #0 (lab_audit){+.+.}-{3:3}:
       __lock_acquire+0x1200/0x1b00
       mutex_abba_a+0x1b/0x60 [faultlab]

1 lock held by mx-a/120:
 #0: ffffffffc05f1500 (lab_accounts){+.+.}-{3:3}, at: mutex_abba_a+0x10/0x60 [faultlab]

stack backtrace:
CPU: 0 PID: 120 Comm: mx-a Not tainted 6.1.0 #1
Call Trace:
 <TASK>
 dump_stack_lvl+0x44/0x5c
 check_noncircular+0x100/0x110
"""
    )
    assert [trace.kind for trace in traces] == ["lockdep"] * 3 + ["locks", "lockdep"]
    assert [symbols(trace)[-1] for trace in traces] == [
        "mutex_abba_a", "mutex_abba_b", "mutex_abba_a", "mutex_abba_a", "check_noncircular",
    ]  # fmt: skip
    assert traces[1].title.startswith("-> #1 (lab_accounts)")
    assert traces[4].task == "mx-a"


def test_listings_of_tasks():
    traces = read(
        """\
sysrq: Show State
task:init            state:S stack:0     pid:1     ppid:0      flags:0x00000002
Call Trace:
 <TASK>
 __schedule+0x34d/0x9e0
 schedule+0x5a/0xd0
 </TASK>
task:busy            state:R  running task     stack:0     pid:7     ppid:2      flags:0x00004000
task:make            state:D stack:0     pid:700   ppid:690    flags:0x00000002
Call Trace:
 <TASK>
 __schedule+0x34d/0x9e0
 io_schedule+0x42/0x70
 </TASK>
INFO: task cc1:40112 blocked for more than 122 seconds.
      Not tainted 5.14.0-427.13.1.el9_4.x86_64 #1
task:cc1             state:D stack:    0 pid:40112 ppid: 40111 flags:0x00000002
Call Trace:
 __schedule+0x211/0x660
"""
    )
    assert [(trace.kind, trace.task, trace.pid) for trace in traces] == [
        ("task", "init", 1), ("task", "make", 700), ("hung-task", "cc1", 40112),
    ]  # fmt: skip
    assert len(traces[1].entries) == 2
    assert traces[2].release == "5.14.0-427.13.1.el9_4.x86_64"


def test_proc_stacks():
    traces = read(
        """\
# cat /proc/4711/stack
[<0>] do_nanosleep+0x6c/0x1a0
[<0>] nfs_wait_bit_killable+0x11/0x40 [nfs]
# cat /proc/4712/stack
[<ffffffff811e2f4d>] vfs_read+0x9d/0x170
[<ffffffffffffffff>] 0xffffffffffffffff

[<0>] poll_schedule_timeout.constprop.0+0x46/0x70
"""
    )
    assert [trace.pid for trace in traces] == [4711, 4712, None]
    assert [trace.kind for trace in traces] == ["stack"] * 3
    assert entry(traces[0], 1) == ("nfs_wait_bit_killable", 0x11, 0x40, "nfs", False)
    assert traces[1].entries[0].address == 0xFFFFFFFF811E2F4D
    assert symbols(traces[2]) == ["poll_schedule_timeout.constprop.0"]


def test_perf_script():
    text = """\
swapper     0 [001] 12345.678901:     250000 cpu-clock:pppH:
\tffffffff81a3b2c5 native_safe_halt+0x5 ([kernel.kallsyms])
\tffffffff81a3b3f0 default_idle+0x10 ([kernel.kallsyms])

my prog  2345/2346  [000] 12345.679000: sched:sched_switch: prev_comm=my prog prev_pid=2346
\tffffffff81a3b2c5 __schedule+0x2c5 (/usr/lib/debug/boot/vmlinux-6.1.0-56-amd64)
\tffffffffc0401234 ext4_file_write_iter+0x54 ([ext4])
\tffffffffc0401999 jbd2_journal_start+0x9 (/lib/modules/6.1.0/kernel/fs/jbd2/jbd2.ko)
\tffffffff81a3b3f0 do_inlined (inlined)
\tffffffff81a3b3f8 [unknown] ([kernel.kallsyms])
\t    7f8a1c2d3e4f __write+0x4f (/usr/lib/x86_64-linux-gnu/libc.so.6)

swapper     0 [002] 12346.678901:     250000 cpu-clock:pppH:
\tffffffff81a3b2c5 native_safe_halt+0x5 ([kernel.kallsyms])
\tffffffff81a3b3f0 default_idle+0x10 ([kernel.kallsyms])
"""
    assert len(read(text)) == 3
    idle, mine = distinct(read(text))
    assert idle.notes == ["2 times in the text"]
    assert entry(idle, 0) == ("native_safe_halt", 5, None, None, True)
    assert entry(idle, 1) == ("default_idle", 16, None, None, False)
    assert (mine.task, mine.pid, mine.cpu) == ("my prog", 2346, 0)
    assert [found.module for found in mine.entries] == [
        None, "ext4", "jbd2", None, "/usr/lib/x86_64-linux-gnu/libc.so.6",
    ]  # fmt: skip
    assert mine.entries[3].symbol is None and mine.entries[3].address == 0xFFFFFFFF81A3B3F8


def test_ftrace_and_trace_cmd():
    plain, offsets, addresses, tracer = read(
        """\
            bash-1234    [001] .....  123.456: <stack trace>
 => __schedule
 => schedule_timeout
            bash-1234    [001] d..2.  123.457: sched_switch: prev_comm=bash
            bash-1234    [001] d..3.  123.457: <stack trace>
 => ext4_sync_file+0x12/0x370 [ext4]
   kworker/0:1-12    [000]   123.456: kernel_stack:         <stack trace >
=> __schedule (ffffffff81a3b2c5)
=> schedule (ffffffff81a3b400)
        Depth    Size   Location    (2 entries)
        -----    ----   --------
  0)     4704     112   ftrace_call+0x5/0x2f
  1)     4592      96   ext4_ext_map_blocks+0x1c/0x9d0 [ext4]
"""
    )
    assert symbols(plain) == ["__schedule", "schedule_timeout"]
    assert plain.entries[0].offset is None and (plain.task, plain.pid) == ("bash", 1234)
    assert entry(offsets, 0) == ("ext4_sync_file", 0x12, 0x370, "ext4", False)
    assert [found.address for found in addresses.entries] == [
        0xFFFFFFFF81A3B2C5, 0xFFFFFFFF81A3B400,
    ]  # fmt: skip
    assert symbols(tracer) == ["ftrace_call", "ext4_ext_map_blocks"]


def test_bpftrace_and_systemtap():
    bpf, stap = read(
        """\
Attaching 1 probe...
@[
    __schedule+1
    schedule+94
    ep_poll+828
]: 12
 0xffffffff810a7a41 : schedule+0x31/0xc0 [kernel]
 0xffffffffc0401234 : ext4_sync_file+0x12/0x370 [ext4]
 0xffffffff8108b2f0 : kthread+0x0/0xe0 [kernel] (inexact)
"""
    )
    assert entry(bpf, 0) == ("__schedule", 1, None, None, True)
    assert entry(bpf, 1) == ("schedule", 94, None, None, False)
    assert entry(stap, 0) == ("schedule", 0x31, 0xC0, None, True)
    assert entry(stap, 1) == ("ext4_sync_file", 0x12, 0x370, "ext4", False)
    assert [found.unreliable for found in stap.entries] == [False, False, True]


def test_back_traces_of_crash_and_gdb():
    crash, gdb = read(
        """\
PID: 130      TASK: ffff888801fd5700  CPU: 3    COMMAND: "ss-a"
 #0 [fffffe0000106e50] crash_nmi_callback at ffffffff89451b81
 #1 [fffffe0000106e58] nmi_handle+92 at ffffffff8942f0ac
    /build/linux/arch/x86/kernel/nmi.c: 149
 #2 [fffffe0000106ef0] end_repeat_nmi at ffffffff8a001678
    [exception RIP: native_queued_spin_lock_slowpath+105]
    RIP: ffffffff89e5a1a9  RSP: ffffccb5c032fee8  RFLAGS: 00000202
    RAX: 0000000000000101  RBX: ffffffffc05f14ec  RCX: 0000000000000000
    ORIG_RAX: ffffffffffffffff  CS: 0010  SS: 0018
--- <NMI exception stack> ---
 #3 [ffffccb5c032fee8] native_queued_spin_lock_slowpath at ffffffff89e5a1a9
 #4 [ffffccb5c032ff00] spin_abba_a at ffffffffc05c9b03 [faultlab]
    RIP: 00007f6b7a0d2a1e  RSP: 00007ffc3f2a0fd8  RFLAGS: 00000246

#0  native_halt () at ./arch/x86/include/asm/irqflags.h:57
#1  0xffffffff81a3b2c5 in __schedule (sched_mode=0) at kernel/sched/core.c:6554
#2  schedule (prev=0x0) at kernel/sched/core.c:6600
#3  0xffffffff810a7a41 in ?? ()
"""
    )
    assert (crash.task, crash.pid, crash.cpu) == ("ss-a", 130, 3)
    assert [entry(crash, i)[:2] for i in range(4)] == [
        ("crash_nmi_callback", None), ("nmi_handle", 92), ("end_repeat_nmi", None),
        ("native_queued_spin_lock_slowpath", 105),
    ]  # fmt: skip
    assert crash.entries[3].exact and crash.registers["rbx"] == 0xFFFFFFFFC05F14EC
    assert crash.entries[5].module == "faultlab"
    assert [found.address for found in gdb.entries] == [
        None, 0xFFFFFFFF81A3B2C5, 0xFFFFFFFF810A7A41,
    ]  # fmt: skip
    assert symbols(gdb) == ["native_halt", "__schedule", None]
    assert gdb.entries[0].exact and not gdb.entries[1].exact


@pytest.mark.parametrize("exact", [False, True])
def test_plain_addresses(exact):
    (trace,) = read("0xffffffff810a7a41\nffffffff81a3b2c5 0xffffffff81000000,\n  #3  0x40\n", exact)
    assert [found.address for found in trace.entries] == [
        0xFFFFFFFF810A7A41, 0xFFFFFFFF81A3B2C5, 0xFFFFFFFF81000000, 0x40,
    ]  # fmt: skip
    assert {found.exact for found in trace.entries} == {exact}


def test_prose_is_no_trace():
    assert not read("The call to schedule() at 12:30 failed.\nSee deadbeef for more: 5+3/8.\n")
    assert not read("")


def test_garbage_is_read_without_complaint():
    lines = OOPS.splitlines()
    for at in range(0, 90, 7):
        read("\n".join(line[at:] + "\x00\x1b[31m" + line[:at] for line in lines))
    read("\n".join("(" * 4000 for _ in range(3)))
    read("a" * 100_000)
    read(("=> " + "a" * 3000 + "\n") * 20)
    read(("CPU: 1 PID: 1 Comm: " + " Tainted: " * 380 + "\n") * 20)
    read(("ffffffff81000000 " * 200 + "x\n") * 20)


def test_no_line_takes_long():
    lines = [
        "task:" + " " * 2000, "CPU: 1 PID: 1 Comm: " + "Tainted: " * 200, "1-1 [1] " * 250,
        "=> " + "a " * 900, "0x1 " * 500, "WARNING: " + " at " * 480, "a+0x1/" * 300,
    ]  # fmt: skip
    began = time.process_time()
    for line in lines:
        read((line + "\n") * 20)
    assert time.process_time() - began < 10 * 0.02 * len(lines)


FOREIGN = {
    "arm64": (
        "pstate: 60400009 (nZCv daif +PAN -UAO -TCO -DIT -SSBS BTYPE=--)",
        "pc : frob_read+0x14/0x50 [frob]",
        "lr : vfs_read+0xa4/0x2c0",
        "x29: ffff80000a003d00 x28: ffff0000c1234567 x27: 0000000000000000",
        "Code: f9400000 d503201f f9400c00 (f9400000) ",
    ),
    "powerpc": (
        "NIP:  c000000000123456 LR: c000000000123450 CTR: c000000000000000",
        "NIP [c000000000123456] frob_read+0x14/0x50",
        "LR [c000000000123450] vfs_read+0x150/0x310",
    ),
    "riscv": ("epc : frob_read+0x14/0x50", " ra : vfs_read+0x150/0x310"),
    "s390": ("Krnl PSW : 0704c00180000000 0000000012345678 (frob_read+0x14/0x50)",),
    "loongarch": ("  ERA: 9000000000123456 frob_read+0x14/0x50",),
    "32-bit x86": ("EIP: frob_read+0x14/0x50", "EAX: 00000000 EBX: c1234567"),
}


@pytest.mark.parametrize("architecture", FOREIGN)
def test_oopses_of_other_architectures(architecture):
    """Their lines are told apart from x86_64's, whatever the release is called; and the one
    before the call trace is the place of the fault, not its caller."""
    lines = (
        "Unable to handle kernel NULL pointer dereference at virtual address 0000000000000010",
        "CPU: 3 PID: 4711 Comm: cat Not tainted 6.1.55 #1",
        *FOREIGN[architecture],
        "Call Trace:",
        " ksys_read+0x7c/0x130",
    )
    (trace,) = read("\n".join(lines))
    assert trace.architecture == architecture
    assert symbols(trace) in (["frob_read", "ksys_read"], ["ksys_read"])
    assert trace.code is None


@pytest.mark.parametrize(
    "release, architecture",
    [
        ("6.1.0-13-arm64", "arm64"), ("5.14.0-362.8.1.el9_3.aarch64", "aarch64"),
        ("4.18.0-513.el8.ppc64le", "ppc64le"), ("6.1.0-13-686-pae", "686"),
        ("6.1.0-13-amd64", None), ("5.14.0-362.8.1.el9_3.x86_64", None), ("6.8.0-31-generic", None),
    ],
)  # fmt: skip
def test_releases_of_other_architectures(release, architecture):
    head = "INFO: task x:1 blocked for more than 120 seconds.\n"
    (trace,) = read(f"{head}      Not tainted {release} #1\n schedule+0x30/0x90\n")
    assert trace.architecture == architecture
