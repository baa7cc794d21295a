/* Memory of the dump or of the live kernel. */
#include "faultkit.h"

#include <sys/mman.h>

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
 * DISKDUMP_CACHED_PAGES), fewer than one task's structures and stack lie in.  To unpack one takes
 * longer than all else that a task costs. */
#define PAGE 4096
#define PAGE_BITS 16
#define FRESH 256 /* pages that the kernel gives us at once: a fault for each costs a tenth more */

static struct page {
    ulonglong address; /* of the page that `bytes` holds, where `valid` */
    int valid;
    char *bytes;
} pages[1 << PAGE_BITS];

/* By all bits of the address: task_structs and stacks lie at regular distances. */
static struct page *place_of(ulonglong start)
{
    return &pages[start / PAGE * 0x9e3779b97f4a7c15ULL >> (64 - PAGE_BITS)];
}

static char *fresh_page(void)
{
    static char *next, *end;
    char *page;

    if (next == end) {
        next = mmap(NULL, FRESH * PAGE, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        if (next == MAP_FAILED)
            return next = end = NULL;
        end = next + FRESH * PAGE;
    }
    page = next;
    next += PAGE;
    return page;
}

static int read_cached(void *buffer, ulonglong address, long size)
{
    ulonglong start = address & ~(ulonglong) (PAGE - 1);
    struct page *page = place_of(start);

    if (!page->bytes && !(page->bytes = fresh_page()))
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

/* The bytes; NULL without an exception where they can't be read. */
static PyObject *read_bytes(ulonglong address, Py_ssize_t size, int type)
{
    PyObject *bytes;
    int good;

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
    return NULL;
}

static PyObject *read_memory(PyObject *arguments, int type)
{
    unsigned long long address;
    Py_ssize_t size;
    PyObject *bytes;
    char message[96];

    if (!PyArg_ParseTuple(arguments, "Kn", &address, &size))
        return NULL;
    if ((bytes = read_bytes(address, size, type)) || PyErr_Occurred())
        return bytes;
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

/* One call for all: a call for each of thousands would take longer than the rest. */
static PyObject *read_each(PyObject *module, PyObject *arguments)
{
    PyObject *pieces, *found, *piece, *bytes;
    Py_ssize_t count, i, size;
    ulonglong address;

    if (!PyArg_ParseTuple(arguments, "O!", &PyList_Type, &pieces))
        return NULL;
    count = PyList_Size(pieces);
    if (!(found = PyList_New(count)))
        return NULL;
    for (i = 0; i < count; i++) {
        piece = PyList_GetItem(pieces, i);
        if (i % 1024 == 1023 && PyErr_CheckSignals())
            goto failed;
        if (!piece || !PyArg_ParseTuple(piece, "Kn", &address, &size))
            goto failed;
        if (!(bytes = read_bytes(address, size, KVADDR))) {
            if (PyErr_Occurred())
                goto failed;
            bytes = Py_None;
            Py_INCREF(bytes);
        }
        PyList_SetItem(found, i, bytes);
    }
    return found;
failed:
    Py_DECREF(found);
    return NULL;
}

#define RANGES 4

/* Those of the words at `data` that lie in one of the ranges. */
static PyObject *words_in(const char *data, Py_ssize_t size, const ulonglong low[RANGES],
                          const ulonglong high[RANGES])
{
    Py_ssize_t i;
    ulonglong word;
    PyObject *found;
    char *to, *buffer;
    int range;

    if (!(to = buffer = malloc(size + 1)))
        return PyErr_NoMemory();
    for (i = 0; i + 8 <= size; i += 8) {
        memcpy(&word, data + i, 8);
        for (range = 0; range < RANGES; range++)
            if (word >= low[range] && word < high[range]) {
                memcpy(to, &word, 8);
                to += 8;
                break;
            }
    }
    found = PyBytes_FromStringAndSize(buffer, to - buffer);
    free(buffer);
    return found;
}

static PyObject *words_of_each(PyObject *module, PyObject *arguments)
{
    PyObject *pieces, *found, *words;
    ulonglong low[RANGES] = {0}, high[RANGES] = {0};
    Py_ssize_t count, i, size, most;
    char *data;

    if (!PyArg_ParseTuple(arguments, "O!nKK|KKKKKK", &PyList_Type, &pieces, &most, &low[0],
                          &high[0], &low[1], &high[1], &low[2], &high[2], &low[3], &high[3]))
        return NULL;
    count = PyList_Size(pieces);
    if (!(found = PyList_New(count)))
        return NULL;
    for (i = 0; i < count; i++) {
        if (PyBytes_AsStringAndSize(PyList_GetItem(pieces, i), &data, &size) < 0 ||
            !(words = words_in(data, size < most ? size : most, low, high))) {
            Py_DECREF(found);
            return NULL;
        }
        PyList_SetItem(found, i, words);
    }
    return found;
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
    {"read_each", read_each, METH_VARARGS,
     "read_each([(address, size), ...]): [bytes or None, ...] of kernel virtual memory"},
    {"words_of_each", words_of_each, METH_VARARGS,
     "words_of_each([bytes, ...], most, start, end, ...): [bytes, ...], the words in the first "
     "`most` bytes of each that lie in up to four ranges"},
    {"translate", translate, METH_VARARGS,
     "translate(task, address): (physical address or None, whether the page was swapped out)"},
    {NULL},
};
