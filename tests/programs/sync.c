/* Deadlocks of everything else in glibc: join, barrier, once, semaphore, condition variable,
 * stdio's locks, malloc's, and a lock made by hand. */
#include "scene.h"
#include "hand_lock.h"

#include <limits.h>
#include <linux/futex.h>
#include <semaphore.h>

static pthread_mutex_t accounts = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t audit = PTHREAD_MUTEX_INITIALIZER;

/* join: three, since two that join each other are told EDEADLK */

static pthread_t joiners[3];

static void *joiner(void *argument)
{
    int number = (int) (long) argument;
    scene_name_number("j", number);
    scene_hold();
    pthread_join(joiners[(number + 1) % 3], NULL);
    return NULL;
}

static void join_ring(int argc, char **argv)
{
    (void) argc, (void) argv;
    for (long i = 0; i < 3; i++)
        joiners[i] = scene_thread(joiner, (void *) i);
    scene_start(3);
}

static void *worker(void *unused)
{
    scene_name("worker");
    scene_hold();
    pthread_mutex_lock(&accounts);
    return unused;
}

static void join_mutex(int argc, char **argv)
{
    (void) argc, (void) argv;
    pthread_t thread = scene_thread(worker, NULL);
    pthread_mutex_lock(&accounts);
    scene_start(1);
    pthread_join(thread, NULL);
}

/* join as in a C library whose threads are not joined by their tid: any word of the descriptor
 * may be the one that the exit clears.  Here it is padding that nothing uses. */

static void join_state(int argc, char **argv)
{
    (void) argc, (void) argv;
    pthread_t thread = scene_thread(worker, NULL);
    pthread_mutex_lock(&accounts);
    scene_start(1);
    int *state = (int *) thread + 0x2a4 / sizeof(int);
    *state = 1;
    syscall(SYS_futex, state, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 1, NULL, NULL, -1);
}

/* barrier: b would arrive, but needs the mutex before */

static pthread_barrier_t barrier;

SCENE_CROSS(barrier_cross, pthread_mutex_lock(&accounts), pthread_barrier_wait(&barrier),
            (void) 0, (pthread_mutex_lock(&accounts), pthread_barrier_wait(&barrier)))

static void barrier_mutex(int argc, char **argv)
{
    pthread_barrier_init(&barrier, NULL, 2);
    barrier_cross(argc, argv);
}

/* A barrier for one more than there are, with everybody else behind those who wait at it. */
static void *at_barrier(void *unused)
{
    scene_name("a");
    scene_hold();
    pthread_barrier_wait(&barrier);
    return unused;
}

static void barrier_short(int argc, char **argv)
{
    (void) argc, (void) argv;
    pthread_barrier_init(&barrier, NULL, 2);
    pthread_t thread = scene_thread(at_barrier, NULL);
    scene_start(1);
    pthread_join(thread, NULL);
}

/* once */

static pthread_once_t config = PTHREAD_ONCE_INIT, locale = PTHREAD_ONCE_INIT;
static pthread_once_t itself = PTHREAD_ONCE_INIT;

static void nothing(void)
{
}

static void make_config(void)
{
    scene_hold();
    pthread_once(&locale, nothing);
}

static void make_locale(void)
{
    scene_hold();
    pthread_once(&config, nothing);
}

static void *configurer(void *unused)
{
    scene_name("a");
    pthread_once(&config, make_config);
    return unused;
}

static void *localizer(void *unused)
{
    scene_name("b");
    pthread_once(&locale, make_locale);
    return unused;
}

static void once(int argc, char **argv)
{
    (void) argc, (void) argv;
    scene_thread(configurer, NULL);
    scene_thread(localizer, NULL);
    scene_start(2);
}

/* The two again, on stacks that lie side by side, with no guard page between them. */
static void once_abreast(int argc, char **argv)
{
    static char stacks[2][1 << 16] __attribute__((aligned(4096)));
    void *(*bodies[])(void *) = { configurer, localizer };
    pthread_attr_t attributes;
    pthread_t thread;

    (void) argc, (void) argv;
    pthread_attr_init(&attributes);
    for (int index = 0; index < 2; index++) {
        pthread_attr_setstack(&attributes, stacks[index], sizeof stacks[index]);
        scene_require(!pthread_create(&thread, &attributes, bodies[index], NULL), "pthread_create");
    }
    scene_start(2);
}

static void make_itself(void)
{
    scene_hold();
    pthread_once(&itself, nothing);
}

static void *recurser(void *unused)
{
    scene_name("a");
    pthread_once(&itself, make_itself);
    return unused;
}

static void once_self(int argc, char **argv)
{
    (void) argc, (void) argv;
    scene_thread(recurser, NULL);
    scene_start(1);
}

