"""musl's locks, in static (also stripped) and dynamic programs."""

import struct

import pytest
from lang_waits import PROGRAMS, compile_source, play

from faultkit.layouts import musl
from faultkit.model import EVENT, HELD, INFERRED, PROVEN

SOURCE = r"""
#include "scene.h"
#include <semaphore.h>

static pthread_mutex_t normal = PTHREAD_MUTEX_INITIALIZER, outer = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t recursive, left, with_condition = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t written = PTHREAD_RWLOCK_INITIALIZER, read_ = PTHREAD_RWLOCK_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static sem_t semaphore;
static pthread_t idler;
static scene_point named, left_it;

static void never_done(void) { scene_name("runner"); scene_arrive(&named); scene_idle(); }
static void *run(void *x) { pthread_once(&once, never_done); return x; }
static void *idle(void *x) { scene_name("idler"); scene_arrive(&named); scene_idle(); return x; }
static void *leave(void *x) { pthread_mutex_lock(&left); scene_arrive(&left_it); return x; }

#define THREAD(NAME, CALL) \
    static void *NAME(void *x) { scene_name(#NAME); scene_arrive(&named); CALL; return x; }
THREAD(on_normal, pthread_mutex_lock(&normal))
THREAD(on_recursive, pthread_mutex_lock(&recursive))
THREAD(on_left, pthread_mutex_lock(&left))
THREAD(reader, pthread_rwlock_rdlock(&written))
THREAD(writer, pthread_rwlock_wrlock(&read_))
THREAD(on_semaphore, sem_wait(&semaphore))
THREAD(on_condition, pthread_mutex_lock(&with_condition);
       pthread_cond_wait(&condition, &with_condition))
THREAD(on_barrier, pthread_barrier_wait(&barrier))
THREAD(on_once, pthread_once(&once, never_done))
THREAD(joiner, pthread_join(idler, NULL))
THREAD(on_file, flockfile(stderr))

int main(void)
{
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&recursive, &attributes);
    pthread_mutex_init(&left, &attributes);
    scene_name("main");
    pthread_mutex_lock(&normal);
    pthread_mutex_lock(&recursive);
    pthread_rwlock_wrlock(&written);
    pthread_rwlock_rdlock(&read_);
    pthread_barrier_init(&barrier, NULL, 9);
    sem_init(&semaphore, 0, 0);
    flockfile(stderr);
    idler = scene_thread(idle, NULL);
    scene_thread(run, NULL);
    scene_wait(&named, 2);
    scene_thread(leave, NULL);
    scene_wait(&left_it, 1);
    scene_body threads[] = { on_normal, on_recursive, on_left, reader, writer, on_semaphore,
                             on_condition, on_barrier, on_once, joiner, on_file };
    for (int i = 0; i < 11; i++)
        scene_thread(threads[i], NULL);
    scene_wait(&named, 13);
    scene_ready();
    scene_idle();
}
"""


@pytest.fixture(
    scope="module",
    params=[("-static",), ("-static", "-s"), ("-g",)],
    ids=["static", "stripped", "dynamic"],
)
def scene(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp("musl")
    program = compile_source(
        directory, "musl.c", SOURCE, "musl-gcc", f"-I{PROGRAMS}", "-Wno-unused", *request.param
    )
    with play(program) as playing:
        yield playing


def test_normal_mutex_has_no_owner(scene):
    wait = scene.wait_of("on_normal", "pthread_mutex")
    assert (wait.needs, wait.holders, wait.fault) == (HELD, (), None)
    assert wait.confidence == INFERRED
    assert wait.missing is not None
    assert "musl records no owner" in wait.missing


def test_recursive_mutex_names_its_owner(scene):
    wait = scene.wait_of("on_recursive", "pthread_mutex")
    assert scene.holders(wait) == ["main"]
    assert wait.confidence == PROVEN


def test_owner_that_has_exited(scene):
    wait = scene.wait_of("on_left", "pthread_mutex")
    assert wait.fault == "orphaned-lock"
    assert wait.holders == ()


def test_rwlock_held_by_a_writer(scene):
    wait = scene.wait_of("reader", "rwlock")
    assert (wait.needs, wait.holders) == (HELD, ())
    assert wait.evidence == ("musl rwlock, held by a writer",)
    assert wait.holder_count == 1
    assert wait.mode in ("read", None)


def test_rwlock_held_by_a_reader(scene):
    wait = scene.wait_of("writer", "rwlock")
    assert wait.mode == "write"
    assert wait.evidence == ("musl rwlock, held by 1 reader",)
    assert wait.holder_count == 1


def test_a_robust_mutex_of_thread_128_is_no_rwlock():
    """glibc's: {lock, count, owner, nusers, kind...}; musl's third word says who shares it: 128."""

    class Memory:
        def read(self, address, size):
            return struct.pack("<5I", 0x80000080, 1, 128, 1, 0x90).ljust(size, b"\0")

    assert musl.read_rwlock(Memory(), 0x1000, private=False) is None


@pytest.mark.parametrize(
    ("name", "kind"), [("on_semaphore", "semaphore"), ("on_condition", "condvar")]
)
def test_idle_waits(scene, name, kind):
    wait = scene.wait_of(name, kind)
    assert (wait.needs, wait.holders, wait.missing) == (EVENT, (), None)


def test_barrier_claims_nothing(scene):
    wait = scene.wait_of("on_barrier")
    assert (wait.needs, wait.holders, wait.fault) == (EVENT, (), None)


def test_once(scene):
    wait = scene.wait_of("on_once", "once")
    assert (wait.needs, wait.holders) == (HELD, ())
    assert wait.missing


def test_join(scene):
    wait = scene.wait_of("joiner", "join")
    assert wait.needs == EVENT
    assert scene.holders(wait) == ["idler"]


def test_stdio(scene):
    wait = scene.wait_of("on_file", "stdio")
    assert scene.holders(wait) == ["main"]
    assert wait.confidence == PROVEN
