/* Python: started once, never finalised; faultkit's modules: imported anew at each load. */
#include "faultkit.h"
#include <sys/wait.h>
#include <unistd.h>

/* Runs crash_ext/loading.py in `names`; its start() imports the rest. */
static const char loader[] =
    "path = names['__file__']\n"
    "with open(path, encoding='utf-8') as file:\n"
    "    exec(compile(file.read(), path, 'exec'), names)\n";

/* Back to `value`, in os.environ, too, which has been filled meanwhile. */
static void restore(const char *name, char *value)
{
    PyObject *os = value ? PyImport_ImportModule("os") : NULL;
    PyObject *environ = os ? PyObject_GetAttrString(os, "environ") : NULL;
    PyObject *text = environ ? PyUnicode_DecodeFSDefault(value) : NULL;

    if (!text || PyMapping_SetItemString(environ, name, text)) {
        PyErr_Clear();
        value ? setenv(name, value, 1) : unsetenv(name);
    }
    Py_XDECREF(text);
    Py_XDECREF(environ);
    Py_XDECREF(os);
    free(value);
}

static char *copy_of(const char *name)
{
    char *value = getenv(name);

    return value ? strdup(value) : NULL;
}

/* Python searches its standard library by PATH and PYTHONHOME: a Python of another kind that
 * comes first there would mix its library with our libpython. */
static void initialise(void)
{
    char *path = copy_of("PATH"), *home = copy_of("PYTHONHOME");

    setenv("PATH", "/usr/bin:/bin", 1);
    unsetenv("PYTHONHOME");
    Py_InitializeEx(0);
    restore("PATH", path);
    restore("PYTHONHOME", home);
}

/* A Python without its standard library ends the process: let a child try first. */
static int would_start(void)
{
    int status = -1;
    pid_t child = fork();

    if (child == 0) {
        if (!freopen("/dev/null", "w", stderr) || !freopen("/dev/null", "w", stdout))
            _exit(1);
        initialise();
        _exit(0);
    }
    return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

static int too_old(void)
{
    const char *version = Py_GetVersion();

    return atoi(version) != 3 || atoi(version + 2) < 9;
}

/* What start() of loading.py returns: (dispatch function, commands). */
static PyObject *load(const char *folder)
{
    PyObject *builtins = PyImport_ImportModule("builtins");
    PyObject *path = PyUnicode_FromFormat("%s/loading.py", folder);
    PyObject *names = Py_BuildValue("{s:s,s:O,s:O}", "__name__", "faultkit_loading", "__file__",
                                    path, "__builtins__", builtins);
    PyObject *globals = Py_BuildValue("{s:O,s:O}", "names", names, "__builtins__", builtins);
    PyObject *code = Py_CompileString(loader, "<faultkit>", Py_file_input);
    PyObject *done = code && globals ? PyEval_EvalCode(code, globals, globals) : NULL;
    PyObject *start = done ? PyDict_GetItemString(names, "start") : NULL;
    PyObject *result = start ? PyObject_CallFunctionObjArgs(start, NULL) : NULL;

    Py_XDECREF(done);
    Py_XDECREF(code);
    Py_XDECREF(globals);
    Py_XDECREF(names);
    Py_XDECREF(path);
    Py_XDECREF(builtins);
    return result;
}

static int register_all(const char *folder)
{
    PyObject *loaded = load(folder), *dispatch, *commands;
    int result = -1;

    if (loaded && PyArg_ParseTuple(loaded, "OO", &dispatch, &commands))
        result = fk_commands_register(dispatch, commands);
    if (result)
        PyErr_Print();
    Py_XDECREF(loaded);
    return result;
}

int fk_python_start(const char *folder)
{
    struct sigaction interrupt, pipe_closed;
    PyGILState_STATE state;
    int result;

    if (too_old()) {
        printf("faultkit: Python %.40s is too old; 3.9 or newer is needed\n", Py_GetVersion());
        return -1;
    }
    sigaction(SIGINT, NULL, &interrupt);
    sigaction(SIGPIPE, NULL, &pipe_closed);
    if (!Py_IsInitialized()) {
        if (!would_start()) {
            printf("faultkit: Python %.40s does not start, its standard library is missing; "
                   "sudo apt-get install python3, or set FAULTKIT_LIBPYTHON\n", Py_GetVersion());
            return -1;
        }
        PyImport_AppendInittab("_faultkit", fk_module);
        initialise();
        PyEval_SaveThread();
    }
    state = PyGILState_Ensure();
    result = register_all(folder);
    sigaction(SIGINT, &interrupt, NULL);
    sigaction(SIGPIPE, &pipe_closed, NULL);
    PyGILState_Release(state);
    return result;
}

FK_EXPORT int fk_start(const char *folder, const char *filename)
{
    const char *unknown;
    int result;

    if (pc->flags & MINIMAL_MODE) {
        printf("faultkit: crash runs with --minimal; start it without\n");
        return -1;
    }
    if ((unknown = fk_layout_unknown(filename))) {
        printf("faultkit: crash %s lays out %s in a way not known; build faultkit.so with its "
               "own defs.h: make crash-ext CRASH_INCLUDE=DIR\n", build_version, unknown);
        return -1;
    }
    result = fk_python_start(folder);
    fflush(stdout);
    return result;
}
