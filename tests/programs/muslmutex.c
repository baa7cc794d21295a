/* Deadlocks of musl's locks, which record an owner for some kinds of mutex only; the program
 * itself is plain POSIX. */
#include "scene.h"

#include <semaphore.h>
#include <sys/mman.h>

static pthread_mutex_t first, second;
static pthread_rwlock_t prices = PTHREAD_RWLOCK_INITIALIZER;
static pthread_rwlock_t stock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_cond_t work = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t everybody;
static pthread_once_t once_first = PTHREAD_ONCE_INIT, once_second = PTHREAD_ONCE_INIT;
static sem_t sem_first, sem_second;
static scene_point held, go;

/* "I hold what I am to hold"; returns when everybody may go and block. */
static void hold(void)
{
    scene_arrive(&held);
    scene_wait(&go, 1);
}

static void start(int holders)
{
    scene_wait(&held, holders);
    scene_ready();
    scene_arrive(&go);
    scene_idle();
}

static void two(scene_body a, scene_body b)
{
    scene_thread(a, NULL);
    scene_thread(b, NULL);
    start(2);
}

/* The body of a thread that takes one thing and then wants another. */
#define BODY(function, name, take, want)     \
    static void *function(void *argument)    \
    {                                        \
        (void) argument;                     \
        scene_name(name);                    \
        take;                                \
        hold();                              \
        want;                                \
        return NULL;                         \
    }

#define SCENE(scene, ...)                    \
    static void scene(int argc, char **argv) \
    {                                        \
        (void) argc, (void) argv;            \
        __VA_ARGS__;                         \
    }

static void make(pthread_mutex_t *mutex, int type, int robust, int protocol)
{
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, type);
    if (robust)
        pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    errno = pthread_mutexattr_setprotocol(&attributes, protocol);
    if (errno)
        scene_skip("no priority inheritance here");
    pthread_mutex_init(mutex, &attributes);
}

static void make_both(int type, int robust, int protocol)
{
    make(&first, type, robust, protocol);
    make(&second, type, robust, protocol);
}

BODY(mutex_a, "a", pthread_mutex_lock(&first), pthread_mutex_lock(&second))
BODY(mutex_b, "b", pthread_mutex_lock(&second), pthread_mutex_lock(&first))
SCENE(normal, make_both(PTHREAD_MUTEX_NORMAL, 0, PTHREAD_PRIO_NONE); two(mutex_a, mutex_b))
SCENE(recursive, make_both(PTHREAD_MUTEX_RECURSIVE, 0, PTHREAD_PRIO_NONE);
      two(mutex_a, mutex_b))
SCENE(errorcheck, make_both(PTHREAD_MUTEX_ERRORCHECK, 0, PTHREAD_PRIO_NONE);
      two(mutex_a, mutex_b))
SCENE(robust, make_both(PTHREAD_MUTEX_NORMAL, 1, PTHREAD_PRIO_NONE); two(mutex_a, mutex_b))

/* The second to wait closes the cycle, and the kernel tells it: b comes second. */
static pid_t tid_of_a;

BODY(pi_a, "a", pthread_mutex_lock(&first); tid_of_a = scene_tid(), pthread_mutex_lock(&second))
BODY(pi_b, "b", pthread_mutex_lock(&second), scene_until_futex(tid_of_a);
     pthread_mutex_lock(&first))
SCENE(pi, make_both(PTHREAD_MUTEX_NORMAL, 0, PTHREAD_PRIO_INHERIT); two(pi_a, pi_b))

static int lock_within_an_hour(pthread_mutex_t *mutex)
{
    struct timespec when = scene_in_an_hour(CLOCK_REALTIME);
    return pthread_mutex_timedlock(mutex, &when);
}

BODY(timed_a, "a", pthread_mutex_lock(&first), lock_within_an_hour(&second))
BODY(timed_b, "b", pthread_mutex_lock(&second), lock_within_an_hour(&first))
SCENE(timed, make_both(PTHREAD_MUTEX_RECURSIVE, 0, PTHREAD_PRIO_NONE); two(timed_a, timed_b))

/* Victims that are older than those whose cycle they queue behind. */
static void *victim(void *argument)
{
    scene_name_number("v", (int) (long) argument);
    scene_wait(&go, 1);
    scene_until_futex(tid_of_a);
    pthread_mutex_lock(&first);
    return NULL;
}

static void victims(void)
{
    for (long i = 0; i < 100; i++)
        scene_thread(victim, (void *) i);
}

BODY(crowd_a, "a", pthread_mutex_lock(&first); tid_of_a = scene_tid(), pthread_mutex_lock(&second))
SCENE(crowd, make_both(PTHREAD_MUTEX_NORMAL, 0, PTHREAD_PRIO_NONE); victims();
      two(crowd_a, mutex_b))

BODY(relock_a, "a", pthread_mutex_lock(&first), pthread_mutex_lock(&first))
SCENE(relock, make(&first, PTHREAD_MUTEX_NORMAL, 0, PTHREAD_PRIO_NONE);
      scene_thread(relock_a, NULL); start(1))

BODY(write_a, "a", pthread_rwlock_wrlock(&prices), pthread_rwlock_wrlock(&stock))
BODY(write_b, "b", pthread_rwlock_wrlock(&stock), pthread_rwlock_wrlock(&prices))
SCENE(writers, two(write_a, write_b))

