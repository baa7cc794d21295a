/* A semaphore that another thread would post, but for the mutex that the waiter has: that is no
 * deadlock, as somebody else posts it, too, or may, or ends the wait. */
#include "scene.h"

#include <semaphore.h>
#include <setjmp.h>
#include <sys/mman.h>

static sem_t done;
static pthread_mutex_t wanted = PTHREAD_MUTEX_INITIALIZER;

static void *posts_later(void *argument)
{
    scene_name("poster");
    pthread_mutex_lock(&wanted);
    sem_post(&done);
    pthread_mutex_unlock(&wanted);
    return argument;
}

static void wait_for_post(void)
{
    sem_init(&done, 0, 0);
    pthread_mutex_lock(&wanted);
    scene_thread(posts_later, NULL);
    usleep(100000);
    scene_ready();
    while (sem_wait(&done))
        ;
    pthread_mutex_unlock(&wanted);
}

static void post_by_timer(union sigval unused)
{
    (void) unused;
    sem_post(&done);
}

static void timer_posts(int argc, char **argv)
{
    struct sigevent event = { .sigev_notify = SIGEV_THREAD };
    struct itimerspec late = { .it_value = { .tv_sec = 36000 } };
    timer_t timer;

    (void) argc, (void) argv;
    event.sigev_notify_function = post_by_timer;
    scene_require(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0, "timer_create");
    timer_settime(timer, 0, &late, NULL);
    wait_for_post();
}

static void post_by_signal(int number)
{
    (void) number;
    sem_post(&done);
}

static void handler_posts(int argc, char **argv)
{
    (void) argc, (void) argv;
    signal(SIGUSR1, post_by_signal);
    wait_for_post();
}

/* A thread posts what it will be told then; and one that is not there yet. */
static int told[2];

static void *posts_what_it_is_told(void *argument)
{
    sem_t *semaphore;

    scene_name("told");
    while (read(told[0], &semaphore, sizeof semaphore) == sizeof semaphore)
        sem_post(semaphore);
    return argument;
}

static void *tells_later(void *argument)
{
    sem_t *semaphore = &done;

    sleep(100000);
    if (write(told[1], &semaphore, sizeof semaphore) < 0)
        _exit(1);
    return argument;
}

static void queue_posts(int argc, char **argv)
{
    (void) argc, (void) argv;
    scene_require(pipe(told) == 0, "pipe");
    scene_thread(posts_what_it_is_told, NULL);
    scene_thread(tells_later, NULL);
    wait_for_post();
}

static void *posts_at_once(void *argument)
{
    sem_post(&done);
    return argument;
}

static void *starts_another_later(void *argument)
{
    sleep(100000);
    scene_thread(posts_at_once, NULL);
    return argument;
}

static void late_thread_posts(int argc, char **argv)
{
    (void) argc, (void) argv;
    scene_thread(starts_another_later, NULL);
    wait_for_post();
}

/* Or the waiter gives up, and what it has. */
static pthread_t waiter;

static void give_up(void *mutex)
{
    pthread_mutex_unlock(mutex);
}

static void *cancels_later(void *argument)
{
    sleep(100000);
    pthread_cancel(waiter);
    return argument;
}

static void waiter_cancelled(int argc, char **argv)
{
    (void) argc, (void) argv;
    waiter = pthread_self();
    scene_thread(cancels_later, NULL);
    pthread_cleanup_push(give_up, &wanted);
    wait_for_post();
    pthread_cleanup_pop(0);
}

/* Or somebody gets there by a way that no call or return leads. */
static jmp_buf way;

static __attribute__((noinline)) void jump_later(void)
{
    sleep(100000);
    longjmp(way, 1);
}

static void *posts_after_a_jump(void *argument)
{
    if (setjmp(way) == 0)
        jump_later();
    else
        sem_post(&done);
    return argument;
}

static void jumper_posts(int argc, char **argv)
{
    (void) argc, (void) argv;
    scene_thread(posts_after_a_jump, NULL);
    wait_for_post();
}

/* Or another process does, which shares what is waited for. */
static struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    pthread_barrier_t gate;
} *shared;

static void *signals_later(void *argument)
{
    scene_name("signaller");
    pthread_mutex_lock(&wanted);
    pthread_cond_broadcast(&shared->changed);
    pthread_mutex_unlock(&wanted);
    return argument;
}

static void *arrives_later(void *argument)
{
    scene_name("late");
    pthread_mutex_lock(&wanted);
    pthread_mutex_unlock(&wanted);
    pthread_barrier_wait(&shared->gate);
    return argument;
}

static void share(void)
{
    pthread_condattr_t of_condition;
    pthread_barrierattr_t of_barrier;

    shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    scene_require(shared != MAP_FAILED, "mmap");
    pthread_mutex_init(&shared->mutex, NULL);
    pthread_condattr_init(&of_condition);
    pthread_condattr_setpshared(&of_condition, PTHREAD_PROCESS_SHARED);
    pthread_cond_init(&shared->changed, &of_condition);
    pthread_barrierattr_init(&of_barrier);
    pthread_barrierattr_setpshared(&of_barrier, PTHREAD_PROCESS_SHARED);
    pthread_barrier_init(&shared->gate, &of_barrier, 2);
    if (fork() == 0) {
        scene_mortal();
        sleep(100000);
        pthread_cond_broadcast(&shared->changed);
        pthread_barrier_wait(&shared->gate);
        _exit(0);
    }
    pthread_mutex_lock(&wanted);
}

static void process_signals(int argc, char **argv)
{
    (void) argc, (void) argv;
    share();
    scene_thread(signals_later, NULL);
    usleep(100000);
    pthread_mutex_lock(&shared->mutex);
    scene_ready();
    for (;;)
        pthread_cond_wait(&shared->changed, &shared->mutex);
}

static void process_arrives(int argc, char **argv)
{
    (void) argc, (void) argv;
    share();
    scene_thread(arrives_later, NULL);
    usleep(100000);
    scene_ready();
    pthread_barrier_wait(&shared->gate);
}

int main(int argc, char **argv)
{
    static const scene_entry scenes[] = {
        { "timer-posts", timer_posts },
        { "handler-posts", handler_posts },
        { "queue-posts", queue_posts },
        { "late-thread-posts", late_thread_posts },
        { "waiter-cancelled", waiter_cancelled },
        { "jumper-posts", jumper_posts },
        { "process-signals", process_signals },
        { "process-arrives", process_arrives },
        { NULL, NULL },
    };
    return scene_main(scenes, argc, argv);
}
