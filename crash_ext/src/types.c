/* Types, by the debug information that the gdb in crash has read (symbols.c, datatype_info()). */
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

static int too_long(const struct asked *asked)
{
    if (strlen(asked->type) <= LONGEST && (!asked->member || strlen(asked->member) <= LONGEST))
        return 0;
    PyErr_SetString(PyExc_ValueError, "the name is too long");
    return 1;
}

static PyObject *answer(struct asked *asked)
{
    enum fk_end end;

    if (too_long(asked))
        return NULL;
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

static PyObject *member_type(PyObject *module, PyObject *arguments)
{
    struct asked asked = {.how = MEMBER_TYPE_NAME_REQUEST};
    enum fk_end end;

    if (!PyArg_ParseTuple(arguments, "ss", &asked.type, &asked.member) || too_long(&asked))
        return NULL;
    if ((end = fk_guard(ask, &asked, NULL, NULL)) == FK_INTERRUPTED)
        return fk_raise(end, asked.type, NULL);
    if (end != FK_DONE || !asked.answer)
        Py_RETURN_NONE;
    return PyUnicode_FromString((char *) asked.answer);
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
     "offset(type, member): in bytes, or None; members of unnamed structures are its own"},
    {"size", size, METH_VARARGS, "size(type[, member]): in bytes, or None"},
    {"member_type", member_type, METH_VARARGS,
     "member_type(type, member): name of its type, of a pointer's target, or None if unnamed"},
    {"enumerator", enumerator, METH_VARARGS, "enumerator(name): its value, or None"},
    {NULL},
};
