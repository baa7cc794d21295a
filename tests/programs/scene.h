/* What the test programs share: naming threads, meeting without locks, ending for certain.
 *
 * A program is run as PROG SCENARIO [ARGS].  Every thread that matters announces itself with
 * scene_name(), everybody meets, the main thread says scene_ready(), and then they go and
 * block.  Nothing here uses a futex, so that every futex wait in a scene is the scene's own.
 * Usable from C and from C++; include it before anything else.
 */
#ifndef SCENE_H
#define SCENE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SCENE_SECONDS 300      /* no process outlives this */
#define SCENE_STACK (128 << 10) /* small, so that cores with hundreds of threads stay small */
#define SCENE_SKIP 77          /* exit status: this machine cannot play the scene */

#ifndef PR_SET_PTRACER
#define PR_SET_PTRACER 0x59616d61
#endif
#ifndef PR_SET_PTRACER_ANY
#define PR_SET_PTRACER_ANY ((unsigned long) -1)
#endif

#define SCENE_FN static inline __attribute__((unused))

/* Written with one write(2), so that stdio's locks play no part. */
SCENE_FN void scene_say(const char *line)
{
    ssize_t done = write(STDOUT_FILENO, line, strlen(line));
    if (done < 0)
        _exit(1);
}

SCENE_FN pid_t scene_tid(void)
{
    return (pid_t) syscall(SYS_gettid);
}

/* Names the calling thread (at most 15 characters) and tells the harness its ids. */
SCENE_FN void scene_name(const char *name)
{
    char line[96];
    prctl(PR_SET_NAME, (unsigned long) name, 0, 0, 0);
    snprintf(line, sizeof line, "tid %s %d %d\n", name, (int) scene_tid(), (int) getpid());
    scene_say(line);
}

SCENE_FN void scene_name_number(const char *prefix, int number)
{
    char name[16];
    snprintf(name, sizeof name, "%s%d", prefix, number);
    scene_name(name);
}

/* Tells the harness something else, as "note KEY 0xVALUE". */
SCENE_FN void scene_note(const char *key, unsigned long value)
{
    char line[96];
    snprintf(line, sizeof line, "note %s 0x%lx\n", key, value);
    scene_say(line);
}

/* The machine cannot play this scene (no privilege, no such call): the test is skipped. */
SCENE_FN void scene_skip(const char *why)
{
    char line[200];
    snprintf(line, sizeof line, "skip %s\n", why);
    scene_say(line);
    _exit(SCENE_SKIP);
}

SCENE_FN void scene_require(int ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "scene: %s failed: %s\n", what, strerror(errno));
        _exit(1);
    }
}

SCENE_FN void scene_doze(void)
{
    struct timespec moment = { 0, 200 * 1000 };
    nanosleep(&moment, NULL);
}

/* Dies with its parent and after SCENE_SECONDS; both are lost on fork, hence scene_fork(). */
SCENE_FN void scene_mortal(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
    alarm(SCENE_SECONDS);
}

__attribute__((constructor)) static void scene_begin(void)
{
    scene_mortal();
}

SCENE_FN pid_t scene_fork(void)
{
    pid_t child = fork();
    scene_require(child >= 0, "fork");
    if (child == 0)
        scene_mortal();
    return child;
}

/* A counter that threads (or, in shared memory, processes) meet at: returns once `n` of them
 * have come.  Each point serves once. */
typedef struct {
    int arrived;
} scene_point;

SCENE_FN void scene_arrive(scene_point *point)
{
    __atomic_add_fetch(&point->arrived, 1, __ATOMIC_SEQ_CST);
}

SCENE_FN void scene_wait(scene_point *point, int n)
{
    while (__atomic_load_n(&point->arrived, __ATOMIC_SEQ_CST) < n)
        scene_doze();
}

SCENE_FN void scene_meet(scene_point *point, int n)
{
    scene_arrive(point);
    scene_wait(point, n);
}

