/* Ends by a signal, or waits with signals pending: one function per scene of tests/test_sigsrc*. */
#define _GNU_SOURCE
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#if __has_include(<linux/filter.h>) /* which musl does not bring */
#include <linux/filter.h>
#include <linux/seccomp.h>
#endif
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#pragma GCC diagnostic ignored "-Wpragmas"
#pragma GCC diagnostic ignored "-Wfree-nonheap-object"
#pragma GCC diagnostic ignored "-Wuse-after-free"
#pragma GCC diagnostic ignored "-Wunused-result"
#pragma GCC diagnostic ignored "-Warray-bounds"
#pragma GCC diagnostic ignored "-Wstringop-overflow"
#pragma GCC diagnostic ignored "-Winfinite-recursion"
#pragma GCC diagnostic ignored "-Wdiv-by-zero"
#pragma GCC diagnostic ignored "-Wnonnull"
#pragma GCC diagnostic ignored "-Wstringop-overread"

#define NOINLINE __attribute__((noinline, noipa))

struct peer { char host[48]; int port; };
struct conn { int fd; char name[20]; struct conn *next; struct peer *peer; };

static volatile int zero;
static volatile int64_t keep;
static char *volatile null_text;
static struct conn connection;
static const char constant[] = "a constant";

static NOINLINE int peer_port(struct conn *c)
{
    return c->peer->port;
}

static void null_member(void) { keep = peer_port(&connection); }

static void null_read(void) { keep = *(volatile int *) null_text; }

static void null_write(void) { *(volatile int *) null_text = 1; }

static void null_strlen(void) { keep = strlen(null_text); }

static NOINLINE void callback(void (*volatile function)(void)) { function(); keep++; }

static void null_call(void) { callback(NULL); }

static void null_index(void)
{
    volatile int *array = (volatile int *) null_text;
    keep = array[zero + 5000000];
}

static void non_canonical(void)
{
    volatile uint64_t bad = 0x4847464544434241;
    keep = *(volatile int *) (bad + 8);
}

static void non_canonical_call(void)
{
    volatile uint64_t bad = 0x8000123412341234;
    callback((void (*)(void)) bad);
}

static NOINLINE void smash(uint64_t value)
{
    uint64_t *volatile frame = __builtin_frame_address(0);
    frame[1] = value;
}

static void bad_return(void) { smash(0x4141414141414141); }

static void wild(void) { keep = *(volatile int *) 0x123456789000; }

static void truncated_pointer(void)
{
    char *volatile text = malloc(64);
    keep = *(volatile char *) (uintptr_t) (int) (uintptr_t) text;
}

static void read_only(void) { *(volatile char *) (constant + zero) = 'X'; }

static void no_access(void)
{
    char *page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    keep = *(volatile char *) page;
}

static void execute_data(void)
{
    static unsigned char code[] = { 0xc3 };
    callback((void (*)(void)) (uintptr_t) code);
}

static void execute_heap(void)
{
    char *code = malloc(64);
    memset(code, 0xc3, 64);
    callback((void (*)(void)) (uintptr_t) code);
}

static void wild_call(void) { callback((void (*)(void)) 0x123456789abc); }

static NOINLINE int recurse(int depth)
{
    volatile char room[512];
    room[depth % 512] = depth;
    return recurse(depth + 1) + room[0];
}

static void main_overflow(void) { keep = recurse(1); }

static void *overflow_thread(void *unused)
{
    (void) unused;
    keep = recurse(1);
    return NULL;
}

static void run_thread(void *(*function)(void *))
{
    pthread_t thread;
    pthread_create(&thread, NULL, function, NULL);
    pthread_join(thread, NULL);
}

static void thread_overflow(void) { run_thread(overflow_thread); }

static NOINLINE void large_frame(void)
{
    volatile char room[12 << 20];
    room[zero] = 1;
    keep = room[1];
}

static void truncated_file(void)
{
    int fd = open("mapped-file", O_RDWR | O_CREAT, 0600);
    ftruncate(fd, 3 * 4096);
    char *map = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ftruncate(fd, 4096);
    keep = map[2 * 4096 + 100];
}

