/* Cycles through locks of different kinds, several findings at once, and many victims. */
#include "scene.h"

#include <semaphore.h>

static pthread_mutex_t accounts = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t audit = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t journal = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t prices = PTHREAD_RWLOCK_INITIALIZER;
static pthread_rwlock_t stocks = PTHREAD_RWLOCK_INITIALIZER;
static sem_t slots;
static int queue[2]; /* a pipe that nobody writes to */

SCENE_CROSS(mutexes, pthread_mutex_lock(&accounts), pthread_mutex_lock(&audit),
            pthread_mutex_lock(&audit), pthread_mutex_lock(&accounts))

static void *rw_c(void *unused)
{
    scene_name("c");
    pthread_rwlock_wrlock(&prices);
    scene_hold();
    pthread_rwlock_wrlock(&stocks);
    return unused;
}

static void *rw_d(void *unused)
{
    scene_name("d");
    pthread_rwlock_wrlock(&stocks);
    scene_hold();
    pthread_rwlock_wrlock(&prices);
    return unused;
}

/* main -> join -> w1 -> audit -> w2 -> accounts -> main */

static void *joined(void *unused)
{
    scene_name("w1");
    scene_hold();
    pthread_mutex_lock(&audit);
    return unused;
}

static void *closer(void *unused)
{
    scene_name("w2");
    pthread_mutex_lock(&audit);
    scene_hold();
    pthread_mutex_lock(&accounts);
    return unused;
}

static void join_and_two_mutexes(int argc, char **argv)
{
    (void) argc, (void) argv;
    pthread_mutex_lock(&accounts);
    pthread_t w1 = scene_thread(joined, NULL);
    scene_thread(closer, NULL);
    scene_start(2);
    pthread_join(w1, NULL);
}

/* main -> join -> a -> vfork -> child -> accounts -> main: the child has its parent's memory */

static void *spawner(void *unused)
{
    scene_name("a");
    scene_hold();
    if (vfork() == 0) {
        scene_mortal();
        scene_name("child");
        scene_note("target", getpid()); /* no debugger can stop who waits in vfork() */
        pthread_mutex_lock(&accounts);
        _exit(0);
    }
    return unused;
}

static void vfork_child(int argc, char **argv)
{
    (void) argc, (void) argv;
    pthread_mutex_lock(&accounts);
    pthread_t a = scene_thread(spawner, NULL);
    scene_start(1);
    pthread_join(a, NULL);
}

/* a -> rwlock -> b -> semaphore -> c -> mutex -> a */

static void *three_a(void *unused)
{
    scene_name("a");
    pthread_mutex_lock(&accounts);
    scene_hold();
    pthread_rwlock_wrlock(&prices);
    return unused;
}

static void *three_b(void *unused)
{
    scene_name("b");
    pthread_rwlock_wrlock(&prices);
    scene_hold();
    sem_wait(&slots);
    return unused;
}

static void *three_c(void *unused)
{
    scene_name("c");
    sem_wait(&slots);
    scene_hold();
    pthread_mutex_lock(&accounts);
    return unused;
}

static void three_kinds(int argc, char **argv)
{
    (void) argc, (void) argv;
    sem_init(&slots, 0, 1);
    scene_thread(three_a, NULL);
    scene_thread(three_b, NULL);
    scene_thread(three_c, NULL);
    scene_start(3);
}

/* A cycle of mutexes, one of rwlocks, and a chain behind the reader of an empty pipe. */

static void *root(void *unused)
{
    char byte;
    scene_name("root");
    pthread_mutex_lock(&journal);
    scene_hold();
    if (read(queue[0], &byte, 1) < 0)
        _exit(1);
    return unused;
}

static void *behind_root(void *argument)
{
    scene_name_number("v", (int) (long) argument);
    scene_hold();
    pthread_mutex_lock(&journal);
    return NULL;
}

static void two_cycles_and_chain(int argc, char **argv)
{
    (void) argc, (void) argv;
    scene_require(pipe(queue) == 0, "pipe");
    scene_thread(mutexes_a, NULL);
    scene_thread(mutexes_b, NULL);
    scene_thread(rw_c, NULL);
    scene_thread(rw_d, NULL);
    scene_thread(root, NULL);
    scene_wait(&scene_held, 5);
    for (long i = 0; i < 5; i++)
        scene_thread(behind_root, (void *) i);
    scene_start(10);
}

/* v0 holds the journal and waits for the cycle; v1 waits for the journal; v2 joins v1. */

static pthread_t v1;

static void *first_victim(void *unused)
{
    scene_name("v0");
    pthread_mutex_lock(&journal);
    scene_hold();
    pthread_mutex_lock(&accounts);
    return unused;
}

static void *second_victim(void *unused)
{
    scene_name("v1");
    scene_hold();
    pthread_mutex_lock(&journal);
    return unused;
}

static void *third_victim(void *unused)
{
    scene_name("v2");
    scene_hold();
    pthread_join(v1, NULL);
    return unused;
}

static void victims_of_victims(int argc, char **argv)
{
    (void) argc, (void) argv;
    scene_thread(mutexes_a, NULL);
    scene_thread(mutexes_b, NULL);
    scene_thread(first_victim, NULL);
    v1 = scene_thread(second_victim, NULL);
    scene_thread(third_victim, NULL);
    scene_start(5);
}

/* Victims at mutexes, at a rwlock that a victim holds, and joining. */

static void *any_victim(void *argument)
{
    int number = (int) (long) argument;
    scene_name_number("v", number);
    if (number == 0)
        pthread_rwlock_wrlock(&prices);
    scene_hold();
    if (number == 0 || number % 3 == 1)
        pthread_mutex_lock(&accounts);
    else if (number % 3 == 2)
        pthread_mutex_lock(&audit);
    else
        pthread_rwlock_rdlock(&prices);
    return NULL;
}

static void crowd(int argc, char **argv)
{
    int n = scene_number(argc, argv, 2, 300);
    scene_thread(mutexes_a, NULL);
    scene_thread(mutexes_b, NULL);
    scene_wait(&scene_held, 2);
    for (long i = 0; i < n; i++)
        scene_thread(any_victim, (void *) i);
    scene_start(2 + n);
}

int main(int argc, char **argv)
{
    static const scene_entry scenes[] = {
        { "mutexes", mutexes },
        { "join-and-two-mutexes", join_and_two_mutexes },
        { "vfork-child", vfork_child },
        { "three-kinds", three_kinds },
        { "two-cycles-and-chain", two_cycles_and_chain },
        { "victims-of-victims", victims_of_victims },
        { "crowd", crowd },
        { NULL, NULL },
    };
    return scene_main(scenes, argc, argv);
}
