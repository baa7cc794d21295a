/* Is this crash laid out as the defs.h that we were built with says?
 *
 * crash exports its structures, not their layout.  Known values are looked for where the fields
 * used should be: before `program_version`, up to `curext` and `error_path` behind the jump
 * buffers, and in the task contexts.  Pointers are followed by write(), which fails where there
 * is nothing (EFAULT), instead of with SIGSEGV.
 */
#include "faultkit.h"
#include <unistd.h>

static int peek(void *to, const void *from, size_t size)
{
    int ends[2], good;

    if (pipe(ends))
        return 0;
    good = write(ends[1], from, size) == (ssize_t) size && read(ends[0], to, size) == (ssize_t) size;
    close(ends[0]);
    close(ends[1]);
    return good;
}

static int is_text(const char *pointer, const char *text)
{
    char there[512];
    size_t size = strlen(text) + 1;

    return size <= sizeof there && peek(there, pointer, size) && !memcmp(there, text, size);
}

static int is_error_path(const char *pointer)
{
    char first;

    return is_text(pointer, "default") || is_text(pointer, "redirect") ||
           (peek(&first, pointer, 1) && first == '/');
}

const char *fk_layout_unknown(const char *filename)
{
    struct extension_table extension;
    struct task_context *context, found;
    struct tgid_context tgid;
    struct syment *init_task;

    if (pc != &program_context)
        return "pc";
    if (!is_text(pc->program_version, build_version))
        return "program_context.program_version";
    if (pc->cmd_table != linux_command_table)
        return "program_context.cmd_table";
    if (!peek(&extension, pc->curext, sizeof extension) || !is_text(extension.filename, filename))
        return "program_context.curext";
    if (!is_error_path(pc->error_path))
        return "program_context.error_path";
    if (!(init_task = symbol_search("init_task")) || strcmp(init_task->name, "init_task"))
        return "syment";
    if (!(context = task_to_context(init_task->value)) || !peek(&found, context, sizeof found) ||
        found.task != init_task->value || strncmp(found.comm, "swapper", 7))
        return "task_context";
    if (context < tt->context_array || context >= tt->context_array + tt->running_tasks)
        return "task_table";
    if (!peek(&tgid, tt->tgid_array, sizeof tgid) || tgid.tgid || !task_to_context(tgid.task))
        return "tgid_context"; /* in order of the tgid: that of an idle task is first */
    return NULL;
}
