/* What the scenes of several processes share: parts played at once, each in its own process.
 *
 * p1 is the program's own process, the others are its children.  Everybody prepares (opens,
 * takes what it is to hold), all meet, p1 says ready, and then each goes and blocks.  Files are
 * made in the working directory.
 */
#ifndef IPC_H
#define IPC_H

#include "scene.h"

#include <sys/mman.h>

struct part {
    void (*prepare)(void);
    void (*block)(void);
};

struct stage {
    scene_point forked, prepared, go, early;
    pid_t pids[64];
};

static struct stage *stage;
static int me; /* the number of this process: 1 is p1 */

SCENE_FN void *ipc_shared_memory(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    scene_require(memory != MAP_FAILED, "mmap");
    return memory;
}

/* Plays the parts.  Whatever they share must be set up before. */
SCENE_FN void ipc_play(const struct part *parts, int n)
{
    stage = (struct stage *) ipc_shared_memory(sizeof *stage);
    me = 1;
    for (int i = 2; i <= n && me == 1; i++) {
        pid_t child = scene_fork();
        if (child == 0)
            me = i;
        else
            stage->pids[i] = child;
    }
    scene_name_number("p", me);
    if (me == 1)
        stage->pids[1] = getpid();
    scene_meet(&stage->forked, n);
    parts[me - 1].prepare();
    scene_meet(&stage->prepared, n);
    if (me == 1) {
        scene_ready();
        scene_arrive(&stage->go);
    }
    scene_wait(&stage->go, 1);
    parts[me - 1].block();
    scene_idle();
}

#define IPC_PLAY(...)                                                             \
    do {                                                                          \
        static const struct part parts_[] = { __VA_ARGS__ };                      \
        ipc_play(parts_, (int) (sizeof parts_ / sizeof parts_[0]));               \
    } while (0)

#define IPC_SCENE(name, ...)                 \
    static void name(int argc, char **argv)  \
    {                                        \
        (void) argc, (void) argv;            \
        __VA_ARGS__;                         \
    }

SCENE_FN void ipc_nothing(void) {}

SCENE_FN void ipc_sleep(void)
{
    for (;;)
        sleep(3600);
}

/* Calls `clean` after this process has died, however it dies: for what the kernel would keep,
 * such as System V semaphores.  Done by a child that holds no file and waits for nobody. */
SCENE_FN void ipc_afterwards(void (*clean)(void))
{
    pid_t parent = getpid();
    pid_t child = fork();
    scene_require(child >= 0, "fork");
    if (child > 0)
        return;
    setsid();
    prctl(PR_SET_NAME, (unsigned long) "janitor", 0, 0, 0);
    for (int fd = 0; fd < 64; fd++)
        close(fd);
    while (getppid() == parent)
        usleep(100 * 1000);
    clean();
    _exit(0);
}

SCENE_FN int ipc_main(const scene_entry *scenes, int argc, char **argv)
{
    for (; scenes->name; scenes++)
        if (scene_is(argc, argv, scenes->name))
            scenes->play(argc, argv);
    fprintf(stderr, "usage: %s SCENARIO\n", argv[0]);
    return 2;
}

/* Returns once process `pid`'s main thread is blocked in system call `nr`. */
SCENE_FN void ipc_until_in(pid_t pid, long nr)
{
    char path[64], text[64];
    snprintf(path, sizeof path, "/proc/%d/syscall", (int) pid);
    for (;; scene_doze()) {
        int fd = open(path, O_RDONLY);
        ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
        if (fd >= 0)
            close(fd);
        if (size <= 0)
            continue;
        text[size] = 0;
        if (strncmp(text, "running", 7) != 0 && strtol(text, NULL, 10) == nr)
            return;
    }
}

#endif
