/* Processes that wait for each other's file locks: flock, POSIX record locks, OFD locks. */
#include "ipc.h"

#include <sys/file.h>

static int file[2];    /* opened by each process for itself */
static int channel[2]; /* a pipe, made before the fork */

static const char *const names[] = { "accounts", "audit" };

static void open_files(void)
{
    for (int i = 0; i < 2; i++) {
        file[i] = open(names[i], O_RDWR | O_CREAT, 0600);
        scene_require(file[i] >= 0, "open");
    }
}

static void record_lock(int fd, int command, int type, off_t start, off_t length)
{
    struct flock lock;
    memset(&lock, 0, sizeof lock);
    lock.l_type = (short) type;
    lock.l_whence = SEEK_SET;
    lock.l_start = start;
    lock.l_len = length;
    scene_require(fcntl(fd, command, &lock) == 0, "fcntl");
}

/* hold_KIND_N and wait_KIND_N for each kind of lock and each file. */
#define FILE_LOCKS(n)                                                                           \
    SCENE_FN void hold_flock_##n(void)                                                          \
    {                                                                                           \
        open_files();                                                                           \
        scene_require(flock(file[n], LOCK_EX) == 0, "flock");                                   \
    }                                                                                           \
    SCENE_FN void share_flock_##n(void)                                                         \
    {                                                                                           \
        open_files();                                                                           \
        scene_require(flock(file[n], LOCK_SH) == 0, "flock");                                   \
    }                                                                                           \
    SCENE_FN void wait_flock_##n(void) { flock(file[n], LOCK_EX); }                             \
    SCENE_FN void hold_posix_##n(void)                                                          \
    {                                                                                           \
        open_files();                                                                           \
        record_lock(file[n], F_SETLK, F_WRLCK, 0, 0);                                           \
    }                                                                                           \
    SCENE_FN void wait_posix_##n(void) { record_lock(file[n], F_SETLKW, F_WRLCK, 0, 0); }       \
    SCENE_FN void hold_ofd_##n(void)                                                            \
    {                                                                                           \
        open_files();                                                                           \
        record_lock(file[n], F_OFD_SETLK, F_WRLCK, 0, 0);                                       \
    }                                                                                           \
    SCENE_FN void wait_ofd_##n(void) { record_lock(file[n], F_OFD_SETLKW, F_WRLCK, 0, 0); }
FILE_LOCKS(0)
FILE_LOCKS(1)

/* A plain AB-BA of each kind; POSIX locks need a second kind, or the kernel says EDEADLK. */
IPC_SCENE(with_flock, IPC_PLAY({ hold_flock_0, wait_flock_1 }, { hold_flock_1, wait_flock_0 }))
IPC_SCENE(with_shared_flock, IPC_PLAY({ share_flock_0, wait_flock_1 }, { share_flock_1, wait_flock_0 }))
IPC_SCENE(with_ofd, IPC_PLAY({ hold_ofd_0, wait_ofd_1 }, { hold_ofd_1, wait_ofd_0 }))
IPC_SCENE(with_posix_and_flock, IPC_PLAY({ hold_posix_0, wait_flock_1 }, { hold_flock_1, wait_posix_0 }))
IPC_SCENE(with_ofd_and_flock, IPC_PLAY({ hold_ofd_0, wait_flock_1 }, { hold_flock_1, wait_ofd_0 }))

/* Three readers of one file, one of which is in the cycle; p3 and p4 only sleep. */
static void share_first_too(void)
{
    share_flock_0();
}

IPC_SCENE(among_readers, IPC_PLAY({ hold_flock_1, wait_flock_0 }, { share_flock_0, wait_flock_1 },
                   { share_first_too, wait_flock_1 }))
IPC_SCENE(among_sleeping_readers, IPC_PLAY({ hold_flock_1, wait_flock_0 }, { share_flock_0, wait_flock_1 },
                   { share_first_too, ipc_sleep }))

/* Two byte ranges of one file. */
static void hold_low(void)
{
    open_files();
    record_lock(file[0], F_OFD_SETLK, F_WRLCK, 0, 10);
}

static void hold_high(void)
{
    open_files();
    record_lock(file[0], F_OFD_SETLK, F_WRLCK, 10, 10);
}

static void wait_low(void)
{
    record_lock(file[0], F_OFD_SETLKW, F_WRLCK, 0, 10);
}

static void wait_high(void)
{
    record_lock(file[0], F_OFD_SETLKW, F_WRLCK, 10, 10);
}

IPC_SCENE(ranges, IPC_PLAY({ hold_low, wait_high }, { hold_high, wait_low }))

/* A ring of POSIX locks on a byte each: the kernel's own check gives up after ten steps
 * (MAX_DEADLK_ITERATIONS in fs/locks.c). */
#define RING 13

static void hold_own_byte(void)
{
    open_files();
    record_lock(file[0], F_SETLK, F_WRLCK, me - 1, 1);
}

static void wait_for_next_byte(void)
{
    record_lock(file[0], F_SETLKW, F_WRLCK, me % RING, 1);
}

static void ring(int argc, char **argv)
{
    struct part parts[RING];
    (void) argc, (void) argv;
    for (int i = 0; i < RING; i++)
        parts[i] = (struct part){ hold_own_byte, wait_for_next_byte };
    ipc_play(parts, RING);
}

