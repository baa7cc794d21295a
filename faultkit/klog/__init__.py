"""The kernel's log: its lines, and the tasks that sysrq-w, sysrq-t and hung-task reports show."""
