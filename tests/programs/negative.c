/* Nothing here is a deadlock, though most of it waits. */
#include "scene.h"

#include <arpa/inet.h>
#include <linux/futex.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

enum { POOL = 8 };

static pthread_mutex_t accounts = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t audit = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t prices = PTHREAD_RWLOCK_INITIALIZER;
static pthread_cond_t work = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static sem_t slots;
static volatile unsigned long sum;

static void compute(int rounds)
{
    for (int i = 0; i < rounds; i++)
        sum += (unsigned long) i * 2654435761u;
}

static void start_pool(scene_body body, int n)
{
    for (long i = 0; i < n; i++)
        scene_thread(body, (void *) i);
    scene_start(n);
}

static void begin(void *argument)
{
    scene_name_number("v", (int) (long) argument);
    scene_hold();
}

/* idle pools, with main in pause, join or sigwait */

static void *condvar_worker(void *argument)
{
    begin(argument);
    pthread_mutex_lock(&accounts);
    for (;;)
        pthread_cond_wait(&work, &accounts);
    return NULL;
}

static void condvar_pool(int argc, char **argv)
{
    (void) argc, (void) argv;
    start_pool(condvar_worker, POOL);
}

static void joined_pool(int argc, char **argv)
{
    (void) argc, (void) argv;
    pthread_t last = 0;
    for (long i = 0; i < POOL; i++)
        last = scene_thread(condvar_worker, (void *) i);
    scene_start(POOL);
    pthread_join(last, NULL);
}

static void sigwait_pool(int argc, char **argv)
{
    (void) argc, (void) argv;
    sigset_t set;
    int number;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    start_pool(condvar_worker, POOL);
    sigwait(&set, &number);
}

static void *semaphore_worker(void *argument)
{
    begin(argument);
    for (;;)
        sem_wait(&slots);
    return NULL;
}

static void semaphore_pool(int argc, char **argv)
{
    (void) argc, (void) argv;
    sem_init(&slots, 0, 0);
    start_pool(semaphore_worker, POOL);
}

/* contention that progresses */

static void *contender(void *argument)
{
    begin(argument);
    for (;;) {
        pthread_mutex_lock(&accounts);
        compute(2000);
        pthread_mutex_unlock(&accounts);
    }
    return NULL;
}

static void contention(int argc, char **argv)
{
    (void) argc, (void) argv;
    start_pool(contender, POOL);
}

static void *sleepy_contender(void *argument)
{
    begin(argument);
    for (;;) {
        pthread_mutex_lock(&accounts);
        usleep(2000);
        pthread_mutex_unlock(&accounts);
    }
    return NULL;
}

static void sleepy_contention(int argc, char **argv)
{
    (void) argc, (void) argv;
    start_pool(sleepy_contender, POOL);
}

/* Two locks, always in the same order. */
static void *orderly(void *argument)
{
    begin(argument);
    for (;;) {
        pthread_mutex_lock(&accounts);
        pthread_mutex_lock(&audit);
        compute(500);
        pthread_mutex_unlock(&accounts);
        usleep(200);
        pthread_mutex_unlock(&audit);
    }
    return NULL;
}

static void ordered_contention(int argc, char **argv)
{
    (void) argc, (void) argv;
    start_pool(orderly, POOL);
}

static void *reader_or_writer(void *argument)
{
    begin(argument);
    for (;;) {
        if ((long) argument == 0) {
            pthread_rwlock_wrlock(&prices);
            usleep(1000);
        } else {
            pthread_rwlock_rdlock(&prices);
            compute(2000);
        }
        pthread_rwlock_unlock(&prices);
    }
    return NULL;
}

static void readers_and_writers(int argc, char **argv)
{
    (void) argc, (void) argv;
    start_pool(reader_or_writer, POOL);
}

static void *timed_worker(void *argument)
{
    begin(argument);
    pthread_mutex_lock(&accounts);
    for (;;) {
        struct timespec when;
        clock_gettime(CLOCK_REALTIME, &when);
        when.tv_nsec += 20 * 1000 * 1000;
        if (when.tv_nsec >= 1000000000) {
            when.tv_nsec -= 1000000000;
            when.tv_sec++;
        }
        pthread_cond_timedwait(&work, &accounts, &when);
    }
    return NULL;
}

