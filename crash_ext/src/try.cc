/* The gdb inside crash throws C++ exceptions (gdb_command_funnel passes them on unless
 * GNU_RETURN_ON_ERROR is set): none may unwind through Python. */
extern "C" int fk_try(void (*call)(void *), void *argument)
{
    try {
        call(argument);
        return 0;
    } catch (...) {
        return 1;
    }
}
