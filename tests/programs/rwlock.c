/* Deadlocks of pthread rwlocks.  glibc records the writer, and only counts the readers. */
#include "scene.h"

static pthread_rwlock_t accounts = PTHREAD_RWLOCK_INITIALIZER;
static pthread_rwlock_t audit = PTHREAD_RWLOCK_INITIALIZER;
static pthread_rwlock_t writer_first = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
static pthread_mutex_t journal = PTHREAD_MUTEX_INITIALIZER;

static int write_within_an_hour(pthread_rwlock_t *lock)
{
    struct timespec when = scene_in_an_hour(CLOCK_REALTIME);
    return pthread_rwlock_timedwrlock(lock, &when);
}

static int read_within_an_hour(pthread_rwlock_t *lock)
{
    struct timespec when = scene_in_an_hour(CLOCK_REALTIME);
    return pthread_rwlock_timedrdlock(lock, &when);
}

SCENE_CROSS(writers, pthread_rwlock_wrlock(&accounts), pthread_rwlock_wrlock(&audit),
            pthread_rwlock_wrlock(&audit), pthread_rwlock_wrlock(&accounts))

/* Both hold for writing and want to read. */
SCENE_CROSS(writers_read, pthread_rwlock_wrlock(&accounts), pthread_rwlock_rdlock(&audit),
            pthread_rwlock_wrlock(&audit), pthread_rwlock_rdlock(&accounts))

SCENE_CROSS(timed, pthread_rwlock_wrlock(&accounts), write_within_an_hour(&audit),
            pthread_rwlock_wrlock(&audit), read_within_an_hour(&accounts))

/* Both hold for reading and want to write: nothing records them. */
SCENE_CROSS(readers, pthread_rwlock_rdlock(&accounts), pthread_rwlock_wrlock(&audit),
            pthread_rwlock_rdlock(&audit), pthread_rwlock_wrlock(&accounts))

SCENE_CROSS(with_mutex, pthread_rwlock_wrlock(&accounts), pthread_mutex_lock(&journal),
            pthread_mutex_lock(&journal), pthread_rwlock_wrlock(&accounts))

SCENE_CROSS(reader_with_mutex, pthread_rwlock_rdlock(&accounts), pthread_mutex_lock(&journal),
            pthread_mutex_lock(&journal), pthread_rwlock_wrlock(&accounts))

static void read_once(pthread_rwlock_t *lock)
{
    pthread_rwlock_rdlock(lock);
    pthread_rwlock_unlock(lock);
}

/* Has read under both locks, and holds neither. */
static void *innocent(void *unused)
{
    scene_name("innocent");
    read_once(&accounts);
    read_once(&audit);
    scene_hold();
    scene_idle();
    return unused;
}

static void readers_and_innocent(int argc, char **argv)
{
    (void) argc, (void) argv;
    scene_thread(innocent, NULL);
    scene_wait(&scene_held, 1);
    scene_thread(readers_a, NULL);
    scene_thread(readers_b, NULL);
    scene_start(3);
}

static pid_t queued_writer;

static void *reader_again(void *unused)
{
    scene_name("reader");
    pthread_rwlock_rdlock(&writer_first);
    scene_hold();
    scene_until_futex(queued_writer);
    pthread_rwlock_rdlock(&writer_first);
    return unused;
}

static void *writer(void *unused)
{
    scene_name("writer");
    queued_writer = scene_tid();
    scene_hold();
    pthread_rwlock_wrlock(&writer_first);
    return unused;
}

/* A reader reads again behind a queued writer, which waits for that very reader. */
static void relock(int argc, char **argv)
{
    (void) argc, (void) argv;
    scene_thread(reader_again, NULL);
    scene_wait(&scene_held, 1);
    scene_thread(writer, NULL);
    scene_start(2);
}

static void *upgrader(void *unused)
{
    scene_name("a");
    pthread_rwlock_rdlock(&accounts);
    scene_hold();
    pthread_rwlock_wrlock(&accounts);
    return unused;
}

static void upgrade(int argc, char **argv)
{
    (void) argc, (void) argv;
    scene_thread(upgrader, NULL);
    scene_start(1);
}

static void *victim(void *argument)
{
    int number = (int) (long) argument;
    scene_name_number("v", number);
    scene_hold();
    if (number % 2)
        pthread_rwlock_rdlock(&accounts);
    else
        pthread_rwlock_wrlock(&audit);
    return NULL;
}

static void victims(int argc, char **argv)
{
    int n = scene_number(argc, argv, 2, 20);
    scene_thread(writers_a, NULL);
    scene_thread(writers_b, NULL);
    scene_wait(&scene_held, 2);
    for (long i = 0; i < n; i++)
        scene_thread(victim, (void *) i);
    scene_start(2 + n);
}