static void timed_waits(int argc, char **argv)
{
    (void) argc, (void) argv;
    start_pool(timed_worker, POOL);
}

/* producer and consumer */

static int queued;

static void *producing_or_consuming(void *argument)
{
    int producer = (long) argument % 2;
    begin(argument);
    for (;;) {
        pthread_mutex_lock(&accounts);
        while (!producer && queued == 0)
            pthread_cond_wait(&work, &accounts);
        queued += producer ? 1 : -1;
        if (producer)
            pthread_cond_signal(&work);
        pthread_mutex_unlock(&accounts);
        if (producer)
            usleep(500);
    }
    return NULL;
}

static void producers_and_consumers(int argc, char **argv)
{
    (void) argc, (void) argv;
    start_pool(producing_or_consuming, POOL);
}

/* one at the barrier is still computing */

static void *at_barrier(void *argument)
{
    begin(argument);
    if ((long) argument == 0) {
        for (;;)
            compute(1000);
    }
    pthread_barrier_wait(&barrier);
    return NULL;
}

static void late_at_barrier(int argc, char **argv)
{
    (void) argc, (void) argv;
    pthread_barrier_init(&barrier, NULL, POOL);
    start_pool(at_barrier, POOL);
}

/* The holder computes, and everybody else has to wait that long. */
static void *at_busy_lock(void *argument)
{
    if ((long) argument == 0)
        pthread_mutex_lock(&accounts);
    begin(argument);
    if ((long) argument == 0) {
        for (;;)
            compute(1000);
    }
    pthread_mutex_lock(&accounts);
    return NULL;
}

static void busy_holder(int argc, char **argv)
{
    (void) argc, (void) argv;
    start_pool(at_busy_lock, POOL);
}

/* holders that sleep for a time */

static void *sleeping_holder(void *unused)
{
    struct timespec long_time = { 3600, 0 };
    scene_name("holder");
    pthread_mutex_lock(&accounts);
    scene_hold();
    nanosleep(&long_time, NULL);
    return unused;
}

static void *waiter(void *argument)
{
    begin(argument);
    pthread_mutex_lock(&accounts);
    return NULL;
}

static void holder_sleeps(int argc, char **argv)
{
    (void) argc, (void) argv;
    scene_thread(sleeping_holder, NULL);
    scene_wait(&scene_held, 1);
    for (long i = 0; i < POOL; i++)
        scene_thread(waiter, (void *) i);
    scene_start(1 + POOL);
}

/* Workers that take turns at waiting: for a client, for a job. */

static int listener;

static void *accepting_worker(void *argument)
{
    begin(argument);
    for (;;) {
        pthread_mutex_lock(&accounts);
        int client = accept(listener, NULL, NULL);
        pthread_mutex_unlock(&accounts);
        if (client >= 0)
            close(client);
    }
    return NULL;
}

static void accepting_turns(int argc, char **argv)
{
    (void) argc, (void) argv;
    struct sockaddr_in address = { .sin_family = AF_INET };
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    scene_require(bind(listener, (struct sockaddr *) &address, sizeof address) == 0, "bind");
    scene_require(listen(listener, 1) == 0, "listen");
    start_pool(accepting_worker, POOL);
}

static void *working_in_turns(void *argument)
{
    begin(argument);
    for (;;) {
        pthread_mutex_lock(&accounts);
        pthread_mutex_lock(&audit);
        pthread_cond_wait(&work, &audit);
        pthread_mutex_unlock(&audit);
        pthread_mutex_unlock(&accounts);
        compute(100);
    }
    return NULL;
}

static void working_turns(int argc, char **argv)
{
    (void) argc, (void) argv;
    start_pool(working_in_turns, POOL);
}

