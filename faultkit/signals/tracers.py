"""Ready tracers for the next time: who sends signals to a process, and who makes it exit.

Of the kernel's events signal:signal_generate has every signal, whoever sends it, in the context of
the task that does; the system calls show who asked for it, and from where in its program.
"""

from __future__ import annotations

from collections.abc import Sequence

from faultkit.record import NamedTuple

TRACERS = ("tracefs", "bpftrace", "systemtap")
MOST_THREADS = 60  # in a filter, which the kernel limits to a page
_CALLS = (("kill", "pid"), ("tkill", "pid"), ("tgkill", "tgid"), ("rt_sigqueueinfo", "pid"),
          ("rt_tgsigqueueinfo", "tgid"))  # fmt: skip


class Target(NamedTuple):
    """The process to watch: its threads' ids, and where the C library's abort() and exit() lie, as
    (name, file, offset in it), if that is known."""

    pid: int
    name: str
    threads: tuple[int, ...]
    functions: tuple[tuple[str, str, int], ...] = ()


def script(target: Target, tracer: str) -> str:
    """The tracer's program, ready to run as root."""
    return {"tracefs": _tracefs, "bpftrace": _bpftrace, "systemtap": _systemtap}[tracer](target)


def _head(target: Target, how: str) -> str:
    name = "".join(c if c.isalnum() or c in " ._-+:" else "?" for c in target.name)
    return (
        f"# Who sends signals to process {target.pid} ({name}), and what makes it exit.\n"
        f"# As root: {how} > signals.txt; it ends with the process.\n"
        "# Then: faultkit sigsrc --from signals.txt\n"
    )


def _filter(field: str, ids: Sequence[int]) -> str:
    return "||".join(f"{field}=={one}" for one in ids[:MOST_THREADS])


def _tracefs(target: Target) -> str:
    """An instance of its own, so that other users of tracefs are left alone."""
    pid = target.pid
    threads = _filter("pid", target.threads or (pid,))
    calls = "\n".join(
        f"event syscalls/sys_enter_{call} '{field}=={pid}&&sig>0'" for call, field in _CALLS
    )
    probes, removal = [], []
    for number, (name, path, offset) in enumerate(target.functions):
        probe = f"faultkit_{pid}_{number}_{name}"
        probes.append(
            f"echo 'p:faultkit/{probe} {path}:{offset:#x}' >>$tracing/uprobe_events && "
            f"event faultkit/{probe} '{_filter('common_pid', target.threads)}'"
        )
        removal.append(f"    echo '-:faultkit/{probe}' >>$tracing/uprobe_events\n")
    return f"""\
#!/bin/sh
{_head(target, "sh FILE")}
tracing=/sys/kernel/tracing
[ -d $tracing/events ] || mount -t tracefs tracefs $tracing || exit 1
own=$tracing/instances/faultkit-{pid}
mkdir $own || exit 1
reader=
end() {{
    trap - EXIT INT TERM HUP
    sleep 0.3
    echo 0 >$own/tracing_on
    [ -z "$reader" ] || kill $reader
    wait
    echo 0 >$own/events/enable
    rmdir $own
{"".join(removal)}}} 2>/dev/null
trap end EXIT
trap 'exit 0' INT TERM HUP

event() {{
    [ -d $own/events/$1 ] || return 0
    echo "$2" >$own/events/$1/filter && echo 1 >$own/events/$1/enable
}}
echo 0 >$own/options/irq-info
echo 1 >$own/options/userstacktrace
echo 1 >$own/options/sym-userobj
event signal/signal_generate '{threads}'
echo 'stacktrace if {threads}' >$own/events/signal/signal_generate/trigger
event sched/sched_process_exit '{threads}'
{calls}
event syscalls/sys_enter_pidfd_send_signal 'sig>0'
event syscalls/sys_enter_exit_group 'common_pid=={pid}'
{chr(10).join(probes)}
cat $own/trace_pipe &
reader=$!
echo "faultkit: armed {pid}"
# a zombie has no program any more
while readlink /proc/{pid}/exe >/dev/null 2>&1; do sleep 0.2; done
"""


