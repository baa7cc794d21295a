/* Calls into crash that come back whatever happens.
 *
 * error(FATAL) longjmps to pc->main_loop_env (cmdline.c, RESTART()), in a foreach to
 * pc->foreach_loop_env; so do SIGSEGV inside gdb and the second ^C, through restore_sanity(),
 * which closes every stream that it finds in program_context.  So the streams of the command that
 * runs are hidden during the call, and everything that calls overwrite is put back after it.
 */
#include "faultkit.h"

struct saved {
    jmp_buf main_loop_env, foreach_loop_env;
    unsigned long long flags, curcmd_private;
    ulong redirect, curcmd_flags;
    char *curcmd, *lastcmd, *error_path;
    FILE *fp, *error_fp, *stdpipe, *pipe, *ofile, *ifile, *ifile_pipe, *ifile_ofile;
    FILE *args_ifile, *tmpfile, *tmpfile2, *saved_fp, *standard_error;
    pid_t stdpipe_pid, pipe_pid, pipe_shell_pid;
    char pipe_command[BUFSIZE];
    int argcnt, argerrs, optind, opterr, sigint_cnt;
    char *args[MAXARGS];
    char command_line[BUFSIZE], orig_line[BUFSIZE];
    struct sigaction gdb_sigaction, segv;
};

static void save(struct saved *s)
{
    memcpy(&s->main_loop_env, &pc->main_loop_env, sizeof(jmp_buf));
    memcpy(&s->foreach_loop_env, &pc->foreach_loop_env, sizeof(jmp_buf));
    s->flags = pc->flags;
    s->curcmd_private = pc->curcmd_private;
    s->redirect = pc->redirect;
    s->curcmd_flags = pc->curcmd_flags;
    s->curcmd = pc->curcmd;
    s->lastcmd = pc->lastcmd;
    s->error_path = pc->error_path;
    s->fp = fp;
    s->error_fp = pc->error_fp;
    s->stdpipe = pc->stdpipe;
    s->pipe = pc->pipe;
    s->ofile = pc->ofile;
    s->ifile = pc->ifile;
    s->ifile_pipe = pc->ifile_pipe;
    s->ifile_ofile = pc->ifile_ofile;
    s->args_ifile = pc->args_ifile;
    s->tmpfile = pc->tmpfile;
    s->tmpfile2 = pc->tmpfile2;
    s->saved_fp = pc->saved_fp;
    s->standard_error = stderr;
    s->stdpipe_pid = pc->stdpipe_pid;
    s->pipe_pid = pc->pipe_pid;
    s->pipe_shell_pid = pc->pipe_shell_pid;
    memcpy(s->pipe_command, pc->pipe_command, sizeof s->pipe_command);
    s->argcnt = argcnt;
    s->argerrs = argerrs;
    s->optind = optind;
    s->opterr = opterr;
    s->sigint_cnt = pc->sigint_cnt;
    memcpy(s->args, args, sizeof s->args);
    memcpy(s->command_line, pc->command_line, sizeof s->command_line);
    memcpy(s->orig_line, pc->orig_line, sizeof s->orig_line);
    s->gdb_sigaction = pc->gdb_sigaction;
    sigaction(SIGSEGV, NULL, &s->segv);
}

