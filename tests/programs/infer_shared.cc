// std::shared_mutex held by readers "a" and "b", each of which wants to write the other's.
#include <cstdio>
#include <mutex>
#include <pthread.h>
#include <shared_mutex>
#include <thread>
#include <unistd.h>

struct table {
    int id = 0;
    std::shared_mutex lock;
    int rows = 0;
};
static table users, orders;
static pthread_barrier_t both;

static int update(table &mine, table &other, const char *name)
{
    pthread_setname_np(pthread_self(), name);
    std::shared_lock<std::shared_mutex> guard(mine.lock);
    pthread_barrier_wait(&both);
    std::unique_lock<std::shared_mutex> writer(other.lock);
    return other.rows += mine.rows;
}

static int innocent()
{
    {
        std::shared_lock<std::shared_mutex> scoped(users.lock);
        users.rows++;
    }
    std::shared_lock<std::shared_mutex> unlocked(orders.lock);
    unlocked.unlock();
    std::shared_lock<std::shared_mutex> deferred(users.lock, std::defer_lock);
    pause();
    std::unique_lock<std::shared_mutex> later(orders.lock);
    return orders.rows;
}

int main()
{
    pthread_barrier_init(&both, nullptr, 2);
    std::thread i(innocent);
    usleep(50000);
    std::thread a([] { update(users, orders, "a"); });
    std::thread b([] { update(orders, users, "b"); });
    usleep(50000);
    std::printf("ready\n");
    std::fflush(stdout);
    pause();
}