static void shared(int argc, char **argv)
{
    pthread_rwlockattr_t attributes;
    pthread_rwlockattr_init(&attributes);
    pthread_rwlockattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_rwlock_init(&accounts, &attributes);
    pthread_rwlock_init(&audit, &attributes);
    writers(argc, argv);
}

/* Which lock of a table it is, is computed, and computed anew to release it. */

static struct entry {
    long quantity;
    pthread_rwlock_t lock;
} table[8];
static volatile long moved;

static void __attribute__((noinline)) move_goods(long from, long to)
{
    pthread_rwlock_rdlock(&table[from].lock);
    scene_hold();
    moved = table[from].quantity;
    pthread_rwlock_wrlock(&table[to].lock);
    table[to].quantity += moved;
    pthread_rwlock_unlock(&table[to].lock);
    pthread_rwlock_unlock(&table[from].lock);
}

static void *mover(void *number)
{
    long from = (long) number;
    scene_name(from == 3 ? "a" : "b");
    move_goods(from, 8 - from);
    return NULL;
}

static void table_of_locks(int argc, char **argv)
{
    (void) argc, (void) argv;
    for (int i = 0; i < 8; i++)
        pthread_rwlock_init(&table[i].lock, NULL);
    scene_thread(mover, (void *) 3);
    scene_thread(mover, (void *) 5);
    scene_start(2);
}

/* A lock in an object with functions by which to take and release it: "a" took it by itself and
 * gave it back by one of them, "sleeper" took it by one of them. */

struct object {
    void (*take)(struct object *), (*give)(struct object *);
    pthread_rwlock_t lock;
};

static void take(struct object *object)
{
    pthread_rwlock_rdlock(&object->lock);
}

static void give(struct object *object)
{
    pthread_rwlock_unlock(&object->lock);
}

static struct object *volatile object;

static __attribute__((noinline)) void visit(struct object *visited)
{
    pthread_rwlock_rdlock(&visited->lock);
    moved++;
    visited->give(visited);
    scene_hold();
    pthread_mutex_lock(&journal);
    moved = (long) visited;
}

/* The same by a list of what is to be cleaned up, and by a guard that forgets the lock. */

static struct cleanup {
    void (*run)(struct object *);
    struct object *object;
    pthread_rwlock_t *lock;
} *volatile pending;

static void run_cleanup(struct cleanup *cleanup)
{
    if (cleanup->run)
        cleanup->run(cleanup->object);
    else
        pthread_rwlock_unlock(cleanup->lock);
    *cleanup = (struct cleanup) { .run = NULL };
}

static __attribute__((noinline)) void visit_with_cleanup(struct object *visited, int by_function)
{
    struct cleanup *cleanup = calloc(1, sizeof *cleanup);
    pthread_rwlock_rdlock(&visited->lock);
    cleanup->run = by_function ? visited->give : NULL;
    cleanup->object = visited;
    cleanup->lock = &visited->lock;
    pending = cleanup;
    moved++;
    run_cleanup(pending);
    scene_hold();
    pthread_mutex_lock(&journal);
    moved = (long) visited;
}

static const char *way;

static void *visitor(void *unused)
{
    scene_name("a");
    if (way)
        visit_with_cleanup(object, strcmp(way, "function") == 0);
    else
        visit(object);
    return unused;
}

static void *object_writer(void *unused)
{
    scene_name("b");
    pthread_mutex_lock(&journal);
    scene_hold();
    pthread_rwlock_wrlock(&object->lock);
    return unused;
}

static void *sleeper(void *unused)
{
    scene_name("sleeper");
    object->take(object);
    scene_hold();
    sleep(SCENE_SECONDS);
    return unused;
}

static void by_pointers(int argc, char **argv)
{
    way = argc > 2 ? argv[2] : NULL;
    struct object *made = calloc(1, sizeof *made);
    made->take = take;
    made->give = give;
    pthread_rwlock_init(&made->lock, NULL);
    object = made;
    scene_thread(sleeper, NULL);
    scene_thread(visitor, NULL);
    scene_thread(object_writer, NULL);
    scene_start(3);
}

int main(int argc, char **argv)
{
    static const scene_entry scenes[] = {
        { "writers", writers },
        { "writers-read", writers_read },
        { "timed", timed },
        { "readers", readers },
        { "readers-innocent", readers_and_innocent },
        { "with-mutex", with_mutex },
        { "reader-with-mutex", reader_with_mutex },
        { "relock", relock },
        { "upgrade", upgrade },
        { "victims", victims },
        { "pshared", shared },
        { "table", table_of_locks },
        { "by-pointers", by_pointers },
        { NULL, NULL },
    };
    return scene_main(scenes, argc, argv);
}
