// Deadlocks of the C++ standard library's locks, and what looks like them.
#include "scene.h"

#include <chrono>
#include <condition_variable>
#include <future>
#include <mutex>
#include <shared_mutex>
#include <thread>

#if __cplusplus > 201703L
#include <version>
#endif
#ifdef __cpp_lib_semaphore
#include <semaphore>
#endif
#ifdef __cpp_lib_latch
#include <latch>
#endif
#ifdef __cpp_lib_barrier
#include <barrier>
#endif

namespace {

using std::chrono::hours;

scene_point held, go;

// "I hold what I am to hold"; returns when everybody may go and block.
void hold()
{
    scene_arrive(&held);
    scene_wait(&go, 1);
}

// Once `holders` hold theirs everybody goes and blocks.
void start(int holders)
{
    scene_wait(&held, holders);
    scene_ready();
    scene_arrive(&go);
}

template <typename Body> void thread(const char *name, Body body)
{
    std::thread([=] {
        scene_name(name);
        body();
    }).detach();
}

template <typename Body> void thread(const char *prefix, int number, Body body)
{
    std::thread([=] {
        scene_name_number(prefix, number);
        body();
    }).detach();
}

// Two threads that hold one lock each and want the other's, by the given guards.
template <typename First, typename Second, typename Lock> void cross(Lock &one, Lock &other)
{
    thread("a", [&] {
        First first(one);
        hold();
        Second second(other);
    });
    thread("b", [&] {
        First first(other);
        hold();
        Second second(one);
    });
    start(2);
    scene_idle();
}

// A lock that knows how long to wait.
template <typename Lock> struct within_an_hour {
    explicit within_an_hour(Lock &lock) { (void) lock.try_lock_for(hours(1)); }
};

template <typename Lock> struct shared_within_an_hour {
    explicit shared_within_an_hour(Lock &lock) { (void) lock.try_lock_shared_for(hours(1)); }
};

struct account {
    long balance = 0;
    char owner[32] = {};
    std::mutex lock;
};

account accounts[2];
std::mutex audit;
std::timed_mutex timed_one, timed_other;
std::recursive_mutex recursive_one, recursive_other;
std::recursive_timed_mutex recursive_timed_one, recursive_timed_other;
std::shared_mutex shared_one, shared_other;
std::shared_timed_mutex shared_timed_one, shared_timed_other;

void mutex()
{
    using guard = std::lock_guard<std::mutex>;
    cross<guard, guard>(accounts[0].lock, audit);
}

void unique_lock()
{
    using guard = std::unique_lock<std::mutex>;
    cross<guard, guard>(accounts[0].lock, audit);
}

void scoped_lock()
{
    using guard = std::scoped_lock<std::mutex>;
    cross<guard, guard>(accounts[0].lock, audit);
}

void timed()
{
    using mutex = std::timed_mutex;
    cross<std::lock_guard<mutex>, within_an_hour<mutex>>(timed_one, timed_other);
}

void recursive()
{
    using guard = std::lock_guard<std::recursive_mutex>;
    cross<guard, guard>(recursive_one, recursive_other);
}

void recursive_timed()
{
    using mutex = std::recursive_timed_mutex;
    cross<std::lock_guard<mutex>, within_an_hour<mutex>>(recursive_timed_one,
                                                         recursive_timed_other);
}

void self()
{
    thread("a", [] {
        std::lock_guard<std::mutex> first(audit);
        hold();
        std::lock_guard<std::mutex> second(audit);
    });
    start(1);
    scene_idle();
}

void shared_writers()
{
    using guard = std::unique_lock<std::shared_mutex>;
    cross<guard, guard>(shared_one, shared_other);
}

void shared_readers()
{
    using mutex = std::shared_mutex;
    cross<std::shared_lock<mutex>, std::unique_lock<mutex>>(shared_one, shared_other);
}

// Both write one and want to read the other.
void shared_mixed()
{
    using mutex = std::shared_mutex;
    cross<std::unique_lock<mutex>, std::shared_lock<mutex>>(shared_one, shared_other);
}

void shared_timed_writers()
{
    using mutex = std::shared_timed_mutex;
    cross<std::unique_lock<mutex>, within_an_hour<mutex>>(shared_timed_one, shared_timed_other);
}

void shared_timed_readers()
{
    using mutex = std::shared_timed_mutex;
    cross<std::unique_lock<mutex>, shared_within_an_hour<mutex>>(shared_timed_one,
                                                                 shared_timed_other);
}

std::once_flag once_one, once_other;

void once()
{
    thread("a", [] {
        std::call_once(once_one, [] {
            hold();
            std::call_once(once_other, [] {});
        });
    });
    thread("b", [] {
        std::call_once(once_other, [] {
            hold();
            std::call_once(once_one, [] {});
        });
    });
    start(2);
    scene_idle();
}

// Local statics whose initialisers need each other's.
int prices();

int stock()
{
    static int value = [] {
        hold();
        return prices() + 1;
    }();
    return value;
}

int prices()
{
    static int value = [] {
        hold();
        return stock() + 1;
    }();
    return value;
}

void static_initialiser()
{
    thread("a", [] { stock(); });
    thread("b", [] { prices(); });
    start(2);
    scene_idle();
}

// A local static whose initialiser needs itself, in the end.
int rates();

int fees()
{
    return rates() + 1;
}

int rates()
{
    static int value = [] {
        hold();
        return fees() + 1;
    }();
    return value;
}

void static_self()
{
    for (int i = 0; i < 3; i++) // these queue, and have lower thread ids than who runs it
        thread("v", i, [] {
            scene_wait(&go, 1);
            rates();
        });
    thread("a", [] { rates(); });
    start(1);
    scene_idle();
}

// The initialiser wants a mutex that b holds while it needs the static.
int rebates()
{
    static int value = [] {
        hold();
        std::lock_guard<std::mutex> guard(audit);
        return 1;
    }();
    return value;
}

void static_mutex()
{
    thread("a", [] { rebates(); });
    thread("b", [] {
        std::lock_guard<std::mutex> guard(audit);
        hold();
        rebates();
    });
    start(2);
    scene_idle();
}

// Not a deadlock: an initialiser that takes its time.
int late_prices()
{
    static int value = [] {
        hold();
        std::this_thread::sleep_for(hours(1));
        return 1;
    }();
    return value;
}

void static_sleeper()
{
    thread("a", [] { late_prices(); });
    thread("b", [] {
        scene_wait(&go, 1);
        std::lock_guard<std::mutex> guard(audit);
        late_prices();
    });
    start(1);
    scene_idle();
}

// a holds the mutex and waits for the task b, which wants it.
void async()
{
    thread("a", [] {
        std::lock_guard<std::mutex> guard(audit);
        auto answer = std::async(std::launch::async, [] {
            scene_name("b");
            hold();
            std::lock_guard<std::mutex> late(audit);
            return 42;
        });
        hold();
        answer.get();
    });
    start(2);
    scene_idle();
}

// The same through a promise, which names nobody.
void promise()
{
    static std::promise<int> answer;
    thread("a", [] {
        std::lock_guard<std::mutex> guard(audit);
        hold();
        answer.get_future().get();
    });
    scene_wait(&held, 1);
    thread("b", [] {
        hold();
        std::lock_guard<std::mutex> late(audit);
        answer.set_value(42);
    });
    start(2);
    scene_idle();
}

void join()
{
    static std::thread b;
    thread("a", [] {
        std::lock_guard<std::mutex> guard(audit);
        b = std::thread([] {
            scene_name("b");
            hold();
            std::lock_guard<std::mutex> late(audit);
        });
        hold();
        b.join();
    });
    start(2);
    scene_idle();
}

std::condition_variable work;
std::condition_variable_any any_work;
bool there_is_work;

// Not deadlocks: pools without work.
void pool()
{
    for (int i = 0; i < 4; i++)
        thread("w", i, [] {
            std::unique_lock<std::mutex> lock(audit);
            scene_arrive(&held);
            work.wait(lock, [] { return there_is_work; });
        });
    start(4);
    scene_idle();
}

void pool_any()
{
    for (int i = 0; i < 4; i++)
        thread("w", i, [] {
            std::shared_lock<std::shared_mutex> lock(shared_one);
            scene_arrive(&held);
            any_work.wait(lock, [] { return there_is_work; });
        });
    start(4);
    scene_idle();
}

#ifdef __cpp_lib_semaphore
std::binary_semaphore binary_one(1), binary_other(1);
std::counting_semaphore<8> slots_one(1), slots_other(1);

template <typename Semaphore> struct acquire {
    explicit acquire(Semaphore &semaphore) : taken(semaphore) { semaphore.acquire(); }
    ~acquire() { taken.release(); }
    Semaphore &taken;
};

// Not a deadlock: workers without work; who would give them some waits for input.
void semaphore_pool()
{
    static std::counting_semaphore<8> work(0);
    for (int i = 0; i < 3; i++)
        thread("w", i, [] {
            scene_arrive(&held);
            work.acquire();
        });
    thread("feeder", [] {
        char line;
        int ends[2];
        scene_require(pipe(ends) == 0, "pipe");
        hold();
        while (read(ends[0], &line, 1) > 0)
            work.release();
    });
    start(4);
    scene_idle();
}

void binary_semaphore()
{
    using take = acquire<std::binary_semaphore>;
    cross<take, take>(binary_one, binary_other);
}

void counting_semaphore()
{
    using take = acquire<std::counting_semaphore<8>>;
    cross<take, take>(slots_one, slots_other);
}
#endif

#ifdef __cpp_lib_latch
std::latch latch_one(1), latch_other(1);

// Each waits for the other's latch before it opens its own.
void latch()
{
    thread("a", [] {
        hold();
        latch_other.wait();
        latch_one.count_down();
    });
    thread("b", [] {
        hold();
        latch_one.wait();
        latch_other.count_down();
    });
    start(2);
    scene_idle();
}
#endif

#ifdef __cpp_lib_latch
// Two are to open the latch, and both want the mutex of the one who waits for it.
std::latch latch_both(2);

void latch_of_two()
{
    thread("a", [] {
        std::lock_guard<std::mutex> guard(audit);
        hold();
        latch_both.wait();
    });
    scene_wait(&held, 1);
    for (int i = 0; i < 2; i++)
        thread("w", i, [] {
            hold();
            {
                std::lock_guard<std::mutex> guard(audit);
            }
            latch_both.count_down();
        });
    start(3);
    scene_idle();
}

// Not a deadlock: who is to open the latch sleeps, with the mutex that others want.
void latch_sleeper()
{
    thread("a", [] {
        std::lock_guard<std::mutex> guard(audit);
        hold();
        std::this_thread::sleep_for(hours(1));
        latch_one.count_down();
    });
    scene_wait(&held, 1);
    thread("b", [] {
        hold();
        latch_one.wait();
    });
    thread("c", [] {
        hold();
        std::lock_guard<std::mutex> guard(audit);
    });
    start(3);
    scene_idle();
}
#endif

#ifdef __cpp_lib_barrier
std::barrier everybody(2);

// a waits at the barrier for b, which wants the mutex that a holds.
void barrier()
{
    thread("a", [] {
        std::lock_guard<std::mutex> guard(audit);
        hold();
        everybody.arrive_and_wait();
    });
    scene_wait(&held, 1);
    thread("b", [] {
        hold();
        std::lock_guard<std::mutex> late(audit);
        everybody.arrive_and_wait();
    });
    start(2);
    scene_idle();
}
#endif

[[maybe_unused]] void too_old()
{
    scene_skip("the standard library lacks it");
}

#ifndef __cpp_lib_semaphore
constexpr auto binary_semaphore = too_old, counting_semaphore = too_old;
constexpr auto semaphore_pool = too_old;
#endif
#ifndef __cpp_lib_latch
constexpr auto latch = too_old, latch_of_two = too_old, latch_sleeper = too_old;
#endif
#ifndef __cpp_lib_barrier
constexpr auto barrier = too_old;
#endif

// a waits for what b would tell it but for a's mutex, or c, once it catches what it will be thrown.
std::mutex outer_mutex, inner_mutex;
std::condition_variable told;
bool known;

[[gnu::noinline]] void throw_later()
{
    std::this_thread::sleep_for(hours(10));
    throw 1;
}

void tell()
{
    std::lock_guard<std::mutex> lock(inner_mutex);
    known = true;
    told.notify_all();
}

void caught()
{
    std::thread([] {
        scene_name("a");
        std::lock_guard<std::mutex> outer(outer_mutex);
        std::unique_lock<std::mutex> inner(inner_mutex);
        hold();
        told.wait(inner, [] { return known; });
    }).detach();
    std::thread([] {
        scene_name("b");
        hold();
        std::lock_guard<std::mutex> outer(outer_mutex);
        tell();
    }).detach();
    std::thread([] {
        scene_name("c");
        hold();
        try {
            throw_later();
        } catch (int) {
            tell();
        }
    }).detach();
    start(3);
    scene_idle();
}

template <void (*scene)()> void play(int, char **)
{
    scene();
}

} // namespace

