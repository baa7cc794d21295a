/* Processes that wait for each other's locks in shared memory, and semaphores of either kind. */
#include "ipc.h"
#include "hand_lock.h"

#include <sched.h>
#include <semaphore.h>
#include <sys/ipc.h>
#include <sys/sem.h>

struct locks {
    char header[64];
    pthread_mutex_t mutex[2];
    pthread_rwlock_t rwlock[2];
    sem_t sem[2];
    unsigned word[2];
};

static struct locks *locks;
static sem_t *named[2];
static int set = -1; /* of System V semaphores */
static pid_t run;

/* System V semaphores: no owner; sempid is who did the last operation. */
static void remove_set(void)
{
    semctl(set, 0, IPC_RMID);
}

static void semaphore_add(int number, int change, int flags)
{
    struct sembuf step = { (unsigned short) number, (short) change, (short) flags };
    int done;
    do
        done = semop(set, &step, 1);
    while (done < 0 && errno == EINTR); /* a debugger came */
    scene_require(done == 0, "semop");
}

static void make_set(void)
{
    set = semget(IPC_PRIVATE, 2, 0600 | IPC_CREAT);
    if (set < 0)
        scene_skip("no System V semaphores");
    ipc_afterwards(remove_set);
    semaphore_add(0, 1, 0);
    semaphore_add(1, 1, 0);
}

static void hold_own_semaphore(void)
{
    semaphore_add(me - 1, -1, 0);
}

static void hold_own_semaphore_undoably(void)
{
    semaphore_add(me - 1, -1, SEM_UNDO);
}

static void wait_for_other_semaphore(void)
{
    semaphore_add(me % 2, -1, 0);
}

static void wait_for_other_semaphore_an_hour(void)
{
    struct sembuf step = { (unsigned short) (me % 2), -1, SEM_UNDO };
    struct timespec hour = { 3600, 0 };
    while (semtimedop(set, &step, 1, &hour) < 0 && errno == EINTR) { /* a debugger came */
    }
}

IPC_SCENE(system_v, make_set();
          IPC_PLAY({ hold_own_semaphore, wait_for_other_semaphore },
                   { hold_own_semaphore, wait_for_other_semaphore }))
IPC_SCENE(system_v_undo, make_set();
          IPC_PLAY({ hold_own_semaphore_undoably, wait_for_other_semaphore_an_hour },
                   { hold_own_semaphore_undoably, wait_for_other_semaphore_an_hour }))

/* POSIX semaphores by name: each process opens them for itself. */
static const char *semaphore_name(int number)
{
    static char name[64];
    snprintf(name, sizeof name, "/scene-%d-%s", (int) run, number ? "audit" : "accounts");
    return name;
}

static void remove_names(void)
{
    sem_unlink(semaphore_name(0));
    sem_unlink(semaphore_name(1));
}

static void open_and_hold_own_name(void)
{
    for (int i = 0; i < 2; i++) {
        named[i] = sem_open(semaphore_name(i), O_CREAT, 0600, 1);
        if (named[i] == SEM_FAILED)
            scene_skip("no named semaphores");
    }
    sem_wait(named[me - 1]);
}

static void wait_for_other_name(void)
{
    sem_wait(named[me % 2]);
}

IPC_SCENE(sem_named, run = getpid(); ipc_afterwards(remove_names);
          IPC_PLAY({ open_and_hold_own_name, wait_for_other_name },
                   { open_and_hold_own_name, wait_for_other_name }))

/* A dispatcher that waits for clients, who open its semaphore by its name, and its worker. */
static void open_empty_names(void)
{
    for (int i = 0; i < 2; i++) {
        named[i] = sem_open(semaphore_name(i), O_CREAT, 0600, 0);
        if (named[i] == SEM_FAILED)
            scene_skip("no named semaphores");
    }
}

static void wait_for_work(void)
{
    for (;;) {
        sem_wait(named[me - 1]);
        sem_post(named[me % 2]);
    }
}

IPC_SCENE(sem_named_idle, run = getpid(); ipc_afterwards(remove_names);
          IPC_PLAY({ open_empty_names, wait_for_work }, { open_empty_names, wait_for_work }))

/* Locks in memory that is shared by inheritance, or through a file that p2 maps elsewhere. */
static void make_mutexes(int robust, int protocol)
{
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    if (robust)
        pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    errno = pthread_mutexattr_setprotocol(&attributes, protocol);
    scene_require(errno == 0, "pthread_mutexattr_setprotocol");
    for (int i = 0; i < 2; i++) {
        errno = pthread_mutex_init(&locks->mutex[i], &attributes);
        scene_require(errno == 0, "pthread_mutex_init");
    }
}

static void make_locks(void)
{
    pthread_rwlockattr_t attributes;
    pthread_rwlockattr_init(&attributes);
    pthread_rwlockattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    for (int i = 0; i < 2; i++) {
        pthread_rwlock_init(&locks->rwlock[i], &attributes);
        sem_init(&locks->sem[i], 1, 1);
    }
    make_mutexes(0, PTHREAD_PRIO_NONE);
}