/* semaphores used as locks */

static sem_t left, right;

SCENE_CROSS(sem_cross, sem_wait(&left), sem_wait(&right), sem_wait(&right), sem_wait(&left))

static void semaphores(int argc, char **argv)
{
    sem_init(&left, 0, 1);
    sem_init(&right, 0, 1);
    sem_cross(argc, argv);
}

/* Two permits.  One who has one wants another, and posts both in the end. */
static void __attribute__((noinline)) with_permit(void (*work)(void))
{
    sem_wait(&left);
    if (work)
        work();
    sem_post(&left);
}

static void hold_and_take_another(void)
{
    scene_hold();
    with_permit(NULL);
}

static void *greedy(void *name)
{
    scene_name(name);
    with_permit(hold_and_take_another);
    return NULL;
}

static void permits_used_up(int argc, char **argv)
{
    (void) argc, (void) argv;
    sem_init(&left, 0, 2);
    scene_thread(greedy, "a");
    scene_thread(greedy, "b");
    scene_start(2);
}

static void semaphore_self(int argc, char **argv)
{
    (void) argc, (void) argv;
    sem_init(&left, 0, 1);
    scene_thread(greedy, "a");
    scene_start(1);
}

/* The other permit is with one whose code shows neither that it took it nor that it posts it. */
static int (*volatile take)(sem_t *) = sem_wait, (*volatile give)(sem_t *) = sem_post;

static void __attribute__((noinline)) take_one(void)
{
    take(&left);
}

static void *keeper(void *unused)
{
    scene_name("keeper");
    take_one();
    scene_hold();
    sleep(SCENE_SECONDS);
    give(&left);
    return unused;
}

static void permit_elsewhere(int argc, char **argv)
{
    (void) argc, (void) argv;
    sem_init(&left, 0, 2);
    scene_thread(greedy, "a");
    scene_thread(keeper, NULL);
    scene_start(2);
}

/* Not a deadlock: who sleeps posts it in the end, by a pointer that an optimised function jumps
 * through. */
static pthread_mutex_t desk = PTHREAD_MUTEX_INITIALIZER;

static void *has_desk(void *unused)
{
    scene_name("a");
    pthread_mutex_lock(&desk);
    scene_hold();
    sem_wait(&left);
    return unused;
}

static void *wants_desk(void *unused)
{
    scene_name("b");
    scene_hold();
    pthread_mutex_lock(&desk);
    sem_post(&left);
    return unused;
}

static int __attribute__((noinline)) sleep_and_give(void)
{
    scene_hold();
    sleep(3600);
    return give(&left);
}

static int __attribute__((noinline)) report_and_give(void)
{
    int given = give(&left);
    return given + 1;
}

static void *sleeper(void *further_down)
{
    scene_name("sleeper");
    if (!further_down)
        return sleep_and_give() ? NULL : &left;
    scene_hold();
    sleep(3600);
    return report_and_give() > 1 ? NULL : &left;
}

static void post_with(void *further_down)
{
    sem_init(&left, 0, 0);
    scene_thread(has_desk, NULL);
    scene_thread(wants_desk, NULL);
    scene_thread(sleeper, further_down);
    scene_start(3);
}

static void posts_by_pointer(int argc, char **argv)
{
    (void) argc, (void) argv;
    post_with(NULL);
}

static void posts_further_down(int argc, char **argv)
{
    (void) argc, (void) argv;
    post_with(&left);
}

static int within_an_hour(sem_t *semaphore)
{
    struct timespec when = scene_in_an_hour(CLOCK_REALTIME);
    return sem_timedwait(semaphore, &when);
}

SCENE_CROSS(timed_sem_cross, sem_wait(&left),
            (void) (within_an_hour(&right), sem_post(&right), sem_post(&left)), sem_wait(&right),
            (void) (within_an_hour(&left), sem_post(&left), sem_post(&right)))

static void timed_semaphores(int argc, char **argv)
{
    sem_init(&left, 0, 1);
    sem_init(&right, 0, 1);
    timed_sem_cross(argc, argv);
}

/* nested monitor: a keeps the outer lock while it waits; b needs it in order to signal */

static pthread_cond_t filled = PTHREAD_COND_INITIALIZER;
static int full;

static void *consumer(void *unused)
{
    scene_name("a");
    pthread_mutex_lock(&accounts);
    pthread_mutex_lock(&audit);
    scene_hold();
    while (!full)
        pthread_cond_wait(&filled, &audit);
    pthread_mutex_unlock(&audit);
    pthread_mutex_unlock(&accounts);
    return unused;
}

