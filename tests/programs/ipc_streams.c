/* Processes that wait for each other's data: pipes, FIFOs, unix sockets, loopback TCP. */
#include "ipc.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

/* Pipe i goes from process i + 1 to the next one (the last one's to p1). */
#define PIPES 4
static int ends[PIPES][2];
static int connection[2] = { -1, -1 }; /* what each side of a connection uses; [0] is p1's */
static int listener = -1;

static void make_pipes(int n)
{
    for (int i = 0; i < n; i++)
        scene_require(pipe(ends[i]) == 0, "pipe");
}

static void read_from(int fd)
{
    char buffer[64];
    if (read(fd, buffer, sizeof buffer) < 0)
        _exit(1);
}

static void write_until_full(int fd)
{
    static const char block[4096];
    for (;;)
        if (write(fd, block, sizeof block) < 0)
            _exit(1);
}

/* p1 writes to pipe 0 and reads pipe 1; p2 the other way round. */
static void keep_own_ends(void)
{
    close(ends[me - 1][0]);
    close(ends[me % 2][1]);
}

static void read_answer(void)
{
    read_from(ends[me % 2][0]);
}

static void write_request(void)
{
    write_until_full(ends[me - 1][1]);
}

IPC_SCENE(reading_pipes, make_pipes(2);
          IPC_PLAY({ keep_own_ends, read_answer }, { keep_own_ends, read_answer }))
IPC_SCENE(reading_open_pipes, make_pipes(2);
          IPC_PLAY({ ipc_nothing, read_answer }, { ipc_nothing, read_answer }))
IPC_SCENE(writing_pipes, make_pipes(2);
          IPC_PLAY({ keep_own_ends, write_request }, { keep_own_ends, write_request }))

/* Both open requests, then answers: one of them for reading, the other for writing. */
static void open_fifos(void)
{
    static const char *const names[] = { "requests", "answers" };
    for (int i = 0; i < 2; i++) {
        int writer = i == me - 1;
        ends[i][writer] = open(names[i], writer ? O_WRONLY : O_RDONLY);
        scene_require(ends[i][writer] >= 0, "open of a FIFO");
    }
}

static void with_fifos(int argc, char **argv)
{
    (void) argc, (void) argv;
    scene_require(mkfifo("requests", 0600) == 0 && mkfifo("answers", 0600) == 0, "mkfifo");
    IPC_PLAY({ open_fifos, read_answer }, { open_fifos, read_answer });
}

/* A daemon that reads commands from a FIFO, which it keeps open by writing to it itself. */
static void read_commands(int argc, char **argv)
{
    (void) argc, (void) argv;
    scene_require(mkfifo("commands", 0600) == 0, "mkfifo");
    ends[0][0] = open("commands", O_RDWR);
    scene_require(ends[0][0] >= 0, "open of a FIFO");
    scene_name("p1");
    scene_ready();
    for (;;)
        read_from(ends[0][0]);
}

/* A program that reads what its signal handlers write. */
static void on_signal(int number)
{
    char byte = (char) number;
    if (write(ends[0][1], &byte, 1) < 0)
        _exit(1);
}

static void read_signals(int argc, char **argv)
{
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
    (void) argc, (void) argv;
    make_pipes(1);
    sigaction(SIGHUP, &action, NULL);
    scene_name("p1");
    scene_ready();
    for (;;)
        read_from(ends[0][0]);
}

/* p1 waits for the end of p2, which reads what only p1 could write. */
static void poll_process(void)
{
    struct pollfd end = { (int) syscall(SYS_pidfd_open, stage->pids[2], 0), POLLIN, 0 };
    if (end.fd < 0)
        scene_skip("no pidfd_open in this kernel");
    while (poll(&end, 1, -1) < 0)
        ;
}

IPC_SCENE(polling_process, make_pipes(2);
          IPC_PLAY({ keep_own_ends, poll_process }, { keep_own_ends, read_answer }))

/* One connection, each side waiting for the other to speak. */
static void keep_own_side(void)
{
    close(connection[me % 2]);
}

static void read_connection(void)
{
    read_from(connection[me - 1]);
}

static void receive_on_connection(void)
{
    struct msghdr message;
    char buffer[64];
    struct iovec part = { buffer, sizeof buffer };
    memset(&message, 0, sizeof message);
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (recvmsg(connection[me - 1], &message, 0) < 0)
        _exit(1);
}

static void write_connection(void)
{
    write_until_full(connection[me - 1]);
}

static void make_pair(int type)
{
    scene_require(socketpair(AF_UNIX, type, 0, connection) == 0, "socketpair");
}