static void restore(const struct saved *s)
{
    memcpy(&pc->main_loop_env, &s->main_loop_env, sizeof(jmp_buf));
    memcpy(&pc->foreach_loop_env, &s->foreach_loop_env, sizeof(jmp_buf));
    pc->flags = s->flags;
    pc->curcmd_private = s->curcmd_private;
    pc->redirect = s->redirect;
    pc->curcmd_flags = s->curcmd_flags;
    pc->curcmd = s->curcmd;
    pc->lastcmd = s->lastcmd;
    pc->error_path = s->error_path;
    fp = s->fp;
    pc->error_fp = s->error_fp;
    pc->stdpipe = s->stdpipe;
    pc->pipe = s->pipe;
    pc->ofile = s->ofile;
    pc->ifile = s->ifile;
    pc->ifile_pipe = s->ifile_pipe;
    pc->ifile_ofile = s->ifile_ofile;
    pc->args_ifile = s->args_ifile;
    pc->tmpfile = s->tmpfile;
    pc->tmpfile2 = s->tmpfile2;
    pc->saved_fp = s->saved_fp;
    stderr = s->standard_error;
    pc->stdpipe_pid = s->stdpipe_pid;
    pc->pipe_pid = s->pipe_pid;
    pc->pipe_shell_pid = s->pipe_shell_pid;
    memcpy(pc->pipe_command, s->pipe_command, sizeof s->pipe_command);
    argcnt = s->argcnt;
    argerrs = s->argerrs;
    optind = s->optind;
    opterr = s->opterr;
    pc->sigint_cnt = s->sigint_cnt;
    memcpy(args, s->args, sizeof s->args);
    memcpy(pc->command_line, s->command_line, sizeof s->command_line);
    memcpy(pc->orig_line, s->orig_line, sizeof s->orig_line);
    pc->gdb_sigaction = s->gdb_sigaction;
    sigaction(SIGSEGV, &s->segv, NULL);
}

static void hide(FILE *out, FILE *err)
{
    pc->flags &= ~(unsigned long long) (IN_FOREACH | _SIGINT_);
    pc->sigint_cnt = -1; /* the first ^C makes it 0 and sets a flag; the second longjmps */
    fp = out ? out : pc->nullfp;
    pc->error_fp = stderr = err ? err : pc->nullfp; /* stderr: symbols.c, datatype_error() */
    pc->error_path = "faultkit"; /* no word that error() knows: it writes to error_fp alone */
    pc->redirect = FROM_COMMAND_LINE | REDIRECT_NOT_DONE;
    pc->stdpipe = pc->pipe = pc->ofile = pc->ifile = NULL;
    pc->ifile_pipe = pc->ifile_ofile = pc->args_ifile = NULL;
    pc->tmpfile = pc->tmpfile2 = NULL;
    pc->stdpipe_pid = pc->pipe_pid = pc->pipe_shell_pid = 0;
    pc->pipe_command[0] = 0;
    opterr = 0; /* getopt() would complain on stderr, not on error_fp */
}

/* What restore_sanity() does before the next command, as far as it is not the caller's. */
static void clean_up(void)
{
    if (pc->tmpfile)
        close_tmpfile();
    if (pc->tmpfile2)
        close_tmpfile2();
    if (pc->cmd_cleanup)
        pc->cmd_cleanup(pc->cmd_cleanup_arg);
    restore_gdb_sanity();
    hq_close();
    pc->cur_req = NULL;
    pc->cur_gdb_cmd = 0;
}

enum fk_end fk_guard(fk_call call, void *argument, FILE *out, FILE *err)
{
    struct saved *saved = malloc(sizeof *saved);
    volatile enum fk_end end = FK_DONE;

    if (!saved)
        return FK_FATAL;
    save(saved);
    hide(out, err);
    if (!setjmp(pc->main_loop_env)) {
        fk_signals_crash();
        if (fk_try(call, argument))
            end = FK_EXCEPTION;
    } else
        end = FK_FATAL;
    fk_signals_python();
    if (end != FK_DONE)
        clean_up();
    if (fk_depth <= 1)
        free_all_bufs(); /* as before each command: many leave theirs to the next one */
    if (fk_signals_caught() || (pc->flags & _SIGINT_)) {
        end = FK_INTERRUPTED;
        fk_signals_drop_quit();
    }
    restore(saved);
    free(saved);
    return end;
}

enum fk_end fk_guard_read(fk_call call, void *argument)
{
    jmp_buf env;
    volatile enum fk_end end = FK_DONE;
    unsigned long long flags = pc->flags;
    FILE *error_fp = pc->error_fp;
    char *error_path = pc->error_path;

    memcpy(&env, &pc->main_loop_env, sizeof env);
    pc->flags &= ~(unsigned long long) IN_FOREACH;
    pc->error_fp = pc->nullfp;
    pc->error_path = "faultkit";
    if (!setjmp(pc->main_loop_env))
        call(argument);
    else
        end = FK_FATAL;
    pc->flags = flags;
    pc->error_fp = error_fp;
    pc->error_path = error_path;
    memcpy(&pc->main_loop_env, &env, sizeof env);
    return end;
}
