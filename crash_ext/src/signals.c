/* Ctrl-C.  Python takes it while Python runs: KeyboardInterrupt.  While crash runs for us, the
 * first one is remembered (crash's loops look for it and end early) and raised after the call;
 * the second one aborts the call, by crash's own restart() or gdb's quit flag.
 *
 * gdb_interface() installs pc->gdb_sigaction's handler before each call of gdb and restart()
 * after it, so ours is put there, too.
 */
#define _GNU_SOURCE
#include "faultkit.h"
#include <dlfcn.h>

static volatile sig_atomic_t caught;
static void (*gdb_handler)(int);

static void in_python(int signal)
{
    caught++;
    PyErr_SetInterrupt();
}

static void in_crash(int signal)
{
    caught++;
    restart(signal);
}

/* gdb's handler sets its quit flag.  Were the flag left over by a command that ended before it
 * looked, it would end the next, innocent one: so only the second ^C gets there. */
static void in_gdb(int signal)
{
    pc->flags |= _SIGINT_;
    if (caught++ && gdb_handler && gdb_handler != SIG_IGN && gdb_handler != SIG_DFL)
        gdb_handler(signal);
}

static void install(void (*handler)(int), int flags)
{
    struct sigaction action;

    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    action.sa_flags = flags;
    sigaction(SIGINT, &action, NULL);
}

void fk_signals_python(void)
{
    install(in_python, 0);
}

void fk_signals_crash(void)
{
    caught = 0;
    if (pc->gdb_sigaction.sa_handler != in_gdb) {
        gdb_handler = pc->gdb_sigaction.sa_handler;
        pc->gdb_sigaction.sa_handler = in_gdb;
    }
    install(in_crash, SA_NODEFER); /* restart() leaves by longjmp */
}

int fk_signals_caught(void)
{
    return caught;
}

void fk_signals_drop_quit(void)
{
    int (*check_quit_flag)(void) = (int (*)(void)) dlsym(RTLD_DEFAULT, "_Z15check_quit_flagv");

    if (check_quit_flag)
        check_quit_flag();
    caught = 0;
}
