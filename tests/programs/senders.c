/*
 * Not run, only read: functions with the names of the kernel's that send signals, and callers that
 * choose a signal in all the ways that compilers make something of.
 */

#define KEPT __attribute__((noipa, used))

struct info { int number, error, code; void *address; };

volatile int sink;

KEPT int __send_signal_locked(int number, struct info *info, void *task, int type, int force)
{
    sink = number + type + force + (info > (struct info *) 1);
    return sink && task;
}

KEPT int force_sig_info_to_task(struct info *info, void *task, int handler)
{
    sink = info->number + handler;
    return __send_signal_locked(info->number, info, task, 0, 1) + 1;
}

KEPT int do_send_sig_info(int number, struct info *info, void *task, int type)
{
    int result = -3;
    if (task)
        result = __send_signal_locked(number, info, task, type, 0);
    sink++;
    return result;
}

KEPT int send_sig(int number, void *task, int priv)
{
    return do_send_sig_info(number, priv ? (struct info *) 1 : 0, task, 0);
}

KEPT void force_sig_fault(int number, int code, void *address)
{
    struct info info = {.number = number, .code = code, .address = address};
    force_sig_info_to_task(&info, address, 0);
}

KEPT void force_sig(int number)
{
    struct info info = {.number = number, .code = 0x80};
    force_sig_info_to_task(&info, 0, 0);
}

KEPT void force_sig_mceerr(int code, void *address)
{
    struct info info = {.number = 7, .code = code, .address = address};
    force_sig_info_to_task(&info, address, 0);
}

/* wrappers that are no interfaces */
KEPT void my_trap(long flags, int number, int code, void *address)
{
    sink = flags;
    if (code)
        force_sig_fault(number, code, address);
    else
        force_sig(number);
}

KEPT void choose_plain(void *task) { send_sig(9, task, 1); sink++; }
KEPT void choose_tail(void *task) { send_sig(15, task, 0); }
KEPT void choose_two(void *task, int which) { send_sig(which ? 7 : 11, task, 0); sink++; }
KEPT void choose_branch(void *task, int which)
{
    int number = 13;
    if (which > 5) {
        sink = which;
        number = 24;
        if (which > 100)
            number = 25;
    }
    sink++;
    do_send_sig_info(number, (struct info *) 1, task, 0);
    sink++;
}
KEPT void choose_fault(void *address, int write)
{
    force_sig_fault(11, write ? 2 : 1, address);
    sink++;
}
KEPT void choose_through_wrapper(void *address) { my_trap(3, 8, 1, address); sink++; }
KEPT void choose_without_code(void *address) { my_trap(4, 5, 0, address); sink++; }
KEPT void choose_mceerr(void *address) { force_sig_mceerr(4, address); sink++; }
KEPT void choose_info(void *task)
{
    struct info info = {.number = 31, .code = 1, .address = task};
    do_send_sig_info(info.number, &info, task, 0);
    sink++;
}
KEPT void choose_kept(void *task, int times)
{
    int number = times > 3 ? 1 : 18;
    sink = times;
    choose_plain(task);
    do_send_sig_info(number, 0, task, 0);
    sink++;
}

struct owner { long padding[5]; int number; };
KEPT void told_by_object(struct owner *owner, void *task)
{
    send_sig(owner->number, task, 0);
    sink++;
}
KEPT void told_in_loop(void *task, int last)
{
    for (int number = 3; number < last; number++)
        send_sig(number, task, 0);
}
KEPT void told_partly(struct owner *owner, void *task)
{
    send_sig(owner ? owner->number : 17, task, 0);
    sink++;
}

int main(int argc, char **argv)
{
    choose_tail(argv);
    choose_two(argv, argc);
    choose_branch(argv, argc);
    choose_fault(argv, argc);
    choose_through_wrapper(argv);
    choose_without_code(argv);
    choose_mceerr(argv);
    choose_info(argv);
    choose_kept(argv, argc);
    told_by_object((struct owner *) argv, argv);
    told_in_loop(argv, argc);
    told_partly((struct owner *) argv, argv);
    return sink;
}
