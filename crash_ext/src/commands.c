/* Commands: Python declares them, one C function runs them all. */
#include "faultkit.h"

int fk_depth;
static PyObject *dispatch;

static PyObject *words(void)
{
    PyObject *list = PyList_New(0), *word;
    int i;

    for (i = 0; list && i < argcnt; i++) {
        word = PyUnicode_DecodeLocale(args[i], "surrogateescape");
        if (!word || PyList_Append(list, word))
            Py_CLEAR(list);
        Py_XDECREF(word);
    }
    return list;
}

static void command(void)
{
    struct sigaction interrupt, pipe_closed, ignore = {.sa_handler = SIG_IGN};
    int sigint_cnt = pc->sigint_cnt;
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *list, *result = NULL;

    sigaction(SIGINT, NULL, &interrupt);
    sigaction(SIGPIPE, &ignore, &pipe_closed); /* restart(SIGPIPE) would longjmp over Python */
    pc->sigint_cnt = -1000000;                 /* and so would a stray restart(SIGINT) */
    fk_depth++;
    fk_signals_python();
    if ((list = words()))
        result = PyObject_CallFunctionObjArgs(dispatch, list, NULL);
    fk_depth--;
    if (!result)
        PyErr_Print();
    Py_XDECREF(result);
    Py_XDECREF(list);
    PyGILState_Release(state);
    pc->sigint_cnt = sigint_cnt;
    sigaction(SIGPIPE, &pipe_closed, NULL);
    sigaction(SIGINT, &interrupt, NULL);
}

/* A copy that stays: pc->lastcmd and the table of help point to it even after unloading. */
static char *kept(PyObject *text)
{
    PyObject *bytes = text ? PyUnicode_AsUTF8String(text) : NULL;
    char *copy = bytes ? strdup(PyBytes_AsString(bytes)) : NULL;

    Py_XDECREF(bytes);
    Py_XDECREF(text);
    return copy;
}

static int fill(struct command_table_entry *entry, PyObject *item)
{
    PyObject *lines = PySequence_GetItem(item, 1);
    Py_ssize_t i, count = lines ? PySequence_Size(lines) : -1;

    entry->name = kept(PySequence_GetItem(item, 0));
    entry->func = command;
    entry->flags = REFRESH_TASK_TABLE; /* of a live system, as for ps and foreach */
    entry->help_data = count < 0 ? NULL : calloc(count + 1, sizeof(char *));
    for (i = 0; entry->help_data && i < count; i++)
        entry->help_data[i] = kept(PySequence_GetItem(lines, i));
    Py_XDECREF(lines);
    return entry->name && entry->help_data && !PyErr_Occurred() ? 0 : -1;
}

/* `commands`: [(name, [name, short text, synopsis, line of description...]), ...].  A name that is
 * taken would have crash refuse the whole table: it is left out. */
int fk_commands_register(PyObject *function, PyObject *commands)
{
    Py_ssize_t i, used = 0, count = PySequence_Size(commands);
    struct command_table_entry *table = count < 0 ? NULL : calloc(count + 1, sizeof *table);

    if (!table)
        return -1;
    for (i = 0; i < count; i++) {
        PyObject *item = PySequence_GetItem(commands, i);
        int bad = !item || fill(&table[used], item);

        Py_XDECREF(item);
        if (bad)
            return -1;
        if (get_command_table_entry(table[used].name))
            memset(&table[used], 0, sizeof *table);
        else
            used++;
    }
    Py_XDECREF(dispatch);
    Py_INCREF(function);
    dispatch = function;
    register_extension(table);
    return 0;
}
