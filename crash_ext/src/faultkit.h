/* What the files of _faultkit.so share: Python, embedded into crash.
 *
 * crash reports errors by longjmp() and the gdb inside it by C++ exceptions; neither may pass
 * over a frame of Python's.  So everything of crash's that can fail is called through a guard.
 */
#ifndef FAULTKIT_H
#define FAULTKIT_H

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x03090000
#include <Python.h>

#include "defs.h"

#include <errno.h>
#include <signal.h>

#define FK_EXPORT __attribute__((visibility("default")))

/* guard.c: how a guarded call ended */
enum fk_end { FK_DONE, FK_FATAL, FK_EXCEPTION, FK_INTERRUPTED };

typedef void (*fk_call)(void *argument);

/* Call what may use all of crash, its gdb too.  Output goes to `out`, errors to `err`; NULL drops
 * them.  Streams, arguments, flags and handlers of the running command are the same afterwards. */
enum fk_end fk_guard(fk_call call, void *argument, FILE *out, FILE *err);

/* The cheap one, for what only reads memory: error(FATAL) comes back, nothing else can happen. */
enum fk_end fk_guard_read(fk_call call, void *argument);

/* try.cc: returns 1 if the call threw a C++ exception, else 0 */
int fk_try(fk_call call, void *argument);

/* signals.c: SIGINT is Python's while Python runs, and polite while crash does */
void fk_signals_python(void);
void fk_signals_crash(void);
int fk_signals_caught(void); /* whether ^C came since fk_signals_crash() */
void fk_signals_drop_quit(void);

/* capture.c: where the output of crash's commands is caught */
FILE *fk_capture_begin(void);               /* NULL with a Python exception set */
PyObject *fk_capture_end(FILE *stream);     /* the text; streams end in the opposite order */

/* commands.c: commands that Python declares */
extern int fk_depth;                        /* how many of our commands run inside each other */
int fk_commands_register(PyObject *dispatch, PyObject *commands);

/* layout.c: NULL if crash's structures are laid out as defs.h says, else which one is not */
const char *fk_layout_unknown(const char *filename);

/* module.c: the Python module _faultkit, and its exception for what crash refused */
extern PyObject *fk_error;
PyObject *fk_module(void);
PyObject *fk_raise(enum fk_end end, const char *what, PyObject *text); /* steals text */

/* python.c: starts Python once and imports faultkit, from the folder above crash_ext */
int fk_python_start(const char *folder);

extern PyMethodDef fk_memory_methods[], fk_symbol_methods[], fk_type_methods[], fk_task_methods[],
    fk_exec_methods[], fk_output_methods[], fk_btf_methods[];

#endif
