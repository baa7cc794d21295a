/* Signals whose first look deceives: tests/test_sigsrc_hard.py. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

#define SCENE(name) { #name, name }
static const struct { const char *name; void (*play)(void); } scenes[] = {
    SCENE(abort_with_all_blocked), SCENE(divide_with_all_blocked), SCENE(own_signal_let_through),
};

int main(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < sizeof scenes / sizeof *scenes; i++)
        if (!strcmp(argv[1], scenes[i].name))
            scenes[i].play();
    return 0;
}
