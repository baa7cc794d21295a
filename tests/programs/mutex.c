/* Deadlocks of pthread mutexes of every kind and in every place. */
#include "scene.h"

#include <sys/mman.h>

struct account {
    long balance;
    char owner[32];
    pthread_mutex_t lock; /* at +40: reports can say accounts+40 */
};

static struct account accounts[4];
static pthread_mutex_t audit;
static pthread_mutex_t plain_first = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t plain_second = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t nested_first = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static pthread_mutex_t nested_second = PTHREAD_ERRORCHECK_MUTEX_INITIALIZER_NP;

static int one_by_one; /* the second locker goes when the first one sleeps */
static pid_t first_of_two;
static int (*lock)(pthread_mutex_t *) = pthread_mutex_lock;

static int lock_within_an_hour(pthread_mutex_t *mutex)
{
    struct timespec when = scene_in_an_hour(CLOCK_REALTIME);
    return pthread_mutex_timedlock(mutex, &when);
}

static int lock_within_an_hour_steadily(pthread_mutex_t *mutex)
{
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 30)
    struct timespec when = scene_in_an_hour(CLOCK_MONOTONIC);
    return pthread_mutex_clocklock(mutex, CLOCK_MONOTONIC, &when);
#else
    (void) mutex;
    scene_skip("no pthread_mutex_clocklock in this C library");
    return 0;
#endif
}

struct locker {
    const char *name;
    pthread_mutex_t *first, *second;
    int depth; /* how often the first is taken */
};

static int unlocked_too_often; /* a bug without consequences, in glibc */

static void *locker(void *argument)
{
    struct locker *self = argument;
    scene_name(self->name);
    for (int i = 0; i < unlocked_too_often; i++)
        pthread_mutex_unlock(self->first);
    for (int i = 0; i < self->depth; i++)
        pthread_mutex_lock(self->first);
    if (one_by_one && self->name[0] == 'a')
        first_of_two = scene_tid();
    scene_hold();
    if (one_by_one && self->name[0] != 'a')
        scene_until_futex(first_of_two);
    lock(self->second);
    return NULL;
}

/* Two threads that take the two locks in opposite order; the caller says go. */
static void cross(struct locker *two, const char *a, const char *b, pthread_mutex_t *first,
                  pthread_mutex_t *second, int depth)
{
    two[0] = (struct locker){ a, first, second, depth };
    two[1] = (struct locker){ b, second, first, depth };
    scene_thread(locker, &two[0]);
    scene_thread(locker, &two[1]);
}

static void cross_and_start(pthread_mutex_t *first, pthread_mutex_t *second, int depth)
{
    static struct locker two[2];
    cross(two, "a", "b", first, second, depth);
    scene_start(2);
}

static void make(pthread_mutex_t *mutex, int type, int robust, int protocol, int shared)
{
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, type);
    if (robust)
        pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    if (shared)
        pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    errno = pthread_mutexattr_setprotocol(&attributes, protocol);
    scene_require(errno == 0, "pthread_mutexattr_setprotocol");
    errno = pthread_mutex_init(mutex, &attributes);
    scene_require(errno == 0, "pthread_mutex_init");
}

static void make_both(int type, int robust, int protocol, int shared)
{
    make(&accounts[0].lock, type, robust, protocol, shared);
    make(&audit, type, robust, protocol, shared);
}

static void cross_globals(int depth)
{
    cross_and_start(&accounts[0].lock, &audit, depth);
}

