/* Signals whose first look deceives: tests/test_sigsrc_hard.py. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int *volatile nothing;

static void handle(int number, void (*plain)(int), void (*told)(int, siginfo_t *, void *))
{
    struct sigaction action = { .sa_flags = told ? SA_SIGINFO : 0 };
    if (told)
        action.sa_sigaction = told;
    else
        action.sa_handler = plain;
    sigfillset(&action.sa_mask);
    sigaction(number, &action, NULL);
}

static void give_up(int number)
{
    (void) number;
    abort();
}

/* The mask of a handler that blocks all signals does not tell which one it handles. */
static void abort_with_all_blocked(void)
{
    handle(SIGTERM, give_up, NULL);
    raise(SIGTERM);
}

static void divide_with_all_blocked(void)
{
    static volatile int zero;
    handle(SIGFPE, give_up, NULL);
    zero = 7 / zero;
}

/* Dies of its own signal, which it lets through although the handler blocks all. */
static void let_through(int number, siginfo_t *info, void *context)
{
    sigset_t one;
    (void) info, (void) context;
    signal(number, SIG_DFL);
    sigemptyset(&one);
    sigaddset(&one, number);
    sigprocmask(SIG_UNBLOCK, &one, NULL);
    raise(number);
}

static void own_signal_let_through(void)
{
    handle(SIGSEGV, NULL, let_through);
    *nothing = 1;
}

/* Killed by a child, which is gone then: that workers are told of their parent's death, as the code
   here asks for, has nothing to do with it. */
static void killed_by_a_child(void)
{
    pid_t parent = getpid();
    if (!fork()) {
        prctl(PR_SET_PDEATHSIG, SIGQUIT);
        signal(SIGQUIT, SIG_IGN);
        kill(parent, SIGQUIT);
        _exit(0);
    }
    sleep(10);
}

/* Killed by an elder sibling, which is gone then; the parent lives. */
static void killed_by_a_sibling(void)
{
    int ends[2];
    pid_t younger;
    pipe(ends);
    if (!fork()) {
        read(ends[0], &younger, sizeof younger);
        kill(younger, SIGQUIT);
        _exit(0);
    }
    younger = fork();
    if (!younger) {
        sleep(10);
        _exit(0);
    }
    write(ends[1], &younger, sizeof younger);
    while (wait(NULL) > 0)
        ;
}

/* SIGABRT to itself, and no abort(). */
static void abort_signal_by_pidfd(void)
{
    int fd = syscall(SYS_pidfd_open, getpid(), 0);
    syscall(SYS_pidfd_send_signal, fd, SIGABRT, NULL, 0);
}

/* A descriptor of a restartable sequence that cannot be: the kernel looks at it whenever it has
   interrupted the program, here in a system call. */
static void kernel_gives_up(void)
{
    struct {
        unsigned cpu_id_start, cpu_id;
        unsigned long cs;
        unsigned flags;
        char more[12];
    } __attribute__((aligned(32))) area = { .cpu_id = -1u };
    if (syscall(SYS_rseq, &area, sizeof area, 0, 0x53053053)) {
        puts("skip no restartable sequences of our own here");
        exit(0);
    }
    area.cs = 16;
    for (;;)
        usleep(1000);
}

/* A handler that passes its signal on while it may come at once. */
static void pass_on(int number, siginfo_t *info, void *context)
{
    (void) context;
    signal(number, SIG_DFL);
    syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), number, info);
}

static void passed_on(void)
{
    struct sigaction action = { .sa_sigaction = pass_on, .sa_flags = SA_SIGINFO | SA_NODEFER };
    sigaction(SIGSEGV, &action, NULL);
    *nothing = 1;
}

/* An address of the kernel's, whose constant part is the displacement of a register that is 0. */
static void kernel_address(void)
{
    __asm__ volatile("movb -0x7f000000(%0), %%al" : : "r"((long) 0) : "rax");
}