static void misaligned(void)
{
    static char room[64] __attribute__((aligned(16)));
    __asm__ volatile("movaps %%xmm0, %0" : : "m"(*(room + 1)));
}

static void divide(void) { keep = 10 / zero; }

static void divide_overflow(void)
{
    volatile int least = -2147483647 - 1, minus = -1;
    keep = least / minus;
}

static void float_trap(void)
{
    volatile double one = 1.0, none = 0.0;
    __builtin_ia32_ldmxcsr(0x1f80 & ~0x200); /* trap on division by zero: no libm is linked */
    one /= none;
    keep = one > 0;
}

static void trap(void) { __builtin_trap(); }

static NOINLINE int patched(int x)
{
    return x * 17 + zero;
}

static void corrupted_text(void)
{
    unsigned char *code = (unsigned char *) (uintptr_t) patched;
    mprotect((void *) ((uintptr_t) code & -4096), 8192, PROT_READ | PROT_WRITE | PROT_EXEC);
    code[0] = 0x06; /* push %es: invalid in 64-bit code */
    keep = patched(1);
}

static void breakpoint(void) { __asm__ volatile("int3"); }

static void privileged(void) { __asm__ volatile("hlt"); }

static void assertion(void) { assert(connection.fd == 42 && "the answer"); }

static void plain_abort(void) { abort(); }

static void double_free(void)
{
    void *volatile block = malloc(3000);
    free(block);
    free(block);
}

static void invalid_free(void)
{
    char *volatile block = malloc(100);
    free(block + 8);
}

__attribute__((noinline, optimize("stack-protector-all"))) static void overrun_array(void)
{
    char room[16];
    volatile char *volatile at = room;
    for (int i = 0; i < 64; i++)
        at[i] = 'A';
}

static void stack_smash(void) { overrun_array(); }

static void raised(void) { raise(SIGSEGV); }

static void raised_term(void) { raise(SIGQUIT); }

static void killed_itself(void) { kill(getpid(), SIGQUIT); }

static void killed_group(void)
{
    setpgid(0, 0);
    kill(0, SIGQUIT);
}

static void file_limit(void)
{
    struct rlimit limit = { 4096, RLIM_INFINITY };
    static char room[8192];
    int fd = open("limited-file", O_WRONLY | O_CREAT, 0600);
    setrlimit(RLIMIT_FSIZE, &limit);
    signal(SIGXFSZ, SIG_DFL);
    write(fd, room, 4096);
    write(fd, room, 100);
}

static void cpu_limit(void)
{
    struct rlimit limit = { 1, RLIM_INFINITY };
    setrlimit(RLIMIT_CPU, &limit);
    for (;;)
        keep++;
}

static void broken_pipe(void)
{
    int ends[2];
    signal(SIGPIPE, SIG_DFL);
    pipe(ends);
    close(ends[0]);
    write(ends[1], "x", 1);
}

static void broken_socket(void)
{
    int ends[2];
    signal(SIGPIPE, SIG_DFL);
    socketpair(AF_UNIX, SOCK_STREAM, 0, ends);
    close(ends[0]);
    send(ends[1], "x", 1, 0);
}

static void alarm_clock(void)
{
    alarm(1);
    pause();
}

static void interval_timer(void)
{
    struct itimerval soon = { { 0, 0 }, { 0, 50000 } };
    setitimer(ITIMER_REAL, &soon, NULL);
    pause();
}

static void posix_timer(void)
{
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGQUIT,
                              .sigev_value.sival_int = 4242 };
    struct itimerspec soon = { { 0, 0 }, { 0, 50000000 } };
    timer_t timer;
    timer_create(CLOCK_MONOTONIC, &event, &timer);
    timer_settime(timer, 0, &soon, NULL);
    pause();
}

#ifndef SECCOMP_RET_TRAP
#define SECCOMP_RET_TRAP 0
#define SECCOMP_RET_KILL_PROCESS 0
static void refuse(unsigned action) { (void) action; }
#else
static void refuse(unsigned action)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, action | 77),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { 4, filter };
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
    keep = getppid();
}
#endif

