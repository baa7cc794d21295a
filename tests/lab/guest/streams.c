/* poll, epoll, connections, message queues */
#include "guest.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/socket.h>
#include <sys/un.h>

static char byte;

static void poll_one(int fd)
{
	struct pollfd one = { .fd = fd, .events = POLLIN };

	poll(&one, 1, -1);
}

static void epoll_one(int fd)
{
	struct epoll_event event = { .events = EPOLLIN };
	int set = CHECK(epoll_create1(0));

	CHECK(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event));
	epoll_wait(set, &event, 1, -1);
}

/* Each one waits for the other's request, one by poll(), one by epoll. */
static int to_a[2], to_b[2];

CROSS(poll_cycle, "pl", actor_process, (CHECK(pipe(to_a)), CHECK(pipe(to_b))),
      (close(to_a[1]), close(to_b[0])), poll_one(to_a[0]),
      (close(to_b[1]), close(to_a[0])), epoll_one(to_b[0]))

/* ul-a holds a lock and waits for ul-b's answer, which has yet to accept and wants the lock. */
static const struct sockaddr_un listening = { AF_UNIX, "/tmp/listening" };
static int listener, client;

static void make_listener(void)
{
	listener = CHECK(socket(AF_UNIX, SOCK_STREAM, 0));
	CHECK(bind(listener, (const struct sockaddr *)&listening, sizeof(listening)));
	CHECK(listen(listener, 1));
}

static int lock_file(void)
{
	return flock(CHECK(open("/tmp/accept-lock", O_RDWR | O_CREAT, 0600)), LOCK_EX);
}

static void lock_and_connect(void)
{
	close(listener);
	CHECK(lock_file());
	client = CHECK(socket(AF_UNIX, SOCK_STREAM, 0));
	CHECK(connect(client, (const struct sockaddr *)&listening, sizeof(listening)));
}

CROSS(unix_accept, "ul", actor_process, make_listener(),
      lock_and_connect(), read(client, &byte, 1),
      (void)0, lock_file())

/* Both ends of a TCP connection wait for the other's request. */
static int tcp[2];

static void make_connection(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct ifreq lo = { .ifr_name = "lo" };
	socklen_t size = sizeof(address);
	int server = CHECK(socket(AF_INET, SOCK_STREAM, 0));

	lo.ifr_flags = IFF_UP | IFF_RUNNING;
	CHECK(ioctl(server, SIOCSIFFLAGS, &lo));
	CHECK(bind(server, (struct sockaddr *)&address, size));
	CHECK(listen(server, 1));
	CHECK(getsockname(server, (struct sockaddr *)&address, &size));
	tcp[0] = CHECK(socket(AF_INET, SOCK_STREAM, 0));
	CHECK(connect(tcp[0], (struct sockaddr *)&address, size));
	tcp[1] = CHECK(accept(server, NULL, NULL));
	close(server);
}

CROSS(tcp_cycle, "tc", actor_process, make_connection(),
      close(tcp[1]), recv(tcp[0], &byte, 1, 0),
      close(tcp[0]), recv(tcp[1], &byte, 1, 0))

/* Each one answers the other one's messages, and has none. */
static int queues[2];

struct message {
	long type;
	char text[8];
};

static void send_to(int queue)
{
	struct message message = { .type = 1 };

	CHECK(msgsnd(queue, &message, sizeof(message.text), 0));
}

static int receive(int queue)
{
	struct message message;

	return msgrcv(queue, &message, sizeof(message.text), 0, 0);
}

static void make_queues(void)
{
	for (int i = 0; i < 2; i++)
		queues[i] = CHECK(msgget(IPC_PRIVATE, 0600));
}

CROSS(sysv_messages, "mq", actor_process, make_queues(),
      (send_to(queues[1]), CHECK(receive(queues[0]))), receive(queues[0]),
      (send_to(queues[0]), CHECK(receive(queues[1]))), receive(queues[1]))

/* Idle services: whoever they wait for sleeps, or may come at any time. */
static int idle[2];

static void reads_idle(void *unused)
{
	(void)unused;
	close(idle[1]);
	FOREVER(read(idle[0], &byte, 1));
}

static void polls_idle(void *unused)
{
	(void)unused;
	close(idle[1]);
	FOREVER(poll_one(idle[0]));
}

static void holds_idle(void *unused)
{
	(void)unused;
	close(idle[0]);
	FOREVER(sleep(100000));
}

/* A listening socket with a name of the kernel's choice. */
static int serve(void)
{
	struct sockaddr_un any = { .sun_family = AF_UNIX };
	int server = CHECK(socket(AF_UNIX, SOCK_STREAM, 0));

	CHECK(bind(server, (struct sockaddr *)&any, sizeof(any.sun_family)));
	CHECK(listen(server, 1));
	return server;
}

static void accepts(void *unused)
{
	int server = serve();

	(void)unused;
	FOREVER(accept(server, NULL, NULL));
}

static void watches(void *unused)
{
	int server = serve();

	(void)unused;
	FOREVER(epoll_one(server));
}

GUEST(stream_quiet)
{
	CHECK(pipe(idle));
	actor_process("qs-reads", reads_idle, NULL);
	actor_process("qs-polls", polls_idle, NULL);
	actor_process("qs-holds", holds_idle, NULL);
	actor_process("qs-accepts", accepts, NULL);
	actor_process("qs-watches", watches, NULL);
}