/* Too long without a sleep at a real-time priority: long before RLIMIT_CPU could count. */
static void real_time(void)
{
    struct sched_param one = { .sched_priority = 1 };
    struct rlimit brief = { 100000, RLIM_INFINITY };
    if (sched_setscheduler(0, SCHED_FIFO, &one)) {
        puts("skip no real-time priorities here");
        exit(0);
    }
    setrlimit(RLIMIT_RTTIME, &brief);
    for (;;)
        ;
}

/* One thread sends, the other one dies of it where it sleeps. */
static void *victim(void *unused)
{
    sleep(10);
    return unused;
}

static void sent_by_another_thread(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, victim, NULL);
    usleep(100000);
    pthread_kill(thread, SIGBUS);
    sleep(10);
}

/* malloc() meets a null pointer in its own lists, and fread() one in the FILE that it is given. */
static void null_in_the_heap(void)
{
    volatile unsigned long *first = malloc(2000), *next = malloc(24), *freed = first;
    __asm__ volatile("" : "+r"(freed)); /* the compiler knows better than to use what it frees */
    free((void *) first);
    freed[1] = 16;
    *next = (unsigned long) malloc(1000);
}

static void null_in_a_file(void)
{
    FILE *file = fopen("/proc/self/maps", "r");
    char bytes[5];
    memset((char *) file + 0x88, 0, 8); /* _lock */
    fread(bytes, 1, sizeof bytes, file);
}

static __attribute__((noinline)) void count(int *counter) { *counter += 1; }

static void small_pointer(void)
{
    int *volatile small = (int *) 0x80;
    count(small);
}

/* Fills a sparse file, by its mapping, until the file system is full. */
static void full_file_system(void)
{
    int fd = open("full/sparse", O_RDWR | O_CREAT, 0600);
    char *bytes;
    if (fd < 0 || ftruncate(fd, 4 << 20))
        exit(1);
    bytes = mmap(NULL, 4 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    for (int at = 0; at < 4 << 20; at += 4096)
        bytes[at] = 1;
}

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

static __attribute__((noinline)) int recurse(int depth)
{
    volatile char room[500];
    room[depth % 500] = 1;
    return depth ? recurse(depth + 1) + room[0] : 0;
}

static void *overflow(void *unused)
{
    nothing = (void *) (long) recurse(1);
    return unused;
}

/* A stack whose guard is no mapping of its own, as glibc 2.42 makes them. */
static void marked_guard(void)
{
    size_t size = 1 << 18, guard = 4096;
    char *stack = mmap(NULL, size + guard, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pthread_attr_t attributes;
    pthread_t thread;

    if (madvise(stack, guard, MADV_GUARD_INSTALL))
        mprotect(stack, guard, PROT_NONE); /* a kernel before 6.13 */
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, stack + guard, size);
    pthread_create(&thread, &attributes, overflow, NULL);
    pthread_join(thread, NULL);
}

/* The divisor lies in memory that no core has. */
static void divide_by_what_is_left_out(void)
{
    int *divisor = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), keep;
    madvise(divisor, 4096, MADV_DONTDUMP);
    __asm__ volatile("xorl %%edx, %%edx; idivl %1" : "=a"(keep) : "m"(*divisor), "0"(10) : "edx");
    nothing = (void *) (long) keep;
}

static void wait_for_it(void)
{
    puts("ready");
    fflush(stdout);
    for (;;)
        pause();
}

#define SCENE(name) { #name, name }
static const struct { const char *name; void (*play)(void); } scenes[] = {
    SCENE(abort_with_all_blocked), SCENE(divide_with_all_blocked), SCENE(own_signal_let_through),
    SCENE(killed_by_a_child), SCENE(killed_by_a_sibling), SCENE(abort_signal_by_pidfd), SCENE(passed_on), SCENE(kernel_gives_up), SCENE(kernel_address),
    SCENE(real_time), SCENE(sent_by_another_thread),
    SCENE(null_in_the_heap), SCENE(null_in_a_file), SCENE(small_pointer), SCENE(full_file_system), SCENE(marked_guard), SCENE(divide_by_what_is_left_out),
    { "wait", wait_for_it },
};

int main(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < sizeof scenes / sizeof *scenes; i++)
        if (!strcmp(argv[1], scenes[i].name))
            scenes[i].play();
    return 0;
}
