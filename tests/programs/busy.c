/* Works without end and proves it: threads hand messages round a ring.
 *
 * Each hop computes a message's next value and checks it against the ledger's, so a message that
 * is lost, doubled or changed shows.  Five times a second main says "note hops N", how far the
 * slowest message has come, and "note longest N", the longest that itself was kept from running,
 * in microseconds.
 */
#include "scene.h"

enum { WORKERS = 4, MESSAGES = 8 };

struct message {
    int id;
    unsigned long value;
};
static struct {
    pthread_mutex_t lock;
    pthread_cond_t filled;
    struct message queue[MESSAGES];
    int count;
} boxes[WORKERS];
static pthread_mutex_t ledger = PTHREAD_MUTEX_INITIALIZER;
static struct {
    unsigned long value, hops;
} entries[MESSAGES];

static unsigned long next_value(unsigned long value)
{
    return value * 6364136223846793005ul + 1442695040888963407ul;
}

static void put(int where, struct message message)
{
    pthread_mutex_lock(&boxes[where].lock);
    boxes[where].queue[boxes[where].count++] = message;
    pthread_cond_signal(&boxes[where].filled);
    pthread_mutex_unlock(&boxes[where].lock);
}

static struct message take(int where)
{
    pthread_mutex_lock(&boxes[where].lock);
    while (boxes[where].count == 0)
        pthread_cond_wait(&boxes[where].filled, &boxes[where].lock);
    struct message message = boxes[where].queue[--boxes[where].count];
    pthread_mutex_unlock(&boxes[where].lock);
    return message;
}

static void *work(void *argument)
{
    int me = (int) (long) argument;
    scene_name_number("w", me);
    for (;;) {
        struct message message = take(me);
        message.value = next_value(message.value);
        pthread_mutex_lock(&ledger);
        entries[message.id].value = next_value(entries[message.id].value);
        entries[message.id].hops++;
        scene_require(entries[message.id].value == message.value, "the check of a message");
        pthread_mutex_unlock(&ledger);
        scene_doze();
        put((me + 1) % WORKERS, message);
    }
    return NULL;
}

static unsigned long microseconds(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (unsigned long) time.tv_sec * 1000000 + (unsigned long) time.tv_nsec / 1000;
}

int main(void)
{
    unsigned long last = microseconds(), said = last, longest = 0;
    for (int i = 0; i < WORKERS; i++) {
        pthread_mutex_init(&boxes[i].lock, NULL);
        pthread_cond_init(&boxes[i].filled, NULL);
    }
    for (long i = 0; i < WORKERS; i++)
        scene_thread(work, (void *) i);
    for (int i = 0; i < MESSAGES; i++) {
        struct message message = { i, 0 };
        put(i % WORKERS, message);
    }
    scene_name("main");
    scene_say("ready\n");
    for (;;) {
        scene_doze();
        unsigned long now = microseconds();
        if (now - last > longest)
            longest = now - last;
        last = now;
        if (now - said > 200000) {
            unsigned long slowest = -1ul;
            pthread_mutex_lock(&ledger);
            for (int i = 0; i < MESSAGES; i++)
                if (entries[i].hops < slowest)
                    slowest = entries[i].hops;
            pthread_mutex_unlock(&ledger);
            scene_note("hops", slowest);
            scene_note("longest", longest);
            said = now;
            longest = 0;
        }
    }
}
