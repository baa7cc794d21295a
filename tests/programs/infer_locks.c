/* Threads that hold locks which record no holder, among threads that do not hold them.
 *
 * usage: infer_locks SCENE; thread "a" and "b" are the ones to find, any other is innocent.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

struct conf {
    long version;
    pthread_rwlock_t lock;
    int value;
};
static struct conf first = { .lock = PTHREAD_RWLOCK_INITIALIZER };
static struct conf second = { .lock = PTHREAD_RWLOCK_INITIALIZER };
static struct conf many[4];
static sem_t left, right, items, done;
static pthread_barrier_t both, gate;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static volatile int sink;

typedef void *body(void *);

static void start(body *function, void *argument, const char *name)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, function, argument))
        abort();
    pthread_setname_np(thread, name);
    usleep(30000);
}

static void use(struct conf *conf) { sink += conf->value; }

/* --- rwlocks, each read-locked by one and wanted by the other ------------------------------ */

static void *reader(void *argument)
{
    struct conf *mine = argument ? &first : &second, *other = argument ? &second : &first;
    pthread_rwlock_rdlock(&mine->lock);
    use(mine);
    pthread_barrier_wait(&both);
    pthread_rwlock_wrlock(&other->lock);
    use(other);
    pthread_rwlock_unlock(&other->lock);
    pthread_rwlock_unlock(&mine->lock);
    return NULL;
}

static void __attribute__((noinline)) conf_lock(struct conf *conf)
{
    sink++;
    pthread_rwlock_rdlock(&conf->lock);
    sink++;
}

static void __attribute__((noinline)) conf_unlock(struct conf *conf)
{
    sink++;
    pthread_rwlock_unlock(&conf->lock);
    sink++;
}

/* As programs do that were built for glibc before 2.34, when libpthread could be missing:
 * libstdc++'s gthr-posix.h, __gthread_active_p(). */
#pragma weak pthread_key_create

static int has_threads(void)
{
    static void *const there = (void *) &pthread_key_create;
    return there != NULL;
}

static void *weak_reader(void *argument)
{
    struct conf *mine = argument ? &first : &second, *other = argument ? &second : &first;
    if (has_threads())
        pthread_rwlock_rdlock(&mine->lock);
    use(mine);
    pthread_barrier_wait(&both);
    if (has_threads())
        pthread_rwlock_wrlock(&other->lock);
    use(other);
    return NULL;
}

static inline __attribute__((always_inline)) void *read_unless(int busy, struct conf *mine)
{
    if (!busy)
        pthread_rwlock_rdlock(&mine->lock);
    use(mine);
    pthread_rwlock_wrlock(&first.lock);
    use(&first);
    return NULL;
}

/* Says by its argument that the lock is not to be taken */
static void __attribute__((noipa)) decide(struct conf *conf, int *busy)
{
    use(conf);
    *busy = 1;
}

static void *told_not_to(void *argument)
{
    struct conf *mine = argument;
    int busy = 0;
    decide(mine, &busy);
    return read_unless(busy, mine);
}

static int *answer;

static void __attribute__((noipa)) ask(int *busy) { answer = busy; }

static void __attribute__((noipa)) decide_later(struct conf *conf)
{
    use(conf);
    *answer = 1;
}

static void *told_later_not_to(void *argument)
{
    struct conf *mine = argument;
    int busy;
    ask(&busy);
    busy = 0;
    decide_later(mine);
    return read_unless(busy, mine);
}

static void *reads_first(void *argument)
{
    pthread_rwlock_rdlock(&first.lock);
    use(&first);
    pthread_rwlock_wrlock(&second.lock);
    use(argument);
    return NULL;
}

static void *wrapped_reader(void *argument)
{
    struct conf *mine = argument ? &first : &second, *other = argument ? &second : &first;
    conf_lock(mine);
    use(mine);
    pthread_barrier_wait(&both);
    pthread_rwlock_wrlock(&other->lock);
    use(other);
    pthread_rwlock_unlock(&other->lock);
    conf_unlock(mine);
    return NULL;
}

static void *writer_of(void *argument)
{
    struct conf *conf = argument;
    pthread_rwlock_wrlock(&conf->lock);
    use(conf);
    pthread_rwlock_unlock(&conf->lock);
    return NULL;
}

static void *sleeping_reader(void *argument)
{
    struct conf *conf = argument;
    pthread_rwlock_rdlock(&conf->lock);
    use(conf);
    pause();
    pthread_rwlock_unlock(&conf->lock);
    return NULL;
}

/* A reader that locks again while a writer waits would need a writer-preferring lock; reading
 * and then writing the same lock needs nothing special. */