static void seccomp_trap(void) { refuse(SECCOMP_RET_TRAP); }

static void seccomp_kill(void) { refuse(SECCOMP_RET_KILL_PROCESS); }

static void protection_key(void)
{
    char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int key = syscall(SYS_pkey_alloc, 0, 1 /* PKEY_DISABLE_ACCESS */);
    if (key < 0) {
        puts("skip no protection keys here");
        fflush(stdout);
        _exit(0);
    }
    syscall(SYS_pkey_mprotect, page, 4096, PROT_READ | PROT_WRITE, key);
    keep = *(volatile char *) page;
}

/* A process may make up the kernel's own codes for itself: what no machine has at hand. */
static void made_up(int number, int code, void *address, int offset, long more)
{
    siginfo_t info = { .si_signo = number, .si_code = code };
    info.si_addr = address;
    memcpy((char *) &info + offset, &more, sizeof more);
    sigset_t one; /* let through later: the call that sends it would tell who did */
    sigemptyset(&one);
    sigaddset(&one, number);
    sigprocmask(SIG_BLOCK, &one, NULL);
    syscall(SYS_rt_sigqueueinfo, getpid(), number, &info);
    sigprocmask(SIG_UNBLOCK, &one, NULL);
}

static void machine_check(void)
{
    made_up(SIGBUS, 4 /* BUS_MCEERR_AR */, malloc(1 << 20), 24, 12);
}

static void shadow_stack(void) { made_up(SIGSEGV, 10 /* SEGV_CPERR */, NULL, 24, 0); }

static void protection_key_told(void)
{
    made_up(SIGSEGV, 4 /* SEGV_PKUERR */, malloc(100), 32, 5);
}

static char scratch[16];

static void bounds(void) { made_up(SIGSEGV, 3 /* SEGV_BNDERR */, scratch, 32, 0x1000); }

static void on_fault(int number)
{
    (void) number;
    abort();
}

static void abort_in_handler(void)
{
    signal(SIGSEGV, on_fault);
    null_member();
}

static void fault_again(int number)
{
    (void) number;
    *(volatile int *) 16 = 1;
}

static void fault_with_siginfo(int number, siginfo_t *info, void *context)
{
    (void) number, (void) info, (void) context;
    *(volatile int *) 32 = 1;
}

static void fault_in_siginfo_handler(void)
{
    struct sigaction action = { .sa_sigaction = fault_with_siginfo, .sa_flags = SA_SIGINFO };
    union sigval value = { .sival_int = 99 };
    sigaction(SIGUSR1, &action, NULL);
    sigqueue(getpid(), SIGUSR1, value);
}

static void on_other_stack(int number)
{
    signal(number, SIG_DFL);
    raise(number);
}

static void fault_in_handler(void)
{
    signal(SIGUSR1, fault_again);
    raise(SIGUSR1);
}

static void overflow_handled(void)
{
    static char room[65536];
    stack_t other = { .ss_sp = room, .ss_size = sizeof room };
    struct sigaction action = { .sa_handler = on_other_stack, .sa_flags = SA_ONSTACK };
    sigaltstack(&other, NULL);
    sigaction(SIGSEGV, &action, NULL);
    keep = recurse(1);
}

static void overflow_unhandled(void)
{
    signal(SIGSEGV, on_fault);
    keep = recurse(1);
}

/* Waits, for signals from outside: with "parent" it dies when its parent does. */
static void wait_for_it(void)
{
    puts("ready");
    fflush(stdout);
    for (;;)
        pause();
}

static void parent_death(void)
{
    int ends[2];
    char byte;
    pipe(ends);
    pid_t middle = fork();
    if (!middle) {
        if (!fork()) {
            prctl(PR_SET_PDEATHSIG, SIGQUIT);
            write(ends[1], "x", 1);
            for (;;)
                pause();
        }
        read(ends[0], &byte, 1);
        _exit(0);
    }
    waitpid(middle, NULL, 0);
    sleep(1);
    _exit(0);
}

static void *idle(void *unused)
{
    (void) unused;
    for (;;)
        pause();
    return NULL;
}

static volatile sig_atomic_t caught;

static void on_usr(int number) { caught = number; }

