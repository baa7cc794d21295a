/* The one step over BTF that takes Python long: faultkit/code/btf.py, index(). */
#include "faultkit.h"

static const unsigned char fixed[32] = {3, 4, 3, 6, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 4, 3,
                                        3, 4, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3};
static const unsigned char each[32] = {[4] = 3, [5] = 3, [6] = 2, [13] = 2, [15] = 3, [19] = 3};

static PyObject *index_types(PyObject *module, PyObject *bytes)
{
    char *raw;
    Py_ssize_t size, position, count = 1, most;
    const uint32_t *words;
    uint32_t *starts, *names;
    PyObject *result = NULL;

    if (PyBytes_AsStringAndSize(bytes, &raw, &size))
        return NULL;
    words = (const uint32_t *) raw;
    size /= 4;
    most = size / 3 + 2;
    starts = calloc(most, sizeof *starts);
    names = calloc(most, sizeof *names);
    if (!starts || !names)
        goto out;
    for (position = 0; position < size - 2;) {
        uint32_t info = words[position + 1], kind = info >> 24 & 31;

        starts[count] = position;
        names[count++] = words[position];
        position += fixed[kind] + each[kind] * (info & 0xffff);
    }
    result = Py_BuildValue("(NN)", PyBytes_FromStringAndSize((char *) starts, count * 4),
                           PyBytes_FromStringAndSize((char *) names, count * 4));
out:
    free(starts);
    free(names);
    return result ? result : PyErr_NoMemory();
}

PyMethodDef fk_btf_methods[] = {
    {"btf_index", index_types, METH_O, "btf_index(types): as faultkit.code.btf.index()"},
    {NULL},
};