/* The holder is a process that sleeps; the mutex is shared. */
static void other_process_sleeps(int argc, char **argv)
{
    struct {
        scene_point held;
        pthread_mutex_t mutex;
    } *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_mutexattr_t attributes;
    (void) argc, (void) argv;
    scene_require(shared != MAP_FAILED, "mmap");
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutex_init(&shared->mutex, &attributes);
    if (scene_fork() == 0) {
        struct timespec long_time = { 3600, 0 };
        scene_name("child");
        pthread_mutex_lock(&shared->mutex);
        scene_arrive(&shared->held);
        nanosleep(&long_time, NULL);
    }
    scene_wait(&shared->held, 1);
    scene_ready();
    pthread_mutex_lock(&shared->mutex);
}

/* A lock by hand, 2 while it is held and wanted; the counter behind it, of a condition variable,
 * say, comes to be the id of a thread, and lies where a mutex has its owner's. */

static struct {
    unsigned state, unused, counter, more[8];
} counted = { .state = 2 };

static void *counted_waiter(void *argument)
{
    begin(argument);
    counted.counter = (unsigned) scene_tid();
    pthread_mutex_lock(&accounts);
    return NULL;
}

static void *counted_holder(void *argument)
{
    struct timespec long_time = { 3600, 0 };
    begin(argument);
    nanosleep(&long_time, NULL);
    counted.state = 0;
    syscall(SYS_futex, &counted.state, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, NULL, NULL, 0);
    return NULL;
}

static void hand_counter(int argc, char **argv)
{
    (void) argc, (void) argv;
    pthread_mutex_lock(&accounts);
    scene_thread(counted_holder, (void *) 0);
    scene_thread(counted_waiter, (void *) 1);
    scene_start(2);
    while (counted.state != 0)
        syscall(SYS_futex, &counted.state, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 2, NULL, NULL, 0);
}

/* event loop */

static void *pinged(void *argument)
{
    int event = *(int *) argument;
    uint64_t one = 1;
    scene_name("pinger");
    scene_hold();
    for (;;) {
        usleep(5000);
        if (write(event, &one, sizeof one) < 0)
            _exit(1);
    }
    return NULL;
}

static void event_loop(int pings)
{
    struct epoll_event events[4], wanted = { .events = EPOLLIN };
    uint64_t count;
    int loop = epoll_create1(0), event = eventfd(0, EFD_NONBLOCK);
    scene_require(epoll_ctl(loop, EPOLL_CTL_ADD, event, &wanted) == 0, "epoll_ctl");
    if (pings)
        scene_thread(pinged, &event);
    scene_start(pings);
    for (;;) {
        if (epoll_wait(loop, events, 4, -1) > 0 && read(event, &count, sizeof count) < 0)
            _exit(1);
    }
}

static void idle_loop(int argc, char **argv)
{
    (void) argc, (void) argv;
    event_loop(0);
}

static void busy_loop(int argc, char **argv)
{
    (void) argc, (void) argv;
    event_loop(1);
}

static void alone(int argc, char **argv)
{
    (void) argc, (void) argv;
    scene_ready();
}

int main(int argc, char **argv)
{
    static const scene_entry scenes[] = {
        { "alone", alone },
        { "condvar-pool", condvar_pool },
        { "joined-pool", joined_pool },
        { "sigwait-pool", sigwait_pool },
        { "semaphore-pool", semaphore_pool },
        { "contention", contention },
        { "sleepy-contention", sleepy_contention },
        { "ordered-contention", ordered_contention },
        { "readers-and-writers", readers_and_writers },
        { "timed-waits", timed_waits },
        { "producers-and-consumers", producers_and_consumers },
        { "late-at-barrier", late_at_barrier },
        { "busy-holder", busy_holder },
        { "holder-sleeps", holder_sleeps },
        { "accepting-turns", accepting_turns },
        { "working-turns", working_turns },
        { "other-process-sleeps", other_process_sleeps },
        { "hand-counter", hand_counter },
        { "idle-loop", idle_loop },
        { "busy-loop", busy_loop },
        { NULL, NULL },
    };
    return scene_main(scenes, argc, argv);
}