static void in_anonymous_memory(void)
{
    locks = (struct locks *) ipc_shared_memory(sizeof *locks);
    make_locks();
}

static int backing = -1;

static struct locks *map_file(void)
{
    void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, backing, 0);
    scene_require(memory != MAP_FAILED, "mmap");
    return (struct locks *) memory;
}

static void in_file(void)
{
    backing = open("locks", O_RDWR | O_CREAT, 0600);
    scene_require(backing >= 0 && ftruncate(backing, 4096) == 0, "a file to map");
    locks = map_file();
    make_locks();
}

/* Maps the file again while the inherited mapping is still there: at another address. */
static void map_elsewhere(void)
{
    struct locks *inherited = locks;
    if (backing < 0 || me == 1)
        return;
    locks = map_file();
    scene_require(locks != inherited && munmap(inherited, 4096) == 0, "a mapping elsewhere");
}

static void hold_own_mutex(void)
{
    map_elsewhere();
    pthread_mutex_lock(&locks->mutex[me - 1]);
}

static void wait_for_other_mutex(void)
{
    pthread_mutex_lock(&locks->mutex[me % 2]);
}

/* The second to wait closes the cycle; with PI mutexes the kernel tells it, so p2 is it. */
static void wait_for_other_mutex_in_turn(void)
{
    if (me == 2)
        ipc_until_in(stage->pids[1], SYS_futex);
    wait_for_other_mutex();
}

static void hold_own_sem(void)
{
    map_elsewhere();
    sem_wait(&locks->sem[me - 1]);
}

static void wait_for_other_sem(void)
{
    sem_wait(&locks->sem[me % 2]);
}

static void write_own_rwlock(void)
{
    map_elsewhere();
    pthread_rwlock_wrlock(&locks->rwlock[me - 1]);
}

static void write_other_rwlock(void)
{
    pthread_rwlock_wrlock(&locks->rwlock[me % 2]);
}

static void hold_own_word(void)
{
    map_elsewhere();
    hand_lock(&locks->word[me - 1], 0);
}

static void wait_for_other_word(void)
{
    hand_lock(&locks->word[me % 2], 0);
}

#define MUTEXES IPC_PLAY({ hold_own_mutex, wait_for_other_mutex },       \
                         { hold_own_mutex, wait_for_other_mutex })
#define MUTEXES_IN_TURN IPC_PLAY({ hold_own_mutex, wait_for_other_mutex_in_turn }, \
                                 { hold_own_mutex, wait_for_other_mutex_in_turn })
#define SEMS IPC_PLAY({ hold_own_sem, wait_for_other_sem }, { hold_own_sem, wait_for_other_sem })
IPC_SCENE(sem_anonymous, in_anonymous_memory(); SEMS)
IPC_SCENE(sem_in_file, in_file(); SEMS)
IPC_SCENE(mutex_anonymous, in_anonymous_memory(); MUTEXES)
IPC_SCENE(mutex_in_file, in_file(); MUTEXES)
IPC_SCENE(mutex_robust, in_file(); make_mutexes(1, PTHREAD_PRIO_NONE); MUTEXES)
IPC_SCENE(mutex_pi, in_file(); make_mutexes(0, PTHREAD_PRIO_INHERIT); MUTEXES_IN_TURN)
IPC_SCENE(by_hand, in_file();
          IPC_PLAY({ hold_own_word, wait_for_other_word }, { hold_own_word, wait_for_other_word }))
IPC_SCENE(rwlock_in_file, in_file();
          IPC_PLAY({ write_own_rwlock, write_other_rwlock },
                   { write_own_rwlock, write_other_rwlock }))

/* p2 takes p1's mutex and dies; p1 reaps it, or leaves it a zombie. */
static void take_and_die(void)
{
    map_elsewhere();
    pthread_mutex_lock(&locks->mutex[0]);
    scene_arrive(&stage->prepared);
    _exit(0);
}

static void outlive(void)
{
    map_elsewhere();
    scene_wait(&stage->prepared, 1);
    waitpid(stage->pids[2], NULL, 0);
}

static void outlive_unreaped(void)
{
    siginfo_t info;
    scene_wait(&stage->prepared, 1);
    waitid(P_PID, (id_t) stage->pids[2], &info, WEXITED | WNOWAIT);
}

static void wait_for_first_mutex(void)
{
    pthread_mutex_lock(&locks->mutex[0]);
}

IPC_SCENE(dead_owner, in_file();
          IPC_PLAY({ outlive, wait_for_first_mutex }, { take_and_die, ipc_nothing }))
IPC_SCENE(zombie_owner, in_file();
          IPC_PLAY({ outlive_unreaped, wait_for_first_mutex }, { take_and_die, ipc_nothing }))

/* No cycle: the owner in the other process sleeps. */
static void hold_first_mutex(void)
{
    map_elsewhere();
    pthread_mutex_lock(&locks->mutex[0]);
}

IPC_SCENE(sleeping_owner, in_file();
          IPC_PLAY({ ipc_nothing, wait_for_first_mutex }, { hold_first_mutex, ipc_sleep }))

