/* Cycles that run through threads of one process and through another process. */
#include "ipc.h"

#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t idle_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work = PTHREAD_COND_INITIALIZER;
static pthread_t joined;
static scene_point threads_up; /* of this process */
static int file = -1;
static int channel[2];
static int question[2], callback[2]; /* two connections; [0] is p1's side of both */
static int listener = -1;

static void open_file(void)
{
    file = open("accounts", O_RDWR | O_CREAT, 0600);
    scene_require(file >= 0, "open");
}

static void read_byte(int fd)
{
    char byte;
    if (read(fd, &byte, 1) < 0)
        _exit(1);
}

/* a of p1 holds the mutex and waits for the flock of p2; p2 reads a pipe that only p1 can
 * write to; b of p1, who would, waits for the mutex; p1's main thread joins a. */
static void *holder_of_mutex(void *argument)
{
    (void) argument;
    scene_name("a");
    pthread_mutex_lock(&mutex);
    scene_arrive(&threads_up);
    scene_wait(&stage->go, 1);
    flock(file, LOCK_EX);
    return NULL;
}

static void *waiter_for_mutex(void *argument)
{
    (void) argument;
    scene_name("b");
    scene_arrive(&threads_up);
    scene_wait(&stage->go, 1);
    pthread_mutex_lock(&mutex);
    if (write(channel[1], "", 1) < 0)
        _exit(1);
    return NULL;
}

static void start_a_and_b(void)
{
    open_file();
    close(channel[0]);
    joined = scene_thread(holder_of_mutex, NULL);
    scene_wait(&threads_up, 1);
    scene_thread(waiter_for_mutex, NULL);
    scene_wait(&threads_up, 2);
}

static void join_a(void)
{
    pthread_join(joined, NULL);
}

static void hold_flock(void)
{
    open_file();
    close(channel[1]);
    scene_require(flock(file, LOCK_EX) == 0, "flock");
}

static void read_channel(void)
{
    read_byte(channel[0]);
}

IPC_SCENE(mutex_flock_pipe, scene_require(pipe(channel) == 0, "pipe");
          IPC_PLAY({ start_a_and_b, join_a }, { hold_flock, read_channel }))

/* The same, but p1's main thread sleeps and could still write to the pipe. */
IPC_SCENE(mutex_flock_pipe_sleeper, scene_require(pipe(channel) == 0, "pipe");
          IPC_PLAY({ start_a_and_b, ipc_sleep }, { hold_flock, read_channel }))

/* p1's main thread waits for a's mutex and the process holds a record lock; p2 holds the flock
 * that a waits for and wants the record lock. */
static void record_lock(int command)
{
    struct flock lock;
    memset(&lock, 0, sizeof lock);
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    scene_require(fcntl(file, command, &lock) == 0, "fcntl");
}

static void start_a_with_record_lock(void)
{
    open_file();
    record_lock(F_SETLK);
    scene_thread(holder_of_mutex, NULL);
    scene_wait(&threads_up, 1);
}

static void wait_for_mutex(void)
{
    pthread_mutex_lock(&mutex);
}

static void hold_flock_alone(void)
{
    open_file();
    scene_require(flock(file, LOCK_EX) == 0, "flock");
}

static void wait_for_record_lock(void)
{
    record_lock(F_SETLKW);
}

IPC_SCENE(mutex_flock_posix, IPC_PLAY({ start_a_with_record_lock, wait_for_mutex },
                   { hold_flock_alone, wait_for_record_lock }))

/* A server of several threads: p1 waits for its answer, and its worker (p2's main thread) waits
 * for p1's answer to a callback.  What the server's other threads do decides. */
static void make_connections(void)
{
    scene_require(socketpair(AF_UNIX, SOCK_STREAM, 0, question) == 0, "socketpair");
    scene_require(socketpair(AF_UNIX, SOCK_STREAM, 0, callback) == 0, "socketpair");
}

static void keep_own_sides(void)
{
    close(question[me % 2]);
    close(callback[me % 2]);
}

static void read_question(void)
{
    read_byte(question[me - 1]);
}

static void read_callback(void)
{
    read_byte(callback[me - 1]);
}

static void *idler(void *argument)
{
    scene_name_number("idle", (int) (long) argument);
    pthread_mutex_lock(&idle_mutex);
    scene_arrive(&threads_up);
    for (;;)
        pthread_cond_wait(&work, &idle_mutex);
    return NULL;
}

static void start_idlers(void)
{
    keep_own_sides();
    scene_thread(idler, (void *) 1);
    scene_thread(idler, (void *) 2);
    scene_wait(&threads_up, 2);
}

static void *acceptor(void *argument)
{
    (void) argument;
    scene_name("acceptor");
    scene_arrive(&threads_up);
    accept(listener, NULL, NULL);
    return NULL;
}

static void *poller(void *argument)
{
    struct epoll_event event = { EPOLLIN, { 0 } };
    int poll_fd = epoll_create1(0);
    (void) argument;
    scene_name("poller");
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, listener, &event);
    scene_arrive(&threads_up);
    while (epoll_wait(poll_fd, &event, 1, -1) < 0 && errno == EINTR) { /* a debugger came */
    }
    return NULL;
}

static void listen_somewhere(void)
{
    struct sockaddr_un address;
    memset(&address, 0, sizeof address);
    address.sun_family = AF_UNIX;
    strcpy(address.sun_path, "socket");
    listener = socket(AF_UNIX, SOCK_STREAM, 0);
    scene_require(bind(listener, (struct sockaddr *) &address, sizeof address) == 0, "bind");
    scene_require(listen(listener, 5) == 0, "listen");
}

static void start_with(scene_body body)
{
    keep_own_sides();
    listen_somewhere();
    scene_thread(body, NULL);
    scene_wait(&threads_up, 1);
}

static void start_acceptor(void)
{
    start_with(acceptor);
}

static void start_poller(void)
{
    start_with(poller);
}

IPC_SCENE(server, make_connections();
          IPC_PLAY({ keep_own_sides, read_question }, { start_idlers, read_callback }))
IPC_SCENE(server_accepting, make_connections();
          IPC_PLAY({ keep_own_sides, read_question }, { start_acceptor, read_callback }))
IPC_SCENE(server_polling, make_connections();
          IPC_PLAY({ keep_own_sides, read_question }, { start_poller, read_callback }))

int main(int argc, char **argv)
{
    static const scene_entry scenes[] = {
        { "mutex-flock-pipe", mutex_flock_pipe },
        { "mutex-flock-pipe-sleeper", mutex_flock_pipe_sleeper },
        { "mutex-flock-posix", mutex_flock_posix },
        { "server", server },
        { "server-accepting", server_accepting },
        { "server-polling", server_polling },
        { NULL, NULL },
    };
    return ipc_main(scenes, argc, argv);
}