def _bpftrace(target: Target) -> str:
    pid = target.pid
    ids = target.threads[:MOST_THREADS] or (pid,)
    threads = " || ".join(f"args->pid == {tid}" for tid in ids)
    calls = "\n".join(
        f"tracepoint:syscalls:sys_enter_{call} /args->{field} == {pid}/\n"
        "{\n"
        f'    printf("faultkit call time=%llu by=%d tid=%d uid=%d name=%s call={call} sig=%d\\n",\n'
        "        nsecs, pid, tid, uid, comm, args->sig);\n"
        '    printf("%s", ustack);\n'
        "}"
        for call, field in _CALLS
    )
    return f"""\
#!/usr/bin/env bpftrace
{_head(target, "bpftrace FILE").replace("# ", "// ")}
BEGIN {{ printf("faultkit: armed {pid}\\n"); }}

tracepoint:signal:signal_generate /{threads}/
{{
    printf("faultkit signal time=%llu by=%d tid=%d uid=%d name=%s ", nsecs, pid, tid, uid, comm);
    printf("sig=%d code=%d to=%d group=%d result=%d\\n",
        args->sig, args->code, args->pid, args->group, args->result);
    printf("%s%s", kstack, ustack);
}}

{calls}

tracepoint:syscalls:sys_enter_exit_group /pid == {pid}/
{{
    printf("faultkit call time=%llu by=%d tid=%d uid=%d name=%s call=exit_group sig=%d\\n",
        nsecs, pid, tid, uid, comm, args->error_code);
    printf("%s", ustack);
}}

tracepoint:sched:sched_process_exit /args->pid == {pid}/
{{
    printf("faultkit exit time=%llu tid=%d name=%s\\n", nsecs, args->pid, args->comm);
    exit();
}}
"""


def _systemtap(target: Target) -> str:
    pid = target.pid
    return f"""\
#!/usr/bin/env stap
{_head(target, "stap FILE")}
probe begin {{ printf("faultkit: armed {pid}\\n") }}

probe signal.send
{{
    if (sig_pid != {pid}) next
    printf("faultkit signal time=%d by=%d tid=%d uid=%d name=%s ",
        gettimeofday_ns(), pid(), tid(), uid(), execname())
    printf("sig=%d code=%s to=%d group=%d result=0\\n", sig, si_code, sig_pid, shared)
    print_backtrace()
}}

probe syscall.exit_group
{{
    if (pid() != {pid}) next
    printf("faultkit call time=%d by=%d tid=%d uid=%d name=%s call=exit_group sig=%d\\n",
        gettimeofday_ns(), pid(), tid(), uid(), execname(), status)
    print_ubacktrace()
}}

probe kernel.trace("sched_process_exit")
{{
    if (tid() != {pid}) next
    printf("faultkit exit time=%d tid=%d name=%s\\n", gettimeofday_ns(), tid(), execname())
    exit()
}}
"""


def target_of(pid: int) -> Target | None:
    """The process by /proc; None if it is gone."""
    import os

    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            name = file.read().rstrip("\n")
        threads = tuple(sorted(int(tid) for tid in os.listdir(f"/proc/{pid}/task")))
    except (OSError, ValueError):
        return None
    return Target(pid, name, threads, tuple(_functions(pid)))


def _functions(pid: int) -> list[tuple[str, str, int]]:
    """Where the C library's abort() and exit() lie: (name, file, offset in the file)."""
    from faultkit.code.process import Code
    from faultkit.procfs.process import ProcProcess
    from faultkit.target import FaultkitError

    found = []
    try:
        process = ProcProcess(pid)
        code = Code(process.read, process.code_mappings(), pid, True)
        for name in ("abort", "exit"):
            for address in code.addresses(name)[:1]:
                mapping = process.mapping(address)
                if mapping is not None and mapping.path.startswith("/") and " " not in mapping.path:
                    offset = address - mapping.start + mapping.offset
                    found.append((name, mapping.path, offset))
    except FaultkitError:
        return []
    return found
