"""faultkit inside gdb: the file to source, the gdb target, the commands."""
