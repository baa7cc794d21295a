/* Where output of crash's commands is caught: a stack of files in memory.
 *
 * They are never closed: gdb keeps the FILE in its gdb_stdout when a command of it throws.
 */
#define _GNU_SOURCE
#include "faultkit.h"
#include <sys/mman.h>
#include <unistd.h>

#define DEEPEST 16
#define BUFFER (1 << 16)

static FILE *streams[DEEPEST];
static int used;

static FILE *new_stream(void)
{
    int descriptor = memfd_create("faultkit", MFD_CLOEXEC);
    FILE *stream = descriptor < 0 ? NULL : fdopen(descriptor, "w+");

    if (!stream)
        PyErr_SetFromErrno(PyExc_OSError);
    else
        setvbuf(stream, NULL, _IOFBF, BUFFER);
    return stream;
}

FILE *fk_capture_begin(void)
{
    FILE *stream;

    if (used >= DEEPEST) {
        PyErr_SetString(fk_error, "commands are nested too deep");
        return NULL;
    }
    if (!streams[used] && !(streams[used] = new_stream()))
        return NULL;
    stream = streams[used++];
    clearerr(stream);
    rewind(stream);
    if (ftruncate(fileno(stream), 0)) {
        used--;
        PyErr_SetFromErrno(PyExc_OSError);
        return NULL;
    }
    return stream;
}

PyObject *fk_capture_end(FILE *stream)
{
    PyObject *text = NULL;
    long size;
    char *buffer;

    fflush(stream);
    used--;
    size = lseek(fileno(stream), 0, SEEK_END);
    if (size < 0 || !(buffer = malloc(size + 1)))
        return PyErr_NoMemory();
    size = pread(fileno(stream), buffer, size, 0);
    if (size < 0)
        PyErr_SetFromErrno(PyExc_OSError);
    else
        text = PyUnicode_DecodeUTF8(buffer, size, "replace");
    free(buffer);
    return text;
}