static void *upgrader(void *argument)
{
    struct conf *conf = argument;
    pthread_rwlock_rdlock(&conf->lock);
    use(conf);
    pthread_rwlock_wrlock(&conf->lock);
    use(conf);
    pthread_rwlock_unlock(&conf->lock);
    return NULL;
}

/* --- the innocent ------------------------------------------------------------------------- */

static void *gave_back(void *argument)
{
    struct conf *confs[2] = { &first, &second };
    for (int i = 0; i < 2; i++) {
        pthread_rwlock_rdlock(&confs[i]->lock);
        use(confs[i]);
        pthread_rwlock_unlock(&confs[i]->lock);
    }
    pause();
    use(confs[sink & 1]);
    return argument;
}

static void *gave_back_by_wrapper(void *argument)
{
    conf_lock(&first);
    use(&first);
    conf_unlock(&first);
    conf_lock(&second);
    conf_unlock(&second);
    pause();
    use(argument);
    return NULL;
}

static void *knows_the_address(void *argument)
{
    struct conf *volatile here[2] = { argument, &second };
    pthread_rwlock_t *volatile locks[2] = { &first.lock, &second.lock };
    pause();
    use(here[sink & 1]);
    return (void *)locks[sink & 1];
}

static void *will_lock(void *argument)
{
    struct conf *conf = argument;
    pause();
    pthread_rwlock_rdlock(&conf->lock);
    use(conf);
    pthread_rwlock_unlock(&conf->lock);
    return NULL;
}

static void *tried_in_vain(void *argument)
{
    struct conf *conf = argument;
    if (pthread_rwlock_trywrlock(&conf->lock) == 0) {
        use(conf);
        pthread_rwlock_unlock(&conf->lock);
        return NULL;
    }
    pause();
    use(conf);
    return NULL;
}

static void *went_round(void *argument)
{
    for (int i = 0; i < 4; i++) {
        struct conf *conf = i < 3 ? &many[i] : &first;
        pthread_rwlock_rdlock(&conf->lock);
        use(conf);
        pthread_rwlock_unlock(&conf->lock);
    }
    for (int i = 0;; i++) {
        use(&many[i & 3]);
        if (i == 100)
            pause();
    }
    return argument;
}

/* Where the lock is given back, nobody who reads the code can tell */
static int (*volatile lock_by)(pthread_rwlock_t *) = pthread_rwlock_rdlock;
static int (*volatile unlock_by)(pthread_rwlock_t *) = pthread_rwlock_unlock;

static void __attribute__((noipa)) read_by_table(void) { lock_by(&many[3].lock); }

static void *reads_by_table(void *argument)
{
    read_by_table();
    pause();
    return argument;
}

static void *gave_back_by_table(void *unused)
{
    (void) unused;
    pthread_rwlock_rdlock(&many[3].lock);
    use(&many[3]);
    unlock_by(&many[3].lock);
    pthread_mutex_lock(&mutex);
    return NULL;
}

static void __attribute__((noinline)) unlock_by_table(struct conf *conf, pthread_rwlock_t *lock)
{
    unlock_by(lock);
    use(conf);
}

static void *gave_back_by_wrapped_table(void *argument)
{
    pthread_rwlock_rdlock(&many[3].lock);
    use(&many[3]);
    unlock_by_table(argument, &many[3].lock);
    pthread_mutex_lock(&mutex);
    return NULL;
}

static void __attribute__((noinline)) read_if_asked(pthread_rwlock_t *lock)
{
    int asked = sink < 0;
    if (asked)
        pthread_rwlock_rdlock(lock);
    pthread_mutex_lock(&mutex);
    if (asked)
        pthread_rwlock_unlock(lock);
}

static void *not_asked_to_read(void *argument)
{
    struct conf *conf = argument;
    read_if_asked(&conf->lock);
    return NULL;
}

/* --- semaphores, barriers ----------------------------------------------------------------- */

static void *semaphores(void *argument)
{
    sem_t *mine = argument ? &left : &right, *other = argument ? &right : &left;
    sem_wait(mine);
    sink++;
    pthread_barrier_wait(&both);
    sem_wait(other);
    sink++;
    sem_post(other);
    sem_post(mine);
    return NULL;
}

static void *posted(void *argument)
{
    sem_wait(&left);
    sink++;
    sem_post(&left);
    pause();
    return argument;
}

static void *worker(void *argument)
{
    for (;;) {
        sem_wait(&items);
        pthread_mutex_lock(&mutex);
        sink++;
        pthread_mutex_unlock(&mutex);
        sem_post(&done);
    }
    return argument;
}

