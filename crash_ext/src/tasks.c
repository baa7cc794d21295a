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

static int by_task(const void *one, const void *other)
{
    ulong a = ((const struct tgid_context *) one)->task, b = ((const struct tgid_context *) other)->task;

    return a < b ? -1 : a > b;
}

/* crash has read all tgids while it loaded; it keeps them in order of the tgid.  Here by task. */
static struct tgid_context *known_tgids(void)
{
    size_t size = tt->running_tasks * sizeof(struct tgid_context);
    struct tgid_context *known = tt->tgid_array ? malloc(size + 1) : NULL;

    if (known) {
        memcpy(known, tt->tgid_array, size);
        qsort(known, tt->running_tasks, sizeof *known, by_task);
    }
    return known;
}

static uint tgid_of(const struct task_context *context, struct tgid_context *known, ulong offset)
{
    struct tgid_context wanted = {.task = context->task}, *found = NULL;
    struct reading tgid = {.address = context->task + offset};

    if (known)
        found = bsearch(&wanted, known, tt->running_tasks, sizeof *known, by_task);
    if (found)
        return found->tgid;
    if (fk_guard_read(read_it, &tgid) != FK_DONE || !tgid.good)
        return context->pid;
    return tgid.value;
}

/* One call for all: a call for each of thousands would take longer than the rest. */
static PyObject *tasks(PyObject *module, PyObject *arguments)
{
    struct task_context *context = tt->context_array;
    struct tgid_context *known = known_tgids();
    PyObject *list = PyList_New(0), *item, *comm;
    unsigned long offset, i;

    if (!list || !PyArg_ParseTuple(arguments, "k", &offset))
        goto failed;
    for (i = 0; i < tt->running_tasks; i++, context++) {
        comm = PyUnicode_DecodeUTF8(context->comm, strnlen(context->comm, sizeof context->comm),
                                    "backslashreplace");
        item = comm ? Py_BuildValue("(kkINi)", context->task, context->pid,
                                    tgid_of(context, known, offset), comm, context->processor)
                    : NULL;
        if (!item || PyList_Append(list, item)) {
            Py_XDECREF(item);
            goto failed;
        }
        Py_DECREF(item);
    }
    free(known);
    return list;
failed:
    free(known);
    Py_XDECREF(list);
    return NULL;
}

PyMethodDef fk_task_methods[] = {
    {"tasks", tasks, METH_VARARGS,
     "tasks(offset of tgid): [(task, pid, tgid, comm, processor), ...] of the kernel's own ids"},
    {NULL},
};
