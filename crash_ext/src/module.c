/* The Python module _faultkit: what crash knows, as plain values. */
#include "faultkit.h"

PyObject *fk_error;

PyObject *fk_raise(enum fk_end end, const char *what, PyObject *text)
{
    if (end == FK_INTERRUPTED)
        PyErr_SetNone(PyExc_KeyboardInterrupt);
    else if (text && PyUnicode_GetLength(text) > 0)
        PyErr_SetObject(fk_error, text);
    else
        PyErr_Format(fk_error, "%s: %s", what,
                     end == FK_EXCEPTION ? "gdb gave up" : "crash gave up");
    Py_XDECREF(text);
    return NULL;
}

/* The vmlinux may have its debug information in a file of its own (main.c, match_file_string()). */
static PyObject *about(PyObject *module, PyObject *unused)
{
    char *debug = pc->debuginfo_file ? pc->debuginfo_file : pc->namelist_debug;

    return Py_BuildValue("{s:z,s:z,s:z,s:z,s:O}", "version", build_version, "dumpfile",
                         pc->dumpfile, "namelist", pc->namelist, "debug_file", debug, "live",
                         ACTIVE() ? Py_True : Py_False);
}

static PyMethodDef methods[] = {
    {"about", about, METH_NOARGS, "about(): version of crash, dumpfile, namelist, debug_file, live"},
    {NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_faultkit", "What crash knows, as plain values.", -1, methods,
};

PyObject *fk_module(void)
{
    PyMethodDef *parts[] = {fk_memory_methods, fk_symbol_methods, fk_type_methods,
                            fk_task_methods,   fk_exec_methods,   fk_output_methods, fk_btf_methods};
    PyObject *module = PyModule_Create(&definition);
    size_t i;

    if (!module)
        return NULL;
    for (i = 0; i < sizeof parts / sizeof *parts; i++)
        if (PyModule_AddFunctions(module, parts[i]))
            return NULL;
    fk_error = PyErr_NewException("_faultkit.Error", NULL, NULL);
    Py_XINCREF(fk_error);
    if (!fk_error || PyModule_AddObject(module, "Error", fk_error))
        return NULL;
    return module;
}
