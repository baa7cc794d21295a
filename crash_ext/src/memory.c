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

/* What was read of a dump, which does not change: crash keeps 16 pages of it unpacked (diskdump.h,
 * DISKDUMP_CACHED_PAGES), fewer than one task's structures and stack lie in.  To unpack one takes
 * longer than all else that a task costs. */
#define PAGE 4096
#define SET_BITS 14
#define WAYS 4      /* with one, every tenth of them would push out another while there is room */
#define APART 128 /* so many at once lie scattered, each on a page that nothing else is wanted of */

static struct kept {
    ulonglong address;
    long size; /* 0: nothing is kept here */
    char *bytes;
} kept[1 << SET_BITS][WAYS];

/* Where it is, or where it is to go: in a set by all bits of the address, as task_structs and
 * stacks lie at regular distances. */
static struct kept *place_of(ulonglong address, long size)
{
    static unsigned turn;
    struct kept *set = kept[address * 0x9e3779b97f4a7c15ULL >> (64 - SET_BITS)];
    int way, unused = -1;

    for (way = WAYS - 1; way >= 0; way--) {
        if (!set[way].size)
            unused = way;
        else if (set[way].address == address && set[way].size == size)
            return &set[way];
    }
    return &set[unused >= 0 ? unused : (int) (turn++ % WAYS)];
}

/* The bytes at an address, for now; NULL where they can't be read. */
static const char *read_once(ulonglong address, long size)
{
    struct kept *place = place_of(address, size);
    char *bytes;

    if (place->size == size && place->address == address)
        return place->bytes;
    place->size = 0;
    if (!(bytes = realloc(place->bytes, size)))
        return NULL;
    place->bytes = bytes;
    if (!read_into(bytes, address, size, KVADDR))
        return NULL;
    place->address = address;
    place->size = size;
    return bytes;
}

/* With the rest of its page, unless it lies apart. */
static int read_kept(void *buffer, ulonglong address, long size, int apart)
{
    ulonglong before = apart ? 0 : address % PAGE;
    const char *bytes = read_once(address - before, apart ? size : PAGE);

    if (bytes)
        memcpy(buffer, bytes + before, size);
    return bytes != NULL;
}

/* The bytes; NULL without an exception where they can't be read. */
static PyObject *read_bytes(ulonglong address, Py_ssize_t size, int type, int apart)
{
    PyObject *bytes;
    int good;

    if (size < 0 || size > MOST)
        return PyErr_Format(PyExc_ValueError, "%zd bytes can't be read at once", size);
    if (!(bytes = PyBytes_FromStringAndSize(NULL, size)) || !size)
        return bytes;
    if (type == KVADDR && !ACTIVE() && address % PAGE + size <= PAGE)
        good = read_kept(PyBytes_AsString(bytes), address, size, apart);
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
    if ((bytes = read_bytes(address, size, type, 0)) || PyErr_Occurred())
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
        if (!(bytes = read_bytes(address, size, KVADDR, count >= APART))) {
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
