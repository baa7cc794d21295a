"""Back traces in text: kernel logs, /proc/PID/stack, perf, ftrace, bpftrace, SystemTap, debuggers.

Each of the modules that `reader.KINDS` names knows one kind of text: it says of a line what that
means (`events`).  `reader` makes traces of what they say.
"""