/* Blocks what it can, in two threads, and waits with it pending. */
static void pending(void)
{
    pthread_t thread;
    sigset_t all;
    signal(SIGHUP, SIG_IGN);
    signal(SIGUSR1, on_usr);
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    pthread_create(&thread, NULL, idle, NULL);
    wait_for_it();
}

/* Has N children of its own send real-time signals, each with what it writes to "senders". */
static void many_senders(void)
{
    int count = 1000, went;
    sigset_t all;
    FILE *list = fopen("senders", "w");
    struct rlimit many = { 4000, 4000 };
    setrlimit(RLIMIT_SIGPENDING, &many);
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    srandom(getpid());
    for (int i = 0; i < count; i++) {
        int number = SIGRTMIN + 1 + random() % (SIGRTMAX - SIGRTMIN - 1), how = random() % 3;
        int uid = getuid() ? (int) getuid() : (int) (random() % 3000);
        union sigval value = { .sival_int = (int) random() - 0x40000000 };
        pid_t target = getpid(), child = fork();
        if (!child) {
            /* the saved id stays root's: it may send */
            if (uid != (int) getuid())
                syscall(SYS_setresuid, uid, 0, 0);
            if (how == 0)
                _exit(kill(target, number));
            if (how == 1)
                _exit(syscall(SYS_tgkill, target, target, number) != 0);
            _exit(sigqueue(target, number, value));
        }
        waitpid(child, &went, 0);
        fprintf(list, "%d %d %d %d %d %d\n", number, how, child, uid, value.sival_int, went);
    }
    fclose(list);
    wait_for_it();
}

/* Handles signals, and counts them in the file "received". */
static void on_any(int number)
{
    char line[16];
    int fd = open("received", O_WRONLY | O_CREAT | O_APPEND, 0600);
    write(fd, line, snprintf(line, sizeof line, "%d\n", number));
    close(fd);
}

static void handles(void)
{
    static const int numbers[] = { SIGUSR1, SIGUSR2, SIGTERM, SIGALRM, SIGINT, SIGCHLD };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        signal(numbers[i], on_any);
    wait_for_it();
}

#define SCENE(name) { #name, name }
static const struct { const char *name; void (*play)(void); } scenes[] = {
    SCENE(null_member), SCENE(null_read), SCENE(null_write), SCENE(null_strlen),
    SCENE(null_call), SCENE(null_index), SCENE(non_canonical), SCENE(non_canonical_call),
    SCENE(bad_return), SCENE(wild), SCENE(truncated_pointer), SCENE(read_only),
    SCENE(no_access), SCENE(execute_data), SCENE(execute_heap), SCENE(wild_call),
    SCENE(main_overflow), SCENE(thread_overflow), SCENE(large_frame), SCENE(truncated_file),
    SCENE(misaligned), SCENE(divide), SCENE(divide_overflow), SCENE(float_trap), SCENE(trap),
    SCENE(corrupted_text), SCENE(breakpoint), SCENE(privileged), SCENE(assertion),
    SCENE(plain_abort), SCENE(double_free), SCENE(invalid_free), SCENE(stack_smash),
    SCENE(raised), SCENE(raised_term), SCENE(killed_itself), SCENE(killed_group),
    SCENE(file_limit), SCENE(cpu_limit), SCENE(broken_pipe), SCENE(broken_socket),
    SCENE(alarm_clock), SCENE(interval_timer), SCENE(posix_timer), SCENE(seccomp_trap),
    SCENE(seccomp_kill), SCENE(protection_key), SCENE(machine_check), SCENE(shadow_stack), SCENE(protection_key_told),
    SCENE(bounds),
    SCENE(abort_in_handler), SCENE(fault_in_handler),
    SCENE(fault_in_siginfo_handler),
    SCENE(overflow_handled), SCENE(overflow_unhandled), SCENE(wait_for_it), SCENE(parent_death),
    SCENE(pending), SCENE(many_senders), SCENE(handles),
};

int main(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < sizeof scenes / sizeof *scenes; i++)
        if (!strcmp(argv[1], scenes[i].name))
            scenes[i].play();
    return 0;
}