/* Returns once thread `tid` of this process sleeps in a futex call, or in any call at all with
 * `nr` < 0: for scenes in which one wait must have begun before the next step. */
SCENE_FN void scene_until_in(pid_t tid, long nr)
{
    char path[64], text[64];
    snprintf(path, sizeof path, "/proc/self/task/%d/syscall", (int) tid);
    for (;;) {
        int fd = open(path, O_RDONLY);
        ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
        if (fd >= 0)
            close(fd);
        if (size > 0) {
            text[size] = 0;
            if (strncmp(text, "running", 7) != 0) {
                char *end;
                long now = strtol(text, &end, 10);
                if (end != text && (now == nr || (nr < 0 && now >= 0)))
                    return;
            }
        }
        scene_doze();
    }
}

SCENE_FN void scene_until_futex(pid_t tid)
{
    scene_until_in(tid, SYS_futex);
}

/* "From here on everybody goes and blocks." */
SCENE_FN void scene_ready(void)
{
    scene_say("ready\n");
}

/* For threads that wait for nobody. */
SCENE_FN void scene_idle(void)
{
    for (;;)
        pause();
}

typedef void *(*scene_body)(void *);

SCENE_FN pthread_t scene_thread(scene_body body, void *argument)
{
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, SCENE_STACK);
    errno = pthread_create(&thread, &attributes, body, argument);
    scene_require(errno == 0, "pthread_create");
    pthread_attr_destroy(&attributes);
    return thread;
}

SCENE_FN struct timespec scene_in_an_hour(clockid_t clock)
{
    struct timespec when;
    clock_gettime(clock, &when);
    when.tv_sec += 3600;
    return when;
}

/* For scenes of threads that all take something first and want something else then: each says
 * scene_hold() between the two, and the main thread lets them go once `n` of them hold. */
static scene_point scene_held __attribute__((unused)), scene_go __attribute__((unused));

SCENE_FN void scene_hold(void)
{
    scene_arrive(&scene_held);
    scene_wait(&scene_go, 1);
}

SCENE_FN void scene_start(int n)
{
    scene_wait(&scene_held, n);
    scene_ready();
    scene_arrive(&scene_go);
}

/* A scene of two threads, a and b, written out so that the calls stand in their own code. */
#define SCENE_CROSS(scene, a_takes, a_wants, b_takes, b_wants) \
    static void *scene##_a(void *unused)                       \
    {                                                          \
        scene_name("a");                                       \
        a_takes;                                               \
        scene_hold();                                          \
        a_wants;                                               \
        return unused;                                         \
    }                                                          \
    static void *scene##_b(void *unused)                       \
    {                                                          \
        scene_name("b");                                       \
        b_takes;                                               \
        scene_hold();                                          \
        b_wants;                                               \
        return unused;                                         \
    }                                                          \
    static void scene(int argc, char **argv)                   \
    {                                                          \
        (void) argc, (void) argv;                              \
        scene_thread(scene##_a, NULL);                         \
        scene_thread(scene##_b, NULL);                         \
        scene_start(2);                                        \
    }

SCENE_FN int scene_is(int argc, char **argv, const char *scene)
{
    return argc > 1 && strcmp(argv[1], scene) == 0;
}

SCENE_FN int scene_number(int argc, char **argv, int index, int otherwise)
{
    return argc > index ? atoi(argv[index]) : otherwise;
}

/* One scene of a program: its name and what plays it. */
typedef struct {
    const char *name;
    void (*play)(int argc, char **argv);
} scene_entry;

SCENE_FN int scene_main(const scene_entry *scenes, int argc, char **argv)
{
    scene_name("main");
    for (; scenes->name; scenes++) {
        if (scene_is(argc, argv, scenes->name)) {
            scenes->play(argc, argv);
            scene_idle();
        }
    }
    fprintf(stderr, "usage: %s SCENARIO [ARGS]; no scenario %s\n", argv[0],
            argc > 1 ? argv[1] : "given");
    return 2;
}

#endif
