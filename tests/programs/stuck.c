/* Stuck without a cycle: locks overwritten, left behind, or free yet slept on; and chains. */
#include "scene.h"

#include <arpa/inet.h>
#include <semaphore.h>
#include <sys/socket.h>

static pthread_mutex_t accounts = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t quiet = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t never = PTHREAD_COND_INITIALIZER;
static sem_t slots;

static pid_t waiters[64];
static int waiting;

/* v0, v1, ...: wait for accounts, or for the semaphore */

static void *waiter(void *argument)
{
    int number = (int) (long) argument;
    scene_name_number("v", number);
    waiters[number] = scene_tid();
    scene_hold();
    pthread_mutex_lock(&accounts);
    return NULL;
}

static void *sem_waiter(void *argument)
{
    int number = (int) (long) argument;
    scene_name_number("v", number);
    waiters[number] = scene_tid();
    scene_hold();
    sem_wait(&slots);
    return NULL;
}

/* Starts `n` waiters and returns when all of them sleep; `holders` hold already. */
static void queue(scene_body body, int n, int holders)
{
    scene_wait(&scene_held, holders);
    for (waiting = 0; waiting < n; waiting++)
        scene_thread(body, (void *) (long) waiting);
    scene_wait(&scene_held, holders + n);
    scene_arrive(&scene_go);
    for (int i = 0; i < n; i++)
        scene_until_futex(waiters[i]);
}

static void *holder(void *unused)
{
    scene_name("holder");
    pthread_mutex_lock(&accounts);
    scene_hold();
    scene_idle();
    return unused;
}

/* corrupt: three waiters sleep, then the mutex is overwritten */

static void overwrite(const char *what)
{
    scene_thread(holder, NULL);
    queue(waiter, 3, 1);
    if (strcmp(what, "owner") == 0)
        accounts.__data.__owner = 0x5f4e3d2c;
    else if (strcmp(what, "kind") == 0)
        accounts.__data.__kind = 0x7f7f7f7f;
    else
        memset(&accounts, 0x41, sizeof accounts);
    scene_ready();
}

static void corrupt(int argc, char **argv)
{
    overwrite(argc > 2 ? argv[2] : "all");
}

/* orphaned: the owner is gone */

static pid_t gone;

static void *leaver(void *unused)
{
    scene_name("gone");
    pthread_mutex_lock(&accounts);
    gone = scene_tid();
    return unused;
}

static void lose_owner(void)
{
    pthread_join(scene_thread(leaver, NULL), NULL);
}

static void exited(int argc, char **argv)
{
    (void) argc, (void) argv;
    lose_owner();
    queue(waiter, 2, 0);
    scene_ready();
}

/* The child of fork() has only one thread, and locks that the others held. */
static void forked(int argc, char **argv)
{
    (void) argc, (void) argv;
    scene_thread(holder, NULL);
    scene_wait(&scene_held, 1);
    pid_t child = scene_fork();
    if (child == 0) {
        scene_name("child");
        scene_note("target", (unsigned long) getpid());
        scene_ready();
        pthread_mutex_lock(&accounts);
    }
    scene_arrive(&scene_go);
}

/* A priority-inheriting mutex: the kernel answers ESRCH to whoever wants it once its owner has
 * exited, and glibc parks that thread for ever, as it does after EDEADLK.  v0 is parked so, with
 * another such mutex at hand, the keeper's, who waits for v0 in turn: no cycle. */
static struct at_hand {
    pthread_mutex_t *kept, *left;
} at_hand;
static pthread_mutex_t kept, left, desk;

static void make_inheriting(pthread_mutex_t *mutex)
{
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    errno = pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
    scene_require(errno == 0, "pthread_mutexattr_setprotocol");
    errno = pthread_mutex_init(mutex, &attributes);
    scene_require(errno == 0, "pthread_mutex_init");
}

static void *leaver_of_left(void *unused)
{
    pthread_mutex_lock(&left);
    return unused;
}

static void *keeper(void *unused)
{
    scene_name("keeper");
    pthread_mutex_lock(&kept);
    scene_hold();
    pthread_mutex_lock(&desk);
    return unused;
}

