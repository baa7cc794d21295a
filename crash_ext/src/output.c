/* What Python prints: to crash's fp, which is the terminal, a pager, a pipe or a file. */
#include "faultkit.h"
#include <unistd.h>

static PyObject *failed(void)
{
    int why = errno;

    clearerr(fp);
    errno = why ? why : EPIPE;
    return PyErr_SetFromErrno(PyExc_OSError);
}

static PyObject *write_out(PyObject *module, PyObject *bytes)
{
    char *text;
    Py_ssize_t size;

    if (PyBytes_AsStringAndSize(bytes, &text, &size))
        return NULL;
    errno = 0;
    if ((Py_ssize_t) fwrite(text, 1, size, fp) != size || fflush(fp))
        return failed();
    if (PyErr_CheckSignals())
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *is_terminal(PyObject *module, PyObject *unused)
{
    return PyBool_FromLong(fp == stdout && isatty(fileno(stdout)));
}

PyMethodDef fk_output_methods[] = {
    {"write", write_out, METH_O, "write(bytes): to the output of the running command, or OSError"},
    {"is_terminal", is_terminal, METH_NOARGS,
     "is_terminal(): whether the output goes to a terminal, without a pager between"},
    {NULL},
};
