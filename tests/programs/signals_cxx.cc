// Ends by an exception that nobody catches: one scene each.
#define _GLIBCXX_ASSERTIONS 1
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace app {
struct config_error : std::runtime_error {
    using std::runtime_error::runtime_error;
};
struct plain {
    int code;
};
}  // namespace app

struct shape {
    shape() { area(); }
    virtual ~shape() = default;
    virtual int scale() = 0;
    void area() { scale(); }
};
struct square : shape {
    int scale() override { return 1; }
};

struct node {
    node *next;
    int weights[16];
    virtual int weight(int at) { return next->weights[at]; }
};

static void thrower() { throw std::logic_error("in noexcept"); }
static void none() noexcept { thrower(); }

__attribute__((noinline)) static void last_words() { abort(); }

int main(int argc, char **argv)
{
    std::string scene = argc > 1 ? argv[1] : "";
    if (scene == "runtime_error")
        throw std::runtime_error("disk is on fire");
    if (scene == "own_type")
        throw app::config_error("no such key: port");
    if (scene == "plain_type")
        throw app::plain{3};
    if (scene == "number")
        throw 42;
    if (scene == "text")
        throw "just text";
    if (scene == "noexcept")
        none();
    if (scene == "rethrown") {
        std::exception_ptr kept;
        try {
            throw app::config_error("kept for later");
        } catch (...) {
            kept = std::current_exception();
        }
        std::rethrow_exception(kept);
    }
    if (scene == "caught_then_abort") {
        try {
            throw std::runtime_error("caught long ago");
        } catch (const std::exception &) {
        }
        abort();
    }
    if (scene == "abort_in_catch") {
        try {
            throw std::runtime_error("it is being handled");
        } catch (const std::exception &) {
            abort();
        }
    }
    if (scene == "own_handler") {
        std::set_terminate(last_words);
        throw std::runtime_error("told by a handler");
    }
    if (scene == "nothing_to_rethrow")
        throw;
    if (scene == "joinable") {
        std::thread thread([] {});
    }
    if (scene == "pure_virtual")
        square{};
    if (scene == "index") {
        std::vector<int> three(3);
        return three[argc + 4];
    }
    if (scene == "null_this") {
        node first{};
        return first.weight(argc + 1);
    }
    return 0;
}