static void *parked(void *unused)
{
    volatile struct at_hand mine = at_hand; /* on its stack */
    scene_name("v0");
    waiters[0] = scene_tid();
    pthread_mutex_lock(&desk);
    if (pthread_mutex_trylock(mine.kept) == 0)
        _exit(1);
    pthread_mutex_lock(mine.left);
    return unused;
}

static void exited_inheriting(int argc, char **argv)
{
    at_hand = (struct at_hand){ &kept, &left };
    make_inheriting(&kept);
    make_inheriting(&left);
    if (argc > 2 && strcmp(argv[2], "all") == 0)
        make_inheriting(&desk);
    pthread_join(scene_thread(leaver_of_left, NULL), NULL);
    scene_thread(keeper, NULL);
    scene_wait(&scene_held, 1);
    scene_thread(parked, NULL);
    while (__atomic_load_n(&waiters[0], __ATOMIC_SEQ_CST) == 0)
        scene_doze();
    scene_until_futex(waiters[0]);
    scene_ready();
    scene_arrive(&scene_go);
}

static int ask_for_next_tid(pid_t tid)
{
    char text[16];
    int fd = open("/proc/sys/kernel/ns_last_pid", O_WRONLY);
    int size = snprintf(text, sizeof text, "%d", (int) tid - 1);
    int done = fd >= 0 && write(fd, text, size) == size;
    if (fd >= 0)
        close(fd);
    return done;
}

static void *perhaps_innocent(void *unused)
{
    if (scene_tid() == gone) {
        scene_name("innocent");
        scene_arrive(&scene_held);
        scene_idle();
    }
    return unused;
}

enum { TRIES = 2000 };

/* A new thread of the same process has the tid of the owner that is gone. */
static void reused_here(int argc, char **argv)
{
    (void) argc, (void) argv;
    lose_owner();
    queue(waiter, 2, 0);
    int before = scene_held.arrived;
    for (int i = 0; i < TRIES; i++) {
        if (!ask_for_next_tid(gone))
            scene_skip("cannot choose thread ids (needs CAP_CHECKPOINT_RESTORE)");
        pthread_t thread = scene_thread(perhaps_innocent, NULL);
        struct timespec soon = { 0, 0 };
        clock_gettime(CLOCK_REALTIME, &soon);
        soon.tv_sec += 1;
        while (scene_held.arrived == before) {
            if (pthread_tryjoin_np(thread, NULL) == 0)
                break;
            scene_doze();
        }
        if (scene_held.arrived > before) {
            scene_ready();
            return;
        }
    }
    scene_skip("the thread id that was asked for was never given");
}

/* Another process has it. */
static void reused_elsewhere(int argc, char **argv)
{
    (void) argc, (void) argv;
    lose_owner();
    queue(waiter, 2, 0);
    for (int i = 0; i < TRIES; i++) {
        if (!ask_for_next_tid(gone))
            scene_skip("cannot choose process ids (needs CAP_CHECKPOINT_RESTORE)");
        pid_t child = scene_fork();
        if (child == 0) {
            if (getpid() != gone)
                _exit(0);
            scene_name("innocent");
            scene_ready();
            scene_idle();
        }
        if (child == gone)
            return;
        waitpid(child, NULL, 0);
    }
    scene_skip("the process id that was asked for was never given");
}

/* lost wake-ups: the lock becomes free and nobody is told */

static void lost_mutex(int argc, char **argv)
{
    (void) argc, (void) argv;
    scene_thread(holder, NULL);
    queue(waiter, 2, 1);
    memset(&accounts, 0, sizeof accounts);
    scene_ready();
}

static void lost_semaphore(int argc, char **argv)
{
    (void) argc, (void) argv;
    sem_init(&slots, 0, 0);
    queue(sem_waiter, 2, 0);
    __atomic_store_n((unsigned *) &slots, 1, __ATOMIC_SEQ_CST);
    scene_ready();
}

/* chains: twenty threads behind a root that waits for something else */

static int ends[2];

