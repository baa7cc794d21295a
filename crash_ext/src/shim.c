/* faultkit.so: the part that crash loads and unloads.
 *
 * It holds no state.  Python can't be unloaded, so it and _faultkit.so are loaded to stay
 * (RTLD_NODELETE); this one only finds them and registers the commands anew each time.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OLDEST 9 /* Python 3.9 */
#define NEWEST 40

static void say(const char *what, const char *remedy)
{
    printf("faultkit: %s; %s\n", what, remedy);
    fflush(stdout);
}

/* RTLD_GLOBAL: the modules in lib-dynload do not name libpython as a dependency. */
static void *load_python(const char *name)
{
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);

    if (!library || !dlsym(library, "Py_InitializeEx"))
        return NULL;
    return dlopen(name, RTLD_NOW | RTLD_GLOBAL | RTLD_NODELETE);
}

/* libpython: FAULTKIT_LIBPYTHON's, the one built against, or any: the limited API is the same. */
static void *find_python(void)
{
    const char *wanted = getenv("FAULTKIT_LIBPYTHON");
    char name[64];
    void *python;
    int minor;

    if (wanted && *wanted) {
        if (!(python = load_python(wanted)))
            say("FAULTKIT_LIBPYTHON names no library of Python that loads",
                "unset it, or name a libpython3.X.so.1.0");
        return python;
    }
    if ((python = load_python(FAULTKIT_BUILT_LIBPYTHON)))
        return python;
    for (minor = NEWEST; minor >= OLDEST; minor--) {
        snprintf(name, sizeof name, "libpython3.%d.so.1.0", minor);
        if ((python = load_python(name)))
            return python;
    }
    say("no libpython3.9 or newer is installed",
        "sudo apt-get install libpython3-dev, or set FAULTKIT_LIBPYTHON to a libpython3.X.so.1.0");
    return NULL;
}

/* Another Python in this process, such as PyKdump's: its symbols would mix with ours. */
static int foreign_python(void)
{
    Dl_info info;
    void *found = dlsym(RTLD_DEFAULT, "Py_IsInitialized");

    return found && dladdr(found, &info) && !strstr(info.dli_fname, "libpython3");
}

static void __attribute__((constructor)) loaded(void)
{
    char folder[PATH_MAX], path[PATH_MAX + 32];
    const char **version = dlsym(RTLD_DEFAULT, "build_version");
    int (*start)(const char *folder, const char *filename);
    void *module;
    Dl_info info;

    if (!dladdr((void *) loaded, &info) || !realpath(info.dli_fname, folder))
        return;
    *strrchr(folder, '/') = 0;
    if (foreign_python()) {
        say("another Python is loaded in this session, PyKdump's probably",
            "use its epython with crash_ext/faultkit.py, or load faultkit.so in a new session");
        return;
    }
    if (!find_python())
        return;
    snprintf(path, sizeof path, "%s/_faultkit.so", folder);
    if (!(module = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE))) {
        const char *why = dlerror();

        printf("faultkit: crash %s: %s; crash 8.0.0 or newer is needed, and `make crash-ext`\n",
               version ? *version : "?", why);
        fflush(stdout);
        return;
    }
    start = (int (*)(const char *, const char *)) dlsym(module, "fk_start");
    start(folder, info.dli_fname);
}
