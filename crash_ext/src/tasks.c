/* The tasks that crash has found. */
#include "faultkit.h"

struct reading {
    ulong address;
    uint value;
    int good;
};

static void read_it(void *argument)
{
    struct reading *r = argument;

    r->good = readmem(r->address, KVADDR, &r->value, sizeof r->value, "tgid",
                      RETURN_ON_ERROR | QUIET);
}

/* One call for all: a call for each of thousands would take longer than the rest. */
static PyObject *tasks(PyObject *module, PyObject *arguments)
{
    struct task_context *context = tt->context_array;
    PyObject *list = PyList_New(0), *item, *comm;
    unsigned long offset, i;

    if (!list || !PyArg_ParseTuple(arguments, "k", &offset))
        goto failed;
    for (i = 0; i < tt->running_tasks; i++, context++) {
        struct reading tgid = {.address = context->task + offset};

        if (fk_guard_read(read_it, &tgid) != FK_DONE || !tgid.good)
            tgid.value = context->pid;
        comm = PyUnicode_DecodeUTF8(context->comm, strnlen(context->comm, sizeof context->comm),
                                    "backslashreplace");
        item = comm ? Py_BuildValue("(kkINi)", context->task, context->pid, tgid.value, comm,
                                    context->processor) : NULL;
        if (!item || PyList_Append(list, item)) {
            Py_XDECREF(item);
            goto failed;
        }
        Py_DECREF(item);
    }
    return list;
failed:
    Py_XDECREF(list);
    return NULL;
}

PyMethodDef fk_task_methods[] = {
    {"tasks", tasks, METH_VARARGS,
     "tasks(offset of tgid): [(task, pid, tgid, comm, processor), ...] of the kernel's own ids"},
    {NULL},
};