static void *producer(void *unused)
{
    scene_name("b");
    scene_hold();
    pthread_mutex_lock(&accounts);
    pthread_mutex_lock(&audit);
    full = 1;
    pthread_cond_signal(&filled);
    pthread_mutex_unlock(&audit);
    pthread_mutex_unlock(&accounts);
    return unused;
}

static void nested_monitor(int argc, char **argv)
{
    (void) argc, (void) argv;
    scene_thread(consumer, NULL);
    scene_wait(&scene_held, 1);
    scene_thread(producer, NULL);
    scene_start(2);
}

/* three stages, each waiting for what the one before it would tell, with a lock held */

#define STAGES 3
static struct stage {
    pthread_mutex_t own, lock;
    pthread_cond_t ready;
    int items;
} stages[STAGES];

static void *stage(void *argument)
{
    struct stage *self = argument, *before = &stages[(self - stages + STAGES - 1) % STAGES];
    scene_name_number("s", (int) (self - stages));
    pthread_mutex_lock(&self->own);
    scene_hold();
    for (;;) {
        pthread_mutex_lock(&before->lock);
        while (!before->items)
            pthread_cond_wait(&before->ready, &before->lock);
        before->items--;
        pthread_mutex_unlock(&before->lock);
        pthread_mutex_lock(&self->lock);
        self->items++;
        pthread_cond_signal(&self->ready);
        pthread_mutex_unlock(&self->lock);
    }
    return NULL;
}

static void *bystander(void *unused)
{
    scene_name("v");
    scene_hold();
    pthread_mutex_lock(&stages[0].own);
    return unused;
}

static void pipeline(int argc, char **argv)
{
    (void) argc, (void) argv;
    for (int i = 0; i < STAGES; i++) {
        pthread_mutex_init(&stages[i].own, NULL);
        pthread_mutex_init(&stages[i].lock, NULL);
        pthread_cond_init(&stages[i].ready, NULL);
        scene_thread(stage, &stages[i]);
    }
    scene_wait(&scene_held, STAGES);
    scene_thread(bystander, NULL);
    scene_start(STAGES + 1);
}

/* an empty queue: b and c, behind a, would only wait as a does; main makes who fills it later */

static void *next_consumer(void *name)
{
    struct timespec when = scene_in_an_hour(CLOCK_REALTIME);
    scene_name(name);
    scene_hold();
    pthread_mutex_lock(&accounts);
    pthread_mutex_lock(&audit);
    if (*(char *) name == 'b')
        pthread_cond_wait(&filled, &audit);
    else
        pthread_cond_timedwait(&filled, &audit, &when);
    pthread_mutex_unlock(&audit);
    pthread_mutex_unlock(&accounts);
    return NULL;
}

static void *filler(void *unused)
{
    pthread_mutex_lock(&audit);
    full = 1;
    pthread_cond_signal(&filled);
    pthread_mutex_unlock(&audit);
    return unused;
}

static void empty_queue(int argc, char **argv)
{
    (void) argc, (void) argv;
    scene_thread(consumer, NULL);
    scene_wait(&scene_held, 1);
    scene_thread(next_consumer, "b");
    scene_thread(next_consumer, "c");
    scene_start(3);
    pause();
    scene_thread(filler, NULL);
}

/* stdio */

static FILE *journal, *ledger;

SCENE_CROSS(stdio_cross, flockfile(journal), fputs("x", ledger), flockfile(ledger),
            fputs("x", journal))

static void stdio_files(int argc, char **argv)
{
    journal = tmpfile();
    ledger = tmpfile();
    scene_require(journal && ledger, "tmpfile");
    stdio_cross(argc, argv);
}

/* Locks made by hand. */

static unsigned hand_first, hand_second;

SCENE_CROSS(by_hand,
            hand_lock(&hand_first, FUTEX_PRIVATE_FLAG), hand_lock(&hand_second, FUTEX_PRIVATE_FLAG),
            hand_lock(&hand_second, FUTEX_PRIVATE_FLAG), hand_lock(&hand_first, FUTEX_PRIVATE_FLAG))

/* Such locks of three states, as GLib's: 0 free, 1 held, 2 held and wanted.  Beside each other
 * they look like a rwlock that a writer waits for. */

static struct three_states {
    unsigned state, unused;
} hand_locks[2];

