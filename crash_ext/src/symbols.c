/* Symbols of the kernel and its modules. */
#include "faultkit.h"

static PyObject *symbol(PyObject *module, PyObject *arguments)
{
    char *name;
    struct syment *found;

    if (!PyArg_ParseTuple(arguments, "s", &name))
        return NULL;
    if (!(found = symbol_search(name)))
        Py_RETURN_NONE;
    return PyLong_FromUnsignedLong(found->value);
}

struct search {
    ulong address, offset, end;
    struct syment *found;
    struct load_module *module;
};

static int is_key(const struct syment *symbol)
{
    return !strncmp(symbol->name, "__key.", 6);
}

/* Without lockdep the key of a class of locks is empty (include/linux/lockdep_types.h), and lies at
 * the address of another variable, which is meant.  Tables neither begin nor end with one. */
static struct syment *no_key(struct syment *symbol)
{
    struct syment *other;

    for (other = symbol; is_key(other) && other[1].value == symbol->value;)
        other++;
    if (is_key(other))
        for (other = symbol; is_key(other) && other[-1].value == symbol->value;)
            other--;
    return is_key(other) ? symbol : other;
}

static void look_up(void *argument)
{
    struct search *s = argument;

    if ((s->found = value_search(s->address, &s->offset)) && is_key(s->found))
        s->found = no_key(s->found);
    if (s->found)
        module_symbol(s->address, NULL, &s->module, NULL, 0);
}

static PyObject *lookup(PyObject *module, PyObject *arguments)
{
    struct search search = {0};
    enum fk_end end;

    if (!PyArg_ParseTuple(arguments, "k", &search.address))
        return NULL;
    if ((end = fk_guard_read(look_up, &search)) != FK_DONE)
        return fk_raise(end, "symbol", NULL);
    if (!search.found)
        Py_RETURN_NONE;
    return Py_BuildValue("(skz)", search.found->name, search.offset,
                         search.module ? search.module->mod_name : NULL);
}

static void find_end(void *argument)
{
    struct search *s = argument;
    struct syment *next;

    if ((s->found = value_search(s->address, NULL)) && (next = next_symbol(NULL, s->found)) &&
        next->value > s->found->value)
        s->end = next->value;
}

static PyObject *bounds(PyObject *module, PyObject *arguments)
{
    struct search search = {0};
    enum fk_end end;

    if (!PyArg_ParseTuple(arguments, "k", &search.address))
        return NULL;
    if ((end = fk_guard_read(find_end, &search)) != FK_DONE)
        return fk_raise(end, "symbol", NULL);
    if (!search.found || search.end <= search.address)
        Py_RETURN_NONE;
    return Py_BuildValue("(kk)", search.found->value, search.end);
}

struct line {
    ulong address;
    char text[BUFSIZE * 2];
};

static void find_line(void *argument)
{
    struct line *l = argument;

    get_line_number(l->address, l->text, 0);
}

static PyObject *line(PyObject *module, PyObject *arguments)
{
    struct line found = {0};
    enum fk_end end;

    if (!PyArg_ParseTuple(arguments, "k", &found.address))
        return NULL;
    if ((end = fk_guard(find_line, &found, NULL, NULL)) != FK_DONE)
        return fk_raise(end, "line", NULL);
    return PyUnicode_DecodeUTF8(found.text, strlen(found.text), "replace");
}

PyMethodDef fk_symbol_methods[] = {
    {"symbol", symbol, METH_VARARGS, "symbol(name): its address, or None"},
    {"lookup", lookup, METH_VARARGS, "lookup(address): (name, offset, module or None), or None"},
    {"bounds", bounds, METH_VARARGS,
     "bounds(address): (start, end) from the symbol that covers it to the next one, or None"},
    {"line", line, METH_VARARGS, "line(address): \"FILE: LINE\", or \"\""},
    {NULL},
};
