/* musl's normal mutex records no owner: "a" and "b" hold one each and want the other's. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

struct account {
    long id;
    pthread_mutex_t lock;
    long balance;
};
static struct account a = { 1, PTHREAD_MUTEX_INITIALIZER, 5 };
static struct account b = { 2, PTHREAD_MUTEX_INITIALIZER, 7 };
static pthread_cond_t never = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t both;

static void *transfer(void *argument)
{
    struct account *from = argument ? &a : &b, *to = argument ? &b : &a;
    prctl(PR_SET_NAME, argument ? "a" : "b");
    pthread_mutex_lock(&from->lock);
    from->balance--;
    pthread_barrier_wait(&both);
    pthread_mutex_lock(&to->lock);
    to->balance++;
    pthread_mutex_unlock(&to->lock);
    pthread_mutex_unlock(&from->lock);
    return NULL;
}

static void *gave_back(void *argument)
{
    struct account *all[2] = { &a, &b };
    for (int i = 0; i < 2; i++) {
        pthread_mutex_lock(&all[i]->lock);
        all[i]->balance++;
        pthread_mutex_unlock(&all[i]->lock);
    }
    pause();
    printf("%ld\n", all[0]->balance);
    return argument;
}

static void *waits_for_condition(void *argument)
{
    struct account *account = argument;
    pthread_mutex_lock(&account->lock);
    account->balance++;
    pthread_cond_wait(&never, &account->lock);
    pthread_mutex_unlock(&account->lock);
    return NULL;
}

static void start(void *(*function)(void *), void *argument)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, function, argument))
        abort();
    usleep(30000);
}

int main(void)
{
    pthread_barrier_init(&both, NULL, 2);
    start(gave_back, NULL);
    start(waits_for_condition, &a);
    start(waits_for_condition, &b);
    start(transfer, &a);
    start(transfer, NULL);
    printf("ready\n");
    fflush(stdout);
    pause();
    return 0;
}
