/* Faults, threads and a signal handler, for what kdecode says of them: one letter chooses. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct packet { struct packet *next; int kind; int len; char tail[16]; };
struct queue { struct packet *head; long count; struct { char *name; } *owner; };
struct packet drained;

static inline __attribute__((always_inline)) int packet_len(struct packet *packet)
{
    return packet->next->len;
}

__attribute__((noinline)) int walk(struct queue *queue, int depth, const char *why)
{
    volatile int local = depth * 2;
    if (depth)
        return walk(queue, depth - 1, why) + local;
    return packet_len(queue->head) + local;
}

__attribute__((noinline)) void set_name(struct queue *queue, char *name)
{
    queue->owner->name = name;
}

__attribute__((noinline)) int divide(int number, int by)
{
    return number / by;
}

static void handler(int number)
{
    volatile int got = number;
    abort();
}

__attribute__((noinline)) int interrupted(int first, int second)
{
    volatile int seen = first + second;
    raise(SIGUSR1);
    return seen;
}

static pthread_barrier_t barrier;
static volatile long woken;

static void *worker(void *argument)
{
    long number = (long) argument;
    pthread_barrier_wait(&barrier);
    for (;;) {
        pause();
        woken += number;
    }
    return NULL;
}

int main(int argc, char **argv)
{
    struct packet *packet = calloc(1, sizeof *packet);
    struct queue queue = { packet, argc, NULL };
    packet->next = (struct packet *) 0x10;
    switch (argv[1][0]) {
    case 'f': return walk(&queue, 2, "draining");
    case 'w': set_name(&queue, argv[1]); break;
    case 'd': return divide(argc + 40, argc - 2);
    case 's': signal(SIGUSR1, handler); return interrupted(argc, 40);
    case 'p': packet->next = (struct packet *) 0x6b6b6b6b6b6b6b6bUL; return walk(&queue, 0, "x");
    case 't':
        pthread_barrier_init(&barrier, NULL, 3);
        for (long i = 1; i <= 2; i++) {
            pthread_t thread;
            pthread_create(&thread, NULL, worker, (void *) i);
        }
        pthread_barrier_wait(&barrier);
        raise(SIGTRAP);
    }
    return queue.count;
}
