"""A program whose threads block in many ways, for the tests of symbols and unwinding."""

import contextlib
import json
import shutil
import subprocess
import textwrap
import time

import pytest
from harness import gdb_program

from faultkit.code.process import Code
from faultkit.procfs.process import ProcProcess

SOURCE = r"""
#define _GNU_SOURCE
#include <alloca.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))
pthread_mutex_t accounts = PTHREAD_MUTEX_INITIALIZER, audit = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t never = PTHREAD_COND_INITIALIZER;
static sem_t empty;
static int pipes[2];
static volatile int sink;

NOINLINE static void lock_pair(pthread_mutex_t *first, pthread_mutex_t *second) {
    pthread_mutex_lock(first);
    pthread_mutex_lock(second);
    sink++;
}
static void *in_mutex(void *arg) {
    lock_pair(&accounts, &audit);
    sink++;
    return arg;
}
static void *in_condition(void *arg) {
    pthread_mutex_t own = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&own);
    pthread_cond_wait(&never, &own);
    return arg;
}
static void *in_read(void *arg) {
    char buffer[5000];
    sink += read(pipes[0], buffer, sizeof buffer);
    sink += buffer[7];
    return arg;
}
static void *in_nanosleep(void *arg) {
    struct timespec long_time = {1000, 0};
    nanosleep(&long_time, 0);
    sink++;
    return arg;
}
NOINLINE static int deeper(int n, volatile int *trail) {
    volatile int here[9] = {n, *trail};
    if (n == 0)
        sem_wait(&empty);
    else
        sink += deeper(n - 1, &here[1]);
    return here[n % 9] + sink;
}
static void *in_depth(void *arg) {
    volatile int start = 1;
    sink += deeper(10, &start);
    return arg;
}
static void handler(int signal) {
    sem_wait(&empty);
    sink += signal;
}
NOINLINE static int interrupted(volatile int *work) {
    while (!sink)
        (*work)++;
    return *work;
}
static void *in_signal(void *arg) {
    volatile int work = 0;
    sink += interrupted(&work);
    return arg;
}
NOINLINE static void variable(size_t size) {
    char *room = alloca(size);
    memset(room, 1, size);
    sem_wait(&empty);
    sink += room[size - 1];
}
static void *in_alloca(void *arg) {
    variable(100 + getpid() % 7 * 16);
    sink++;
    return arg;
}
static int compare(const void *a, const void *b) {
    sem_wait(&empty);
    return *(const int *)a - *(const int *)b;
}
static void *in_callback(void *arg) {
    int numbers[] = {3, 1, 2};
    qsort(numbers, 3, sizeof *numbers, compare);
    sink += numbers[0];
    return arg;
}
NOINLINE static int many(int a, int b, int c, int d, int e, int f, int g, int h, int i) {
    sem_wait(&empty);
    return a + b + c + d + e + f + g + h + i + sink;
}
static void *in_many(void *arg) {
    sink += many(1, 2, 3, 4, 5, 6, 7, sink, 9);
    return arg;
}
static void *in_aligned(void *arg) {
    char room[64] __attribute__((aligned(64)));
    memset(room, 2, sizeof room);
    sem_wait(&empty);
    sink += room[9];
    return arg;
}

int main(void) {
    void *(*bodies[])(void *) = {in_mutex,  in_condition, in_read,     in_nanosleep, in_depth,
                                 in_signal, in_alloca,    in_callback, in_many,      in_aligned};
    pthread_t threads[sizeof bodies / sizeof *bodies];
    signal(SIGUSR1, handler);
    sem_init(&empty, 0, 0);
    if (pipe(pipes))
        return 1;
    pthread_mutex_lock(&audit);
    for (unsigned i = 0; i < sizeof bodies / sizeof *bodies; i++)
        pthread_create(&threads[i], 0, bodies[i], 0);
    usleep(100000);
    pthread_kill(threads[5], SIGUSR1);
    usleep(200000);
    puts("ready");
    fflush(stdout);
    pthread_join(threads[0], 0);
    return sink;
}
"""

THREADS = 11  # of the program

VARIANTS = {
    "dbg": ["gcc", "-g", "-O0"],
    "opt": ["gcc", "-g", "-O2"],
    "dwarf4": ["gcc", "-gdwarf-4", "-O1", "-fno-plt", "-Wl,-z,now"],
    "framepointers": ["gcc", "-O2", "-fno-omit-frame-pointer", "-fcf-protection"],
    "stripped": ["gcc", "-O2", "-s"],
    "stripped-O0": ["gcc", "-O0", "-s", "-no-pie"],
    "static": ["gcc", "-O2", "-static", "-g"],
    "static-stripped": ["gcc", "-O2", "-static-pie", "-s"],
    "musl": ["musl-gcc", "-O2", "-g"],
}

GDB_SCRIPT = """
import gdb, json
gdb.execute("set backtrace past-main on")
gdb.execute("set backtrace past-entry on")
stacks = {}
for thread in gdb.selected_inferior().threads():
    thread.switch()
    frame, frames = gdb.newest_frame(), []
    while frame is not None and len(frames) < 64:
        if frame.type() in (gdb.NORMAL_FRAME, gdb.SIGTRAMP_FRAME):
            frames.append([frame.pc(), frame.name()])
        frame = frame.older()
    stacks[thread.ptid[1]] = frames
print("STACKS" + json.dumps(stacks))
"""


class Target:
    """A running variant of the program."""

    def __init__(self, executable, process):
        self.executable = executable
        self.pid = process.pid
        self.process = ProcProcess(process.pid)
        self.code = Code(self.process.read, self.process.mappings(), process.pid)

    def await_blocked(self):
        """Returns once every thread is blocked in a system call."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            calls = [self.process.syscall(task) for task in self.process.tasks()]
            if len(calls) == THREADS and all(call is not None and call.pc for call in calls):
                return
            time.sleep(0.05)
        raise AssertionError("the program does not come to rest")

    def stacks(self):
        """(tid, Steps) of each thread, from what /proc tells: pc and sp."""
        for task in self.process.tasks():
            call = self.process.syscall(task)
            assert call is not None and call.pc, f"{task} is not blocked"
            yield task.tid, self.code.unwind({"rip": call.pc, "rsp": call.sp})

    def gdb_stacks(self, directory):
        """[[pc, name], ...] by tid, as gdb unwinds them; inlined frames left out."""
        script = directory / "stacks.py"
        script.write_text(GDB_SCRIPT)
        done = subprocess.run(
            [gdb_program(), "-nx", "-batch", "-p", str(self.pid), "-x", str(script)],
            capture_output=True,
            text=True,
            timeout=120,
        )
        lines = [line for line in done.stdout.splitlines() if line.startswith("STACKS")]
        assert lines, done.stdout + done.stderr
        return {int(tid): frames for tid, frames in json.loads(lines[0][6:]).items()}


def build(directory, variant, source=SOURCE):
    """The executable of a variant, built in `directory`; skips where its compiler is missing."""
    compiler, *flags = VARIANTS[variant]
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}")
    path = directory / f"blocker-{variant}.c"
    path.write_text(textwrap.dedent(source))
    executable = path.with_suffix("")
    subprocess.run([compiler, *flags, "-pthread", str(path), "-o", str(executable)], check=True)
    return executable


@contextlib.contextmanager
def running(executable):
    """The program, once all its threads are blocked."""
    process = subprocess.Popen([str(executable)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "ready\n"
        target = Target(executable, process)
        target.await_blocked()
        yield target
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
