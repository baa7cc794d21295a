/* crash's commands, and gdb's, with their output as text. */
#include "faultkit.h"

static void run(void *argument)
{
    strcpy(pc->command_line, argument);
    clean_line(pc->command_line);
    strcpy(pc->orig_line, pc->command_line);
    if ((argcnt = parse_line(pc->command_line, args)))
        exec_command();
}

static void run_gdb(void *argument)
{
    gdb_pass_through(argument, fp, 0);
}

static PyObject *captured(fk_call call, char *command)
{
    FILE *out, *err;
    PyObject *text, *errors;
    enum fk_end end;

    if (strlen(command) >= BUFSIZE) {
        PyErr_SetString(PyExc_ValueError, "the command is too long");
        return NULL;
    }
    if (!(err = fk_capture_begin()))
        return NULL;
    if (!(out = fk_capture_begin())) {
        Py_XDECREF(fk_capture_end(err));
        return NULL;
    }
    end = fk_guard(call, command, out, err);
    text = fk_capture_end(out);
    errors = text ? fk_capture_end(err) : NULL;
    if (!text || !errors) {
        Py_XDECREF(text);
        return NULL;
    }
    if (end != FK_DONE) {
        Py_DECREF(text);
        return fk_raise(end, command, errors);
    }
    return Py_BuildValue("(NN)", text, errors);
}

static PyObject *exec_crash(PyObject *module, PyObject *arguments)
{
    char *command;

    if (!PyArg_ParseTuple(arguments, "s", &command))
        return NULL;
    return captured(run, command);
}

static PyObject *exec_gdb(PyObject *module, PyObject *arguments)
{
    char *command, *copy;
    PyObject *result;

    if (!PyArg_ParseTuple(arguments, "s", &command))
        return NULL;
    if (!(copy = strdup(command)))
        return PyErr_NoMemory();
    result = captured(run_gdb, copy);
    free(copy);
    return result;
}

PyMethodDef fk_exec_methods[] = {
    {"run", exec_crash, METH_VARARGS,
     "run(command of crash): (output, error messages); Error if the command was broken off"},
    {"gdb", exec_gdb, METH_VARARGS, "gdb(command of gdb): (output, error messages), or Error"},
    {NULL},
};