/* p1 holds a record lock and reads a pipe that only p2 writes to. */
static void hold_and_keep_reading_end(void)
{
    hold_posix_0();
    close(channel[1]);
}

static void read_channel(void)
{
    char byte;
    if (read(channel[0], &byte, 1) < 0)
        _exit(1);
}

static void keep_writing_end(void)
{
    open_files();
    close(channel[0]);
}

IPC_SCENE(with_posix_and_pipe, scene_require(pipe(channel) == 0, "pipe");
          IPC_PLAY({ hold_and_keep_reading_end, read_channel },
                   { keep_writing_end, wait_posix_0 }))

/* No cycle: the holder sleeps. */
static void stop(void)
{
    for (;;)
        raise(SIGSTOP);
}

IPC_SCENE(held_by_stopped, IPC_PLAY({ open_files, wait_flock_0 }, { hold_flock_0, stop }))
IPC_SCENE(held_by_sleeper, IPC_PLAY({ open_files, wait_flock_0 }, { hold_flock_0, ipc_sleep }))

/* A lock whose taker has exited and whose descriptor lives on in its child: /proc/locks names
 * the dead taker. */
static void inherit(void)
{
    open_files();
    scene_require(flock(file[1], LOCK_EX) == 0, "flock");
    close(file[0]);
    pid_t self = getpid();
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    pid_t taker = scene_fork();
    if (taker == 0) {
        close(file[1]);
        open_files();
        scene_require(flock(file[0], LOCK_EX) == 0, "flock");
        if (fork() > 0)
            _exit(0);
        while (getppid() != self)
            scene_doze();
        scene_mortal();
        scene_name("p2");
        scene_arrive(&stage->early);
        scene_wait(&stage->go, 1);
        flock(file[1], LOCK_EX);
        scene_idle();
    }
    waitpid(taker, NULL, 0);
    scene_wait(&stage->early, 1);
    file[0] = open(names[0], O_RDWR);
    scene_require(file[0] >= 0, "open");
}

IPC_SCENE(inherited, IPC_PLAY({ inherit, wait_flock_0 }))

/* Two threads of one process, each with its own descriptors; the main thread joins one. */
static void *flocker(void *argument)
{
    long number = (long) argument;
    int own, other;
    scene_name(number ? "b" : "a");
    own = open(names[number], O_RDWR | O_CREAT, 0600);
    other = open(names[!number], O_RDWR | O_CREAT, 0600);
    scene_require(own >= 0 && other >= 0, "open");
    flock(own, LOCK_EX);
    scene_meet(&stage->early, 2);
    scene_wait(&stage->go, 1);
    flock(other, LOCK_EX);
    return NULL;
}

static pthread_t joined;

static void start_threads(void)
{
    joined = scene_thread(flocker, (void *) 0);
    scene_thread(flocker, (void *) 1);
    scene_wait(&stage->early, 2);
}

static void join_thread(void)
{
    pthread_join(joined, NULL);
}

IPC_SCENE(threads, IPC_PLAY({ start_threads, join_thread }))

/* A thread locks the same file twice; and one that has another file locked wants what a third one
 * has, which sleeps. */
static void *twice(void *unused)
{
    int first = open(names[0], O_RDWR | O_CREAT, 0600), second = open(names[0], O_RDWR);
    scene_name("twice");
    scene_require(first >= 0 && second >= 0, "open");
    flock(first, LOCK_EX);
    scene_arrive(&stage->early);
    scene_wait(&stage->go, 1);
    flock(second, LOCK_EX);
    return unused;
}

static void start_twice(void)
{
    joined = scene_thread(twice, NULL);
    scene_wait(&stage->early, 1);
}

IPC_SCENE(locked_twice, IPC_PLAY({ start_twice, join_thread }))

static void *sleeper(void *unused)
{
    int own = open(names[1], O_RDWR | O_CREAT, 0600);
    scene_name("sleeper");
    flock(own, LOCK_EX);
    scene_arrive(&stage->early);
    sleep(100000);
    flock(own, LOCK_UN);
    return unused;
}

static void start_behind_sleeper(void)
{
    scene_thread(sleeper, NULL);
    scene_wait(&stage->early, 1);
    joined = scene_thread(flocker, (void *) 0);
    scene_wait(&stage->early, 2);
}

IPC_SCENE(behind_sleeper, IPC_PLAY({ start_behind_sleeper, join_thread }))

int main(int argc, char **argv)
{
    static const scene_entry scenes[] = {
        { "flock", with_flock },
        { "flock-shared", with_shared_flock },
        { "flock-readers", among_readers },
        { "flock-sleeping-reader", among_sleeping_readers },
        { "flock-sleeper", held_by_sleeper },
        { "flock-stopped", held_by_stopped },
        { "flock-inherited", inherited },
        { "flock-threads", threads },
        { "flock-twice", locked_twice },
        { "flock-threads-sleeper", behind_sleeper },
        { "ofd", with_ofd },
        { "ofd-ranges", ranges },
        { "ofd-flock", with_ofd_and_flock },
        { "posix-flock", with_posix_and_flock },
        { "posix-pipe", with_posix_and_pipe },
        { "posix-ring", ring },
        { NULL, NULL },
    };
    return ipc_main(scenes, argc, argv);
}