BODY(read_a, "a", pthread_rwlock_rdlock(&prices), pthread_rwlock_wrlock(&stock))
BODY(read_b, "b", pthread_rwlock_rdlock(&stock), pthread_rwlock_wrlock(&prices))
SCENE(readers, two(read_a, read_b))

BODY(wait_a, "a", sem_wait(&sem_first), sem_wait(&sem_second))
BODY(wait_b, "b", sem_wait(&sem_second), sem_wait(&sem_first))
SCENE(semaphore, sem_init(&sem_first, 0, 1); sem_init(&sem_second, 0, 1); two(wait_a, wait_b))

/* a holds a mutex and joins b, which wants it. */
static pthread_t b;

BODY(joined, "b", (void) 0, pthread_mutex_lock(&first))
BODY(joiner, "a", pthread_mutex_lock(&first); b = scene_thread(joined, NULL),
     pthread_join(b, NULL))
SCENE(join, make(&first, PTHREAD_MUTEX_RECURSIVE, 0, PTHREAD_PRIO_NONE);
      scene_thread(joiner, NULL); start(2))

static void run_first(void);
static void run_second(void);

BODY(once_a, "a", (void) 0, pthread_once(&once_first, run_first))
BODY(once_b, "b", (void) 0, pthread_once(&once_second, run_second))

static scene_point inside;

static void run_first(void)
{
    scene_meet(&inside, 2);
    pthread_once(&once_second, run_second);
}

static void run_second(void)
{
    scene_meet(&inside, 2);
    pthread_once(&once_first, run_first);
}

SCENE(once, two(once_a, once_b))

/* a waits at the barrier for b, which wants a's mutex. */
BODY(barrier_a, "a", pthread_mutex_lock(&first), pthread_barrier_wait(&everybody))
BODY(barrier_b, "b", (void) 0, pthread_mutex_lock(&first);
     pthread_barrier_wait(&everybody))

static void barrier(int argc, char **argv)
{
    (void) argc, (void) argv;
    make(&first, PTHREAD_MUTEX_ERRORCHECK, 0, PTHREAD_PRIO_NONE);
    pthread_barrier_init(&everybody, NULL, 2);
    two(barrier_a, barrier_b);
}

/* Not a deadlock: a pool without work. */
static void *worker(void *argument)
{
    scene_name_number("w", (int) (long) argument);
    pthread_mutex_lock(&first);
    scene_arrive(&held);
    for (;;)
        pthread_cond_wait(&work, &first);
    return NULL;
}

static void pool(int argc, char **argv)
{
    (void) argc, (void) argv;
    make(&first, PTHREAD_MUTEX_NORMAL, 0, PTHREAD_PRIO_NONE);
    for (long i = 0; i < 4; i++)
        scene_thread(worker, (void *) i);
    start(4);
}

/* The child of fork() has only one thread, and a lock that another has, who is not told. */
BODY(keeper, "keeper", pthread_mutex_lock(&first), for (;;) pause())

static void forked(int argc, char **argv)
{
    (void) argc, (void) argv;
    make(&first, PTHREAD_MUTEX_NORMAL, 0, PTHREAD_PRIO_NONE);
    scene_thread(keeper, NULL);
    scene_wait(&held, 1);
    if (scene_fork() == 0) {
        scene_name("child");
        scene_note("target", (unsigned long) getpid());
        scene_ready();
        pthread_mutex_lock(&first);
    }
    scene_arrive(&go);
    scene_idle();
}

/* The holder is another process, which maps the same file and sleeps. */
static void in_file(int argc, char **argv)
{
    (void) argc, (void) argv;
    char path[] = "/tmp/faultkit-mutex-XXXXXX";
    int fd = mkstemp(path);
    scene_require(fd >= 0 && unlink(path) == 0 && ftruncate(fd, 4096) == 0, "a file");
    struct {
        scene_point taken;
        pthread_mutex_t mutex;
    } *file = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    scene_require(file != MAP_FAILED, "mmap");
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(&file->mutex, &attributes);
    if (scene_fork() == 0) {
        scene_name("child");
        pthread_mutex_lock(&file->mutex);
        scene_arrive(&file->taken);
        for (;;)
            sleep(3600);
    }
    scene_name("main");
    scene_wait(&file->taken, 1);
    scene_ready();
    pthread_mutex_lock(&file->mutex);
}

/* Not a deadlock: the holder sleeps. */
BODY(sleeper, "a", pthread_mutex_lock(&first), for (;;) sleep(3600))
BODY(waiter, "b", (void) 0, pthread_mutex_lock(&first))

static void sleeping(int argc, char **argv)
{
    (void) argc, (void) argv;
    make(&first, PTHREAD_MUTEX_RECURSIVE, 0, PTHREAD_PRIO_NONE);
    scene_thread(sleeper, NULL);
    scene_wait(&held, 1);
    scene_thread(waiter, NULL);
    start(2);
}

int main(int argc, char **argv)
{
    static const scene_entry scenes[] = {
        { "normal", normal },
        { "crowd", crowd },
        { "recursive", recursive },
        { "errorcheck", errorcheck },
        { "robust", robust },
        { "pi", pi },
        { "timed", timed },
        { "self", relock },
        { "writers", writers },
        { "readers", readers },
        { "semaphore", semaphore },
        { "join", join },
        { "once", once },
        { "barrier", barrier },
        { "forked", forked },
        { "pool", pool },
        { "sleeper", sleeping },
        { "in-file", in_file },
        { NULL, NULL },
    };
    return scene_main(scenes, argc, argv);
}