static void *pipe_root(void *unused)
{
    char byte;
    scene_name("root");
    pthread_mutex_lock(&accounts);
    scene_hold();
    if (read(ends[0], &byte, 1) < 0)
        _exit(1);
    return unused;
}

static void *accept_root(void *unused)
{
    struct sockaddr_in address = { .sin_family = AF_INET };
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    scene_require(bind(listener, (struct sockaddr *) &address, sizeof address) == 0, "bind");
    scene_require(listen(listener, 1) == 0, "listen");
    scene_name("root");
    pthread_mutex_lock(&accounts);
    scene_hold();
    accept(listener, NULL, NULL);
    return unused;
}

/* As GLib's g_cond_wait: a counter that nobody's function but the name tells from glibc's. */
static __attribute__((noinline)) void own_cond_wait(int *sequence)
{
    for (;;)
        syscall(SYS_futex, sequence, 128, *sequence, NULL, NULL, 0);
}

static void *own_condvar_root(void *unused)
{
    static struct {
        int before[16], sequence[16];
    } own;
    scene_name("root");
    pthread_mutex_lock(&accounts);
    scene_hold();
    own_cond_wait(own.sequence);
    return unused;
}

/* Its name is like that of what waits for an initialisation, as FnOnce::call_once is. */
static __attribute__((noinline)) void call_once_and_wait(int *state)
{
    while (*state == 1)
        syscall(SYS_futex, state, 128, 1, NULL, NULL, 0);
}

static void *own_once_root(void *unused)
{
    static int state[16] = { 1 };
    scene_name("root");
    pthread_mutex_lock(&accounts);
    scene_hold();
    call_once_and_wait(state);
    return unused;
}

static void *condvar_root(void *unused)
{
    scene_name("root");
    pthread_mutex_lock(&accounts);
    scene_hold();
    pthread_mutex_lock(&quiet);
    for (;;)
        pthread_cond_wait(&never, &quiet);
    return unused;
}

/* One function for both parts: who queues does not come to where the root waits. */
static void *either(void *argument)
{
    int number = (int) (long) argument;
    if (number < 0) {
        scene_name("root");
        pthread_mutex_lock(&accounts);
        scene_hold();
        pthread_mutex_lock(&quiet);
        for (;;)
            pthread_cond_wait(&never, &quiet);
    }
    scene_name_number("v", number);
    waiters[number] = scene_tid();
    scene_hold();
    pthread_mutex_lock(&accounts);
    return NULL;
}

static void *child_root(void *unused)
{
    scene_name("root");
    pid_t child = scene_fork();
    if (child == 0) {
        scene_name("child");
        scene_idle();
    }
    pthread_mutex_lock(&accounts);
    scene_hold();
    waitpid(child, NULL, 0);
    return unused;
}

static void chain(int argc, char **argv)
{
    const char *what = argc > 2 ? argv[2] : "pipe";
    scene_require(pipe(ends) == 0, "pipe");
    scene_thread(strcmp(what, "accept") == 0        ? accept_root
                 : strcmp(what, "condvar") == 0     ? condvar_root
                 : strcmp(what, "own-condvar") == 0 ? own_condvar_root
                 : strcmp(what, "own-once") == 0 ? own_once_root
                 : strcmp(what, "child") == 0       ? child_root
                                                    : pipe_root,
                 NULL);
    queue(waiter, 20, 1);
    scene_ready();
}

static void chain_either(int argc, char **argv)
{
    (void) argc, (void) argv;
    scene_thread(either, (void *) -1L);
    queue(either, 20, 1);
    scene_ready();
}

int main(int argc, char **argv)
{
    static const scene_entry scenes[] = {
        { "corrupt", corrupt },
        { "exited", exited },
        { "exited-inheriting", exited_inheriting },
        { "forked", forked },
        { "reused-here", reused_here },
        { "reused-elsewhere", reused_elsewhere },
        { "lost-mutex", lost_mutex },
        { "lost-semaphore", lost_semaphore },
        { "chain", chain },
        { "chain-either", chain_either },
        { NULL, NULL },
    };
    return scene_main(scenes, argc, argv);
}
