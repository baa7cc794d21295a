"""C++ static locals, call_once, stdio's locks and malloc's."""

import pytest
from lang_waits import PROGRAMS, compile_source, play

from faultkit.model import HELD, INFERRED, PROVEN

CXX = r"""
#include "scene.h"
#include <mutex>

struct Slow { Slow() { scene_name("maker"); scene_arrive(&made); scene_idle(); }
              static scene_point made; };
scene_point Slow::made;
static Slow &instance() { static Slow slow; return slow; }
static std::once_flag flag;
static pthread_once_t again = PTHREAD_ONCE_INIT;
static scene_point ready_;
static void *make(void *x) { instance(); return x; }
static void once_more() { pthread_once(&again, once_more); }
static void *run(void *x) {
    std::call_once(flag, [] { scene_name("runner"); scene_arrive(&Slow::made); scene_idle(); });
    return x; }
#define THREAD(NAME, CALL) \
    static void *NAME(void *x) { scene_name(#NAME); scene_arrive(&ready_); CALL; return x; }
THREAD(on_static, instance())
THREAD(on_once, std::call_once(flag, [] {}))
THREAD(on_itself, pthread_once(&again, once_more))
THREAD(on_file, flockfile(stdin))

int main()
{
    scene_name("main");
    flockfile(stdin);
    scene_thread(make, nullptr);
    scene_thread(run, nullptr);
    scene_wait(&Slow::made, 2);
    scene_thread(on_static, nullptr);
    scene_thread(on_once, nullptr);
    scene_thread(on_itself, nullptr);
    scene_thread(on_file, nullptr);
    scene_wait(&ready_, 4);
    scene_ready();
    scene_idle();
}
"""


@pytest.fixture(
    scope="module",
    params=[("-g",), ("-O2", "-s"), ("-O2", "-static", "-s")],
    ids=["debug", "stripped", "static"],
)
def scene(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp("cxx")
    flags = (f"-I{PROGRAMS}", "-pthread", *request.param)
    with play(compile_source(directory, "locks.cc", CXX, "g++", *flags)) as playing:
        yield playing


def test_guard_of_a_static_local(scene):
    wait = scene.wait_of("on_static", "cxa_guard")
    assert (wait.needs, wait.holders, wait.fault) == (HELD, (), None)
    assert wait.missing


def test_call_once_names_who_runs_it(scene):
    wait = scene.wait_of("on_once", "once")
    assert scene.holders(wait) == ["runner"]
    assert wait.confidence == INFERRED


def test_once_that_calls_itself(scene):
    wait = scene.wait_of("on_itself", "once")
    assert scene.holders(wait) == ["on_itself"]


def test_stdio_names_its_owner(scene):
    wait = scene.wait_of("on_file", "stdio")
    assert scene.holders(wait) == ["main"]
    assert wait.confidence == PROVEN
    assert wait.lock.name in ("stdin", None)


MALLOC = r"""
#include "scene.h"
#include <malloc.h>
#include <sys/time.h>

static void handler(int signal) { (void) signal; free(malloc(100000)); }
static void *idle(void *x) { scene_idle(); return x; }

int main(void)
{
    sigset_t alarms;
    struct sigaction action = { .sa_handler = handler };
    struct itimerval often = { { 0, 500 }, { 0, 500 } };
    sigemptyset(&alarms);
    sigaddset(&alarms, SIGVTALRM);
    sigprocmask(SIG_BLOCK, &alarms, NULL);
    scene_thread(idle, NULL); /* with one thread only, malloc takes no lock */
    sigprocmask(SIG_UNBLOCK, &alarms, NULL);
    sigaction(SIGVTALRM, &action, NULL);
    scene_name("main");
    scene_ready();
    setitimer(ITIMER_VIRTUAL, &often, NULL);
    for (;;) {
        void *blocks[64];
        for (int i = 0; i < 64; i++)
            blocks[i] = malloc(2000 + 64 * i);
        for (int i = 0; i < 64; i++)
            free(blocks[i]);
        malloc_trim(0);
    }
}
"""


def test_malloc_in_a_signal_handler(tmp_path):
    flags = ("-g", "-O0", "-pthread", f"-I{PROGRAMS}")
    program = compile_source(tmp_path, "handler.c", MALLOC, "gcc", *flags)
    with play(program) as scene:
        wait = scene.wait_of("main", "lowlevellock")
        assert wait.needs == HELD
        assert wait.fault is None
        assert scene.holders(wait) == ["main"]
        assert "not async-signal-safe" in wait.evidence[-1]