#define CROSS(scene, type, robust, protocol, shared, depth, how)           \
    static void scene(int argc, char **argv)                               \
    {                                                                      \
        (void) argc, (void) argv;                                          \
        lock = how;                                                        \
        make_both(PTHREAD_MUTEX_##type, robust, protocol, shared);         \
        cross_globals(depth);                                              \
    }

#define NONE PTHREAD_PRIO_NONE
#define PI PTHREAD_PRIO_INHERIT
CROSS(normal, NORMAL, 0, NONE, 0, 1, pthread_mutex_lock)
CROSS(recursive, RECURSIVE, 0, NONE, 0, 1, pthread_mutex_lock)
CROSS(recursive_thrice, RECURSIVE, 0, NONE, 0, 3, pthread_mutex_lock)
CROSS(errorcheck, ERRORCHECK, 0, NONE, 0, 1, pthread_mutex_lock)
CROSS(adaptive, ADAPTIVE_NP, 0, NONE, 0, 1, pthread_mutex_lock)
CROSS(timed, NORMAL, 0, NONE, 0, 1, lock_within_an_hour)
CROSS(clocklock, NORMAL, 0, NONE, 0, 1, lock_within_an_hour_steadily)
CROSS(robust, NORMAL, 1, NONE, 0, 1, pthread_mutex_lock)
CROSS(robust_recursive, RECURSIVE, 1, NONE, 0, 2, pthread_mutex_lock)
CROSS(robust_timed, NORMAL, 1, NONE, 0, 1, lock_within_an_hour)
CROSS(pi_race, NORMAL, 0, PI, 0, 1, pthread_mutex_lock)
CROSS(pshared, NORMAL, 0, NONE, 1, 1, pthread_mutex_lock)

/* The kernel answers EDEADLK to the thread that closes the cycle (b), and glibc parks it for
 * ever.  When both come at once, as in pi_race, both may be told so. */
static void pi(int argc, char **argv)
{
    (void) argc, (void) argv;
    one_by_one = 1;
    make_both(PTHREAD_MUTEX_NORMAL, 0, PI, 0);
    cross_globals(1);
}

static void pi_robust(int argc, char **argv)
{
    (void) argc, (void) argv;
    one_by_one = 1;
    make_both(PTHREAD_MUTEX_NORMAL, 1, PI, 0);
    cross_globals(1);
}

static void statically(int argc, char **argv)
{
    (void) argc, (void) argv;
    cross_and_start(&plain_first, &plain_second, 1);
}

static void unlocked_twice(int argc, char **argv)
{
    unlocked_too_often = 2;
    statically(argc, argv);
}

static void statically_typed(int argc, char **argv)
{
    (void) argc, (void) argv;
    cross_and_start(&nested_first, &nested_second, 1);
}

static void in_heap(int argc, char **argv)
{
    pthread_mutex_t *two = calloc(2, sizeof *two);
    (void) argc, (void) argv;
    cross_and_start(&two[0], &two[1], 1);
}

static void on_stack(int argc, char **argv)
{
    pthread_mutex_t two[2];
    (void) argc, (void) argv;
    make(&two[0], PTHREAD_MUTEX_NORMAL, 0, NONE, 0);
    make(&two[1], PTHREAD_MUTEX_NORMAL, 0, NONE, 0);
    cross_and_start(&two[0], &two[1], 1);
    scene_idle(); /* never leaves the frame that the locks are in */
}

/* accounts[0].lock and accounts[3].lock: names with an offset into an array of structures. */
static void in_array(int argc, char **argv)
{
    (void) argc, (void) argv;
    cross_and_start(&accounts[0].lock, &accounts[3].lock, 1);
}

static void *taker_of_both(void *argument)
{
    struct locker *self = argument;
    scene_name(self->name);
    pthread_mutex_lock(self->first);
    scene_hold();
    pthread_mutex_lock(self->first);
    return NULL;
}

static void relock(int type, int protocol)
{
    static struct locker self = { "a", &audit, NULL, 1 };
    make(&audit, type, 0, protocol, 0);
    scene_thread(taker_of_both, &self);
    scene_start(1);
}

static void self_normal(int argc, char **argv)
{
    (void) argc, (void) argv;
    relock(PTHREAD_MUTEX_NORMAL, NONE);
}

static void self_adaptive(int argc, char **argv)
{
    (void) argc, (void) argv;
    relock(PTHREAD_MUTEX_ADAPTIVE_NP, NONE);
}

static void self_pi(int argc, char **argv)
{
    (void) argc, (void) argv;
    relock(PTHREAD_MUTEX_NORMAL, PI);
}

/* The main thread of a program without any other thread. */
static void self_single(int argc, char **argv)
{
    (void) argc, (void) argv;
    pthread_mutex_lock(&plain_first);
    scene_ready();
    pthread_mutex_lock(&plain_first);
}

/* A number before the mutex, which makes the two look like a rwlock that a writer holds. */
static struct {
    long transfers;
    pthread_mutex_t lock;
} counted[2] = { { 2, PTHREAD_MUTEX_INITIALIZER }, { 2, PTHREAD_MUTEX_INITIALIZER } };

static void behind_number(int argc, char **argv)
{
    static struct locker two[2];
    (void) argc, (void) argv;
    cross(two, "a", "b", &counted[0].lock, &counted[1].lock, 1);
    scene_start(2);
}

/* The members' names are r0, r1, ...: each holds its lock and takes the next one's. */
struct link {
    int number;
    pthread_mutex_t *own, *next;
};

static void *link_of_ring(void *argument)
{
    struct link *self = argument;
    scene_name_number("r", self->number);
    pthread_mutex_lock(self->own);
    scene_hold();
    pthread_mutex_lock(self->next);
    return NULL;
}

static void ring(int argc, char **argv)
{
    int n = scene_number(argc, argv, 2, 12);
    pthread_mutex_t *locks = calloc(n, sizeof *locks);
    struct link *links = calloc(n, sizeof *links);
    for (int i = 0; i < n; i++) {
        links[i] = (struct link){ i, &locks[i], &locks[(i + 1) % n] };
        scene_thread(link_of_ring, &links[i]);
    }
    scene_start(n);
}

static void *victim(void *argument)
{
    int number = (int) (long) argument;
    scene_name_number("v", number);
    scene_hold();
    pthread_mutex_lock(number % 2 ? &audit : &accounts[0].lock);
    return NULL;
}

/* A cycle of two, and any number of threads v0, v1, ... queued behind either lock. */
static void victims(int argc, char **argv)
{
    int n = scene_number(argc, argv, 2, 20);
    static struct locker two[2];
    cross(two, "a", "b", &accounts[0].lock, &audit, 1);
    for (long i = 0; i < n; i++)
        scene_thread(victim, (void *) i);
    scene_start(n + 2);
}

/* The main thread joins a thread of the cycle: a victim too, as in most programs. */
static void joined(int argc, char **argv)
{
    static struct locker two[2];
    (void) argc, (void) argv;
    two[0] = (struct locker){ "a", &accounts[0].lock, &audit, 1 };
    two[1] = (struct locker){ "b", &audit, &accounts[0].lock, 1 };
    pthread_t a = scene_thread(locker, &two[0]);
    scene_thread(locker, &two[1]);
    scene_start(2);
    pthread_join(a, NULL);
}

/* Two cycles that have nothing to do with each other. */
static void two(int argc, char **argv)
{
    static struct locker one[2], other[2];
    (void) argc, (void) argv;
    cross(one, "a", "b", &accounts[0].lock, &audit, 1);
    cross(other, "c", "d", &plain_first, &plain_second, 1);
    scene_start(4);
}

/* Two processes, two process-shared mutexes in shared memory. */
static void processes(int argc, char **argv)
{
    int robust = scene_number(argc, argv, 2, 0);
    struct {
        scene_point held, go;
        pthread_mutex_t first, second;
    } *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    scene_require(shared != MAP_FAILED, "mmap");
    make(&shared->first, PTHREAD_MUTEX_NORMAL, robust, NONE, 1);
    make(&shared->second, PTHREAD_MUTEX_NORMAL, robust, NONE, 1);
    if (scene_fork() == 0) {
        scene_name("child");
        pthread_mutex_lock(&shared->second);
        scene_meet(&shared->held, 2);
        scene_wait(&shared->go, 1);
        pthread_mutex_lock(&shared->first);
    }
    pthread_mutex_lock(&shared->first);
    scene_meet(&shared->held, 2);
    scene_ready();
    scene_arrive(&shared->go);
    pthread_mutex_lock(&shared->second);
}

int main(int argc, char **argv)
{
    static const scene_entry scenes[] = {
        { "normal", normal },
        { "behind-number", behind_number },
        { "recursive", recursive },
        { "recursive-thrice", recursive_thrice },
        { "errorcheck", errorcheck },
        { "adaptive", adaptive },
        { "timed", timed },
        { "clocklock", clocklock },
        { "robust", robust },
        { "robust-recursive", robust_recursive },
        { "robust-timed", robust_timed },
        { "pi", pi },
        { "pi-robust", pi_robust },
        { "pi-race", pi_race },
        { "pshared", pshared },
        { "static", statically },
        { "unlocked-twice", unlocked_twice },
        { "static-typed", statically_typed },
        { "heap", in_heap },
        { "stack", on_stack },
        { "array", in_array },
        { "self", self_normal },
        { "self-adaptive", self_adaptive },
        { "self-pi", self_pi },
        { "self-single", self_single },
        { "ring", ring },
        { "victims", victims },
        { "joined", joined },
        { "two", two },
        { "processes", processes },
        { NULL, NULL },
    };
    return scene_main(scenes, argc, argv);
}
