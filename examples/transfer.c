/* A bank that stops: a program that deadlocks, for `make demo`.
 *
 * Transfers lock the accounts and then the audit trail they write to; the nightly close locks the
 * audit trail and then the accounts it sums up.  Each order is fine alone.  Together they wait for
 * each other for ever, and the tellers queue up behind them.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define TELLERS 3

static pthread_mutex_t accounts = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t audit = PTHREAD_MUTEX_INITIALIZER;
static long balance[2] = {1000, 1000};
static long entries;

static void take_ms(long ms)
{
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

static void write_audit_entry(void)
{
    pthread_mutex_lock(&audit);
    entries++;
    pthread_mutex_unlock(&audit);
}

static void *transfer(void *unused)
{
    pthread_setname_np(pthread_self(), "transfer");
    pthread_mutex_lock(&accounts);
    balance[0] -= 100;
    take_ms(100); /* the other bank answers */
    balance[1] += 100;
    write_audit_entry();
    pthread_mutex_unlock(&accounts);
    return unused;
}

static void *close_day(void *unused)
{
    pthread_setname_np(pthread_self(), "close-day");
    pthread_mutex_lock(&audit);
    take_ms(100); /* the entries go to the archive */
    pthread_mutex_lock(&accounts);
    printf("sum %ld after %ld entries\n", balance[0] + balance[1], entries);
    pthread_mutex_unlock(&accounts);
    pthread_mutex_unlock(&audit);
    return unused;
}

static void *serve_customer(void *unused)
{
    pthread_setname_np(pthread_self(), "teller");
    take_ms(200);
    pthread_mutex_lock(&accounts);
    balance[0] += 10;
    pthread_mutex_unlock(&accounts);
    return unused;
}

int main(void)
{
    pthread_t threads[2 + TELLERS];
    int count = 0;

    /* So that the demonstration also works where only a parent may trace (yama). */
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
    alarm(600); /* nobody should have to clean up after a demonstration */

    pthread_create(&threads[count++], NULL, transfer, NULL);
    pthread_create(&threads[count++], NULL, close_day, NULL);
    for (int i = 0; i < TELLERS; i++)
        pthread_create(&threads[count++], NULL, serve_customer, NULL);
    while (count--)
        pthread_join(threads[count], NULL);
    return 0;
}