/* In several pid namespaces: a lock's owner field has the id that the owner has in its own. */

/* The id that this process has outside: the /proc that we see is the outer one. */
static pid_t outer_pid(void)
{
    char text[16] = "";
    ssize_t size = readlink("/proc/self", text, sizeof text - 1);
    scene_require(size > 0, "/proc/self");
    return (pid_t) atoi(text);
}

static void announce_outside(void)
{
    char line[64];
    stage->pids[me] = outer_pid();
    snprintf(line, sizeof line, "tid p%d %d %d\n", me, outer_pid(), outer_pid());
    scene_say(line);
}

static void move_into_namespace(void)
{
    if (unshare(CLONE_NEWPID) < 0)
        scene_skip("no pid namespaces (needs CAP_SYS_ADMIN)");
    pid_t child = scene_fork();
    if (child > 0) {
        waitpid(child, NULL, 0);
        _exit(0);
    }
    announce_outside();
}

/* There, but as the process that has the id `wanted` inside. */
static void move_into_namespace_as(pid_t wanted)
{
    char text[16];
    move_into_namespace();
    int fd = open("/proc/sys/kernel/ns_last_pid", O_WRONLY);
    int size = snprintf(text, sizeof text, "%d", (int) wanted - 1);
    if (fd < 0 || write(fd, text, size) != size)
        scene_skip("cannot choose process ids (needs CAP_CHECKPOINT_RESTORE)");
    close(fd);
    pid_t child = scene_fork();
    if (child > 0) {
        waitpid(child, NULL, 0);
        _exit(0);
    }
    scene_require(getpid() == wanted, "the process id that was asked for");
    announce_outside();
}

static void hold_own_mutex_in_namespace(void)
{
    move_into_namespace();
    hold_own_mutex();
}

static void hold_first_mutex_in_namespace(void)
{
    move_into_namespace();
    hold_first_mutex();
}

static void be_target_in_namespace(void)
{
    move_into_namespace();
    scene_note("target", (unsigned long) outer_pid());
}

/* p2's id inside is the one that p1 has outside, or p3, who has nothing to do with it. */
static void hold_first_mutex_as_p1(void)
{
    move_into_namespace_as(stage->pids[1]);
    hold_first_mutex();
}

static void hold_first_mutex_as_p3(void)
{
    move_into_namespace_as(stage->pids[3]);
    hold_first_mutex();
}

static void share_nothing(void)
{
    scene_require(munmap(locks, 4096) == 0, "munmap");
}

/* p2's namespace goes on; its child there dies with the lock. */
static void lose_owner_in_namespace(void)
{
    move_into_namespace();
    pid_t child = scene_fork();
    if (child == 0) {
        pthread_mutex_lock(&locks->mutex[0]);
        _exit(0);
    }
    waitpid(child, NULL, 0);
}

IPC_SCENE(namespaces, in_file();
          IPC_PLAY({ hold_own_mutex, wait_for_other_mutex },
                   { hold_own_mutex_in_namespace, wait_for_other_mutex }))
IPC_SCENE(namespaces_alike, in_file();
          IPC_PLAY({ ipc_nothing, ipc_sleep }, { hold_first_mutex_in_namespace, ipc_sleep },
                   { be_target_in_namespace, wait_for_first_mutex }))
IPC_SCENE(namespaces_own_id, in_file();
          IPC_PLAY({ ipc_nothing, wait_for_first_mutex }, { hold_first_mutex_as_p1, ipc_sleep }))
IPC_SCENE(namespaces_other_id, in_file();
          IPC_PLAY({ ipc_nothing, wait_for_first_mutex }, { hold_first_mutex_as_p3, ipc_sleep },
                   { share_nothing, ipc_sleep }))
IPC_SCENE(namespaces_dead_owner, in_file();
          IPC_PLAY({ ipc_nothing, wait_for_first_mutex }, { lose_owner_in_namespace, ipc_sleep }))

int main(int argc, char **argv)
{
    static const scene_entry scenes[] = {
        { "sysv", system_v },
        { "sysv-undo", system_v_undo },
        { "sem-named", sem_named },
        { "idle-sem-named", sem_named_idle },
        { "sem-anon", sem_anonymous },
        { "sem-file", sem_in_file },
        { "mutex-anon", mutex_anonymous },
        { "mutex-file", mutex_in_file },
        { "mutex-robust", mutex_robust },
        { "mutex-pi", mutex_pi },
        { "rwlock-file", rwlock_in_file },
        { "by-hand", by_hand },
        { "mutex-dead-owner", dead_owner },
        { "mutex-zombie-owner", zombie_owner },
        { "mutex-sleeper", sleeping_owner },
        { "namespaces", namespaces },
        { "namespaces-alike", namespaces_alike },
        { "namespaces-own-id", namespaces_own_id },
        { "namespaces-other-id", namespaces_other_id },
        { "namespaces-dead-owner", namespaces_dead_owner },
        { NULL, NULL },
    };
    return ipc_main(scenes, argc, argv);
}