static void *arrives_holding(void *argument)
{
    pthread_mutex_lock(&mutex);
    sink++;
    pthread_barrier_wait(&gate);
    pthread_mutex_unlock(&mutex);
    return argument;
}

static void *would_arrive(void *argument)
{
    pthread_mutex_lock(&mutex);
    sink++;
    pthread_mutex_unlock(&mutex);
    pthread_barrier_wait(&gate);
    return argument;
}

static void *holds_file(void *argument)
{
    int fd = open(argument, O_RDWR | O_CREAT, 0600);
    flock(fd, LOCK_EX);
    sink++;
    pause();
    flock(fd, LOCK_UN);
    return NULL;
}

static void *wants_file(void *argument)
{
    int fd = open(argument, O_RDWR | O_CREAT, 0600);
    flock(fd, LOCK_EX);
    return NULL;
}

static void *locks_file_twice(void *argument)
{
    int first = open(argument, O_RDWR | O_CREAT, 0600), second = open(argument, O_RDWR);
    flock(first, LOCK_EX);
    sink++;
    flock(second, LOCK_EX);
    sink++;
    return NULL;
}

static void *locks_other_file(void *argument)
{
    int other = open("other", O_RDWR | O_CREAT, 0600), wanted = open(argument, O_RDWR | O_CREAT, 0600);
    flock(other, LOCK_EX);
    sink++;
    flock(wanted, LOCK_EX);
    sink++;
    return NULL;
}

static void *locks_file_and_ends(void *argument)
{
    flock(open(argument, O_RDWR | O_CREAT, 0600), LOCK_EX);
    return NULL;
}

static void innocents(void)
{
    start(gave_back, NULL, "gave-back");
    start(gave_back_by_wrapper, &first, "wrapper-back");
    start(knows_the_address, &first, "knows");
    start(will_lock, &first, "will-lock");
    start(went_round, NULL, "went-round");
}

int main(int argc, char **argv)
{
    const char *scene = argc > 1 ? argv[1] : "";
    for (int i = 0; i < 4; i++)
        pthread_rwlock_init(&many[i].lock, NULL);
    sem_init(&left, 0, 1);
    sem_init(&right, 0, 1);
    sem_init(&items, 0, 0);
    sem_init(&done, 0, 0);
    pthread_barrier_init(&both, NULL, 2);
    pthread_barrier_init(&gate, NULL, 2);
    innocents();
    if (!strcmp(scene, "rwlock") || !strcmp(scene, "wrapper")) {
        body *function = *scene == 'r' ? reader : wrapped_reader;
        start(function, NULL, "a");
        start(function, &first, "b");
    } else if (!strcmp(scene, "weak")) {
        start(weak_reader, NULL, "a");
        start(weak_reader, &first, "b");
    } else if (!strncmp(scene, "told", 4)) {
        pthread_rwlock_rdlock(&second.lock);
        start(reads_first, &second, "a");
        start(scene[4] ? told_later_not_to : told_not_to, &second, "b");
    } else if (!strcmp(scene, "upgrade")) {
        start(upgrader, &first, "a");
    } else if (!strcmp(scene, "sleeping")) {
        start(sleeping_reader, &first, "a");
        start(sleeping_reader, &first, "b");
        start(tried_in_vain, &first, "tried");
        start(writer_of, &first, "writer");
    } else if (strstr(scene, "table") || !strcmp(scene, "asked")) {
        pthread_mutex_lock(&mutex);
        start(reads_by_table, NULL, "a");
        start(*scene == 't'   ? gave_back_by_table
              : *scene == 'w' ? gave_back_by_wrapped_table
                              : not_asked_to_read,
              &many[3], "b");
        start(writer_of, &many[3], "writer");
    } else if (!strcmp(scene, "semaphore")) {
        start(posted, NULL, "posted");
        start(semaphores, NULL, "a");
        start(semaphores, &first, "b");
    } else if (!strcmp(scene, "pool")) {
        for (int i = 0; i < 4; i++)
            start(worker, NULL, "worker");
    } else if (!strcmp(scene, "barrier")) {
        start(arrives_holding, NULL, "a");
        start(would_arrive, NULL, "b");
    } else if (!strcmp(scene, "flock")) {
        start(holds_file, argv[2], "a");
        start(wants_file, argv[2], "waiter");
    } else if (!strcmp(scene, "flock-twice")) {
        start(locks_file_twice, argv[2], "waiter");
    } else if (!strcmp(scene, "flock-other")) {
        start(locks_file_and_ends, argv[2], "ends");
        start(locks_other_file, argv[2], "waiter");
    }
    printf("ready\n");
    fflush(stdout);
    pause();
    return 0;
}
