/* Memory of the dump or of the live kernel. */
#include "faultkit.h"

#define MOST (64L << 20) /* bytes in one read */

struct reading {
    ulonglong address;
    int type;
    void *buffer;
    long size;
    int good;
};

static void read_it(void *argument)
{
    struct reading *r = argument;

    r->good = readmem(r->address, r->type, r->buffer, r->size, "faultkit",
                      RETURN_ON_ERROR | QUIET);
}

static int read_into(void *buffer, ulonglong address, long size, int type)
{
    struct reading reading = {address, type, buffer, size, 0};

    return fk_guard_read(read_it, &reading) == FK_DONE && reading.good;
}

/* Pages of a dump, which do not change: crash keeps 16 of them unpacked (diskdump.h,
 * DISKDUMP_CACHED_PAGES), fewer than one task's structures and stack lie in. */
#define PAGE 4096
#define PAGES 4096

static struct page {
    ulonglong address; /* of the page that `bytes` holds, where `valid` */
    int valid;
    char *bytes;
} pages[PAGES];

static int read_cached(void *buffer, ulonglong address, long size)
{
    ulonglong start = address & ~(ulonglong) (PAGE - 1);
    struct page *page = &pages[start / PAGE % PAGES];

    if (!page->bytes && !(page->bytes = malloc(PAGE)))
        return 0;
    if (!page->valid || page->address != start) {
        page->valid = 0;
        if (!read_into(page->bytes, start, PAGE, KVADDR))
            return 0;
        page->address = start;
        page->valid = 1;
    }
    memcpy(buffer, page->bytes + (address - start), size);
    return 1;
}

static PyObject *read_memory(PyObject *arguments, int type)
{
    unsigned long long address;
    Py_ssize_t size;
    PyObject *bytes;
    char message[96];
    int good;

    if (!PyArg_ParseTuple(arguments, "Kn", &address, &size))
        return NULL;
    if (size < 0 || size > MOST)
        return PyErr_Format(PyExc_ValueError, "%zd bytes can't be read at once", size);
    if (!(bytes = PyBytes_FromStringAndSize(NULL, size)) || !size)
        return bytes;
    if (type == KVADDR && !ACTIVE() && address % PAGE + size <= PAGE)
        good = read_cached(PyBytes_AsString(bytes), address, size);
    else
        good = read_into(PyBytes_AsString(bytes), address, size, type);
    if (good)
        return bytes;
    Py_DECREF(bytes);
    snprintf(message, sizeof message, "cannot read %zd bytes at 0x%llx", size, address);
    PyErr_SetString(fk_error, message); /* PyErr_Format() knows %llx from Python 3.12 only */
    return NULL;
}

static PyObject *read_virtual(PyObject *module, PyObject *arguments)
{
    return read_memory(arguments, KVADDR);
}

static PyObject *read_physical(PyObject *module, PyObject *arguments)
{
    return read_memory(arguments, PHYSADDR);
}

struct translation {
    ulong task, address;
    physaddr_t physical;
    int good;
};

static void translate_it(void *argument)
{
    struct translation *t = argument;
    struct task_context *context = task_to_context(t->task);

    if (context)
        t->good = uvtop(context, t->address, &t->physical, 0);
}

static PyObject *translate(PyObject *module, PyObject *arguments)
{
    struct translation translation = {0};
    enum fk_end end;

    if (!PyArg_ParseTuple(arguments, "kk", &translation.task, &translation.address))
        return NULL;
    end = fk_guard_read(translate_it, &translation);
    if (end != FK_DONE)
        return fk_raise(end, "uvtop", NULL);
    if (!translation.good)
        return Py_BuildValue("(Oi)", Py_None, translation.physical != 0);
    return Py_BuildValue("(Ki)", (unsigned long long) translation.physical, 0);
}

PyMethodDef fk_memory_methods[] = {
    {"read", read_virtual, METH_VARARGS, "read(address, size): kernel virtual memory, or Error"},
    {"read_physical", read_physical, METH_VARARGS, "read_physical(address, size), or Error"},
    {"translate", translate, METH_VARARGS,
     "translate(task, address): (physical address or None, whether the page was swapped out)"},
    {NULL},
};