IPC_SCENE(unix_pair, make_pair(SOCK_STREAM);
          IPC_PLAY({ keep_own_side, read_connection }, { keep_own_side, read_connection }))
IPC_SCENE(unix_pair_open, make_pair(SOCK_STREAM);
          IPC_PLAY({ ipc_nothing, read_connection }, { ipc_nothing, read_connection }))
IPC_SCENE(unix_datagrams, make_pair(SOCK_DGRAM);
          IPC_PLAY({ keep_own_side, receive_on_connection },
                   { keep_own_side, receive_on_connection }))
IPC_SCENE(unix_packets, make_pair(SOCK_SEQPACKET);
          IPC_PLAY({ keep_own_side, receive_on_connection },
                   { keep_own_side, receive_on_connection }))
IPC_SCENE(unix_full, make_pair(SOCK_STREAM);
          IPC_PLAY({ keep_own_side, write_connection }, { keep_own_side, write_connection }))

/* Writes until nothing has fitted in for half a second: TCP's buffers grow and drain for a
 * while, and nobody shall be woken once the scene is set. */
static void fill_connection(void)
{
    static const char block[4096];
    for (int patience = 0; patience < 50; patience++) {
        while (send(connection[me - 1], block, sizeof block, MSG_DONTWAIT) > 0)
            patience = 0;
        usleep(10 * 1000);
    }
}

/* p1 listens and accepts, p2 connects: unix by path, or TCP over the loopback device. */
static union {
    struct sockaddr any;
    struct sockaddr_un local;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
} address;
static socklen_t address_size;

static void listen_at(int family)
{
    memset(&address, 0, sizeof address);
    address.any.sa_family = (sa_family_t) family;
    if (family == AF_UNIX) {
        strcpy(address.local.sun_path, "socket");
        address_size = sizeof address.local;
    } else if (family == AF_INET) {
        address.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        address_size = sizeof address.v4;
    } else {
        address.v6.sin6_addr = in6addr_loopback;
        address_size = sizeof address.v6;
    }
    listener = socket(family, SOCK_STREAM, 0);
    if (listener < 0 || bind(listener, &address.any, address_size) != 0)
        scene_skip("cannot bind a socket of this family");
    scene_require(listen(listener, 5) == 0, "listen");
    if (family != AF_UNIX)
        getsockname(listener, &address.any, &address_size);
}

static void accept_peer(void)
{
    connection[0] = accept(listener, NULL, NULL);
    scene_require(connection[0] >= 0, "accept");
}

static void accept_and_close_listener(void)
{
    accept_peer();
    close(listener);
}

static void connect_peer(void)
{
    close(listener);
    connection[1] = socket(address.any.sa_family, SOCK_STREAM, 0);
    scene_require(connect(connection[1], &address.any, address_size) == 0, "connect");
}

#define CONNECTED(name, family, wait)                                                       \
    IPC_SCENE(name, listen_at(family);                                             \
              IPC_PLAY({ accept_and_close_listener, wait }, { connect_peer, wait }))
CONNECTED(unix_named, AF_UNIX, read_connection)
CONNECTED(tcp4, AF_INET, read_connection)
CONNECTED(tcp6, AF_INET6, read_connection)

static void accept_and_fill(void)
{
    accept_and_close_listener();
    fill_connection();
}

static void connect_and_fill(void)
{
    connect_peer();
    fill_connection();
}

IPC_SCENE(tcp_full, listen_at(AF_INET);
          IPC_PLAY({ accept_and_fill, write_connection }, { connect_and_fill, write_connection }))

/* A ring of three over pipes. */
static void keep_ring_ends(void)
{
    for (int i = 0; i < 3; i++) {
        if (i != me - 1)
            close(ends[i][1]);
        if (i != (me + 1) % 3)
            close(ends[i][0]);
    }
}

static void read_previous(void)
{
    read_from(ends[(me + 1) % 3][0]);
}

IPC_SCENE(ring, make_pipes(3);
          IPC_PLAY({ keep_ring_ends, read_previous }, { keep_ring_ends, read_previous },
                   { keep_ring_ends, read_previous }))

/* The parent waits for the child to exit, the child for a byte from the parent. */
static void wait_for_child(void)
{
    waitpid(stage->pids[2], NULL, 0);
}

static void read_from_parent(void)
{
    read_from(ends[0][0]);
}

IPC_SCENE(waiting_parent, make_pipes(2);
          IPC_PLAY({ keep_own_ends, wait_for_child }, { keep_own_ends, read_from_parent }))

