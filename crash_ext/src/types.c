/* Types, by the debug information that the gdb in crash has read.
 *
 * What does not exist costs most: gdb looks for it in every compilation unit's index.  So
 * callers remember that, too.
 */
#include "faultkit.h"

#define LONGEST 256 /* crash copies names into buffers of BUFSIZE */

struct asked {
    char *type, *member;
    void *how;
    long answer;
};

static void ask(void *argument)
{
    struct asked *a = argument;

    a->answer = datatype_info(a->type, a->member, a->how);
}

static PyObject *answer(struct asked *asked)
{
    enum fk_end end;

    if (strlen(asked->type) > LONGEST || (asked->member && strlen(asked->member) > LONGEST)) {
        PyErr_SetString(PyExc_ValueError, "the name is too long");
        return NULL;
    }
    asked->answer = -1;
    if ((end = fk_guard(ask, asked, NULL, NULL)) == FK_INTERRUPTED)
        return fk_raise(end, asked->type, NULL);
    if (end != FK_DONE || asked->answer < 0)
        Py_RETURN_NONE;
    return PyLong_FromLong(asked->answer);
}

static PyObject *offset(PyObject *module, PyObject *arguments)
{
    struct asked asked = {.how = NULL};

    if (!PyArg_ParseTuple(arguments, "ss", &asked.type, &asked.member))
        return NULL;
    return answer(&asked);
}

static PyObject *size(PyObject *module, PyObject *arguments)
{
    struct asked asked = {.how = STRUCT_SIZE_REQUEST};

    if (!PyArg_ParseTuple(arguments, "s|z", &asked.type, &asked.member))
        return NULL;
    if (asked.member)
        asked.how = MEMBER_SIZE_REQUEST;
    return answer(&asked);
}

struct constant {
    char *name;
    long value;
    int found;
};

static void find_constant(void *argument)
{
    struct constant *c = argument;

    c->found = enumerator_value(c->name, &c->value);
}

static PyObject *enumerator(PyObject *module, PyObject *arguments)
{
    struct constant constant = {0};
    enum fk_end end;

    if (!PyArg_ParseTuple(arguments, "s", &constant.name))
        return NULL;
    if (strlen(constant.name) > LONGEST) {
        PyErr_SetString(PyExc_ValueError, "the name is too long");
        return NULL;
    }
    if ((end = fk_guard(find_constant, &constant, NULL, NULL)) == FK_INTERRUPTED)
        return fk_raise(end, constant.name, NULL);
    if (end != FK_DONE || !constant.found)
        Py_RETURN_NONE;
    return PyLong_FromLong(constant.value);
}

PyMethodDef fk_type_methods[] = {
    {"offset", offset, METH_VARARGS,
     "offset(type, member): in bytes, or None; not for members of anonymous structures"},
    {"size", size, METH_VARARGS, "size(type[, member]): in bytes, or None"},
    {"enumerator", enumerator, METH_VARARGS, "enumerator(name): its value, or None"},
    {NULL},
};