int main(int argc, char **argv)
{
    static const scene_entry scenes[] = {
        { "mutex", play<mutex> },
        { "unique-lock", play<unique_lock> },
        { "scoped-lock", play<scoped_lock> },
        { "timed", play<timed> },
        { "recursive", play<recursive> },
        { "recursive-timed", play<recursive_timed> },
        { "self", play<self> },
        { "shared-writers", play<shared_writers> },
        { "shared-readers", play<shared_readers> },
        { "shared-mixed", play<shared_mixed> },
        { "shared-timed-writers", play<shared_timed_writers> },
        { "shared-timed-readers", play<shared_timed_readers> },
        { "once", play<once> },
        { "static", play<static_initialiser> },
        { "static-self", play<static_self> },
        { "static-mutex", play<static_mutex> },
        { "static-sleeper", play<static_sleeper> },
        { "async", play<async> },
        { "promise", play<promise> },
        { "join", play<join> },
        { "pool", play<pool> },
        { "pool-any", play<pool_any> },
        { "binary-semaphore", play<binary_semaphore> },
        { "counting-semaphore", play<counting_semaphore> },
        { "semaphore-pool", play<semaphore_pool> },
        { "latch", play<latch> },
        { "latch-of-two", play<latch_of_two> },
        { "latch-sleeper", play<latch_sleeper> },
        { "barrier", play<barrier> },
        { "caught", play<caught> },
        { nullptr, nullptr },
    };
    return scene_main(scenes, argc, argv);
}