/* The same, and a signal ends both: a supervisor. */
static void supervise(void)
{
    signal(SIGTERM, on_signal);
    wait_for_child();
}

IPC_SCENE(supervisor, make_pipes(2);
          IPC_PLAY({ keep_own_ends, supervise }, { keep_own_ends, read_from_parent }))

/* Not deadlocks: somebody may still speak. */
static void accept_another(void)
{
    accept(listener, NULL, NULL);
}

static void watch(int with_listener)
{
    struct epoll_event event = { EPOLLIN, { 0 } };
    int poller = epoll_create1(0);
    epoll_ctl(poller, EPOLL_CTL_ADD, connection[me - 1], &event);
    if (with_listener)
        epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    while (epoll_wait(poller, &event, 1, -1) < 0 && errno == EINTR) { /* a debugger came */
    }
}

static void watch_connection(void)
{
    watch(0);
}

static void watch_everything(void)
{
    watch(1);
}

static void poll_two(void)
{
    struct pollfd files[2] = { { connection[0], POLLIN, 0 }, { listener, POLLIN, 0 } };
    poll(files, 2, -1);
}

IPC_SCENE(idle_accept, listen_at(AF_INET);
          IPC_PLAY({ accept_peer, accept_another }, { connect_peer, ipc_sleep }))
IPC_SCENE(idle_epoll, listen_at(AF_UNIX);
          IPC_PLAY({ accept_peer, watch_everything }, { connect_peer, watch_connection }))
IPC_SCENE(idle_poll, listen_at(AF_INET);
          IPC_PLAY({ accept_peer, poll_two }, { connect_peer, read_connection }))

/* p2, a client at its prompt: reads a terminal whose other side p3 keeps. */
static int terminal = -1;

static void open_terminal(void)
{
    terminal = open(ptsname(terminal), O_RDWR | O_NOCTTY);
    scene_require(terminal >= 0, "open of a terminal");
    connect_peer();
}

static void accept_without_terminal(void)
{
    close(terminal);
    accept_peer();
}

static void read_terminal(void)
{
    read_from(terminal);
}

static void at_prompt(int argc, char **argv)
{
    (void) argc, (void) argv;
    listen_at(AF_UNIX);
    terminal = posix_openpt(O_RDWR | O_NOCTTY);
    scene_require(terminal >= 0 && grantpt(terminal) == 0 && unlockpt(terminal) == 0,
                  "posix_openpt");
    IPC_PLAY({ accept_without_terminal, watch_everything }, { open_terminal, read_terminal },
             { ipc_nothing, ipc_sleep });
}

/* A shell (p1) that waits for p2 | p3 | p4; what p2 reads is fed by p5, which sleeps.  Pipe i
 * feeds p(i + 2). */
static void keep_stage_ends(void)
{
    for (int i = 0; i < PIPES - 1; i++) {
        if (i != me - 2)
            close(ends[i][0]);
        if (i != (me == 5 ? 0 : me - 1))
            close(ends[i][1]);
    }
}

static void read_stage(void)
{
    read_from(ends[me - 2][0]);
}

static void wait_for_last(void)
{
    waitpid(stage->pids[4], NULL, 0);
}

IPC_SCENE(pipeline, make_pipes(PIPES - 1);
          IPC_PLAY({ keep_stage_ends, wait_for_last }, { keep_stage_ends, read_stage },
                   { keep_stage_ends, read_stage }, { keep_stage_ends, read_stage },
                   { keep_stage_ends, ipc_sleep }))

int main(int argc, char **argv)
{
    static const scene_entry scenes[] = {
        { "pipe", reading_pipes },
        { "pipe-open", reading_open_pipes },
        { "pipe-full", writing_pipes },
        { "pipe-ring", ring },
        { "fifo", with_fifos },
        { "pidfd", polling_process },
        { "idle-fifo", read_commands },
        { "idle-self-pipe", read_signals },
        { "unix-pair", unix_pair },
        { "unix-pair-open", unix_pair_open },
        { "unix-dgram", unix_datagrams },
        { "unix-seqpacket", unix_packets },
        { "unix-full", unix_full },
        { "unix-named", unix_named },
        { "tcp4", tcp4 },
        { "tcp6", tcp6 },
        { "tcp-full", tcp_full },
        { "child", waiting_parent },
        { "supervisor", supervisor },
        { "idle-accept", idle_accept },
        { "idle-epoll", idle_epoll },
        { "idle-poll", idle_poll },
        { "idle-prompt", at_prompt },
        { "idle-pipeline", pipeline },
        { NULL, NULL },
    };
    return ipc_main(scenes, argc, argv);
}