static void states_lock(struct three_states *lock)
{
    unsigned seen = 0;
    if (__atomic_compare_exchange_n(&lock->state, &seen, 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        return;
    while (__atomic_exchange_n(&lock->state, 2, __ATOMIC_SEQ_CST) != 0)
        syscall(SYS_futex, &lock->state, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 2, NULL, NULL, 0);
}

static void states_unlock(struct three_states *lock)
{
    if (__atomic_exchange_n(&lock->state, 0, __ATOMIC_SEQ_CST) == 2)
        syscall(SYS_futex, &lock->state, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, NULL, NULL, 0);
}

static void *states_cross(void *which)
{
    struct three_states *mine = which, *other = hand_locks + (mine == hand_locks);
    scene_name(mine == hand_locks ? "a" : "b");
    states_lock(mine);
    scene_hold();
    states_lock(other);
    states_unlock(other);
    states_unlock(mine);
    return NULL;
}

static void three_states(int argc, char **argv)
{
    (void) argc, (void) argv;
    pthread_t thread = scene_thread(states_cross, hand_locks);
    scene_thread(states_cross, hand_locks + 1);
    scene_start(2);
    pthread_join(thread, NULL);
}

/* A gate of one's own: the words of a barrier at which some have still to arrive. */

static struct {
    int waiting, open, capacity, more[8];
} gate = { .capacity = 8 };

static __attribute__((noinline)) void gate_pass(void)
{
    __atomic_add_fetch(&gate.waiting, 1, __ATOMIC_SEQ_CST);
    while (!__atomic_load_n(&gate.open, __ATOMIC_SEQ_CST))
        syscall(SYS_futex, &gate.open, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0, NULL, NULL, 0);
    __atomic_sub_fetch(&gate.waiting, 1, __ATOMIC_SEQ_CST);
}

static __attribute__((noinline)) void gate_open(void)
{
    __atomic_store_n(&gate.open, 1, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &gate.open, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, INT_MAX, NULL, NULL, 0);
}

SCENE_CROSS(own_gate, pthread_mutex_lock(&accounts), gate_pass(), (void) 0,
            (pthread_mutex_lock(&accounts), gate_open()))

/* malloc, and localtime, called from a signal handler that interrupted it */

enum { LARGE = 2000 }; /* too large for the thread's own cache: takes the arena's lock */

static int handled;
static pid_t allocator_tid;
static void *volatile kept;

static void allocate(void)
{
    kept = malloc(LARGE);
    free(kept);
}

static void tell_time(void)
{
    time_t now = time(NULL);
    kept = localtime(&now);
}

static void (*unsafe)(void);

static void on_signal(int number)
{
    (void) number;
    unsafe();
    __atomic_add_fetch(&handled, 1, __ATOMIC_SEQ_CST);
}

static void *allocator(void *unused)
{
    scene_name("a");
    allocator_tid = scene_tid();
    scene_arrive(&scene_held);
    for (;;)
        unsafe();
    return unused;
}

static int in_futex(pid_t tid)
{
    char path[64], text[8] = "";
    snprintf(path, sizeof path, "/proc/self/task/%d/syscall", (int) tid);
    int fd = open(path, O_RDONLY);
    ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    close(fd);
    return size > 0 && strncmp(text, "202 ", 4) == 0;
}

static void call_in_handler(void (*function)(void))
{
    unsafe = function;
    signal(SIGUSR1, on_signal);
    pthread_t thread = scene_thread(allocator, NULL);
    scene_wait(&scene_held, 1);
    for (int sent = 1;; sent++) {
        pthread_kill(thread, SIGUSR1);
        while (__atomic_load_n(&handled, __ATOMIC_SEQ_CST) < sent) {
            if (in_futex(allocator_tid)) {
                scene_ready();
                return;
            }
        }
    }
}

static void malloc_in_handler(int argc, char **argv)
{
    (void) argc, (void) argv;
    call_in_handler(allocate);
}

static void time_in_handler(int argc, char **argv)
{
    (void) argc, (void) argv;
    call_in_handler(tell_time);
}

int main(int argc, char **argv)
{
    static const scene_entry scenes[] = {
        { "join-ring", join_ring },
        { "join-mutex", join_mutex },
        { "join-state", join_state },
        { "barrier", barrier_mutex },
        { "barrier-short", barrier_short },
        { "once", once },
        { "once-abreast", once_abreast },
        { "once-self", once_self },
        { "semaphores", semaphores },
        { "semaphore-self", semaphore_self },
        { "permits-used-up", permits_used_up },
        { "permit-elsewhere", permit_elsewhere },
        { "posts-by-pointer", posts_by_pointer },
        { "posts-further-down", posts_further_down },
        { "timed-semaphores", timed_semaphores },
        { "nested-monitor", nested_monitor },
        { "pipeline", pipeline },
        { "empty-queue", empty_queue },
        { "stdio", stdio_files },
        { "by-hand", by_hand },
        { "three-states", three_states },
        { "own-gate", own_gate },
        { "malloc-in-handler", malloc_in_handler },
        { "time-in-handler", time_in_handler },
        { NULL, NULL },
    };
    return scene_main(scenes, argc, argv);
}
