"""autofs: the automount daemon was asked to mount or unmount something."""

from faultkit.causes import Explanation
from faultkit.causes._files import mount_for, of_type
from faultkit.causes.chain import resource_of, task_link
from faultkit.causes.view import Blocked, View

CAUSE = "autofs"
FUNCTIONS = frozenset("autofs_wait autofs4_wait autofs_mount_wait autofs4_mount_wait".split())
PRIORITY = 10
STATES = "DS"


def explain(blocked: Blocked, view: View) -> Explanation:
    """Waits for the automount daemon; its process and what that is at."""
    mount, _ = mount_for(blocked, view, of_type("autofs"))
    where = f" at {mount.point}" if mount is not None else ""
    daemon = None
    if mount is not None:
        group = mount.option("pgrp")
        found = view.find(int(group)) if group and group.isdigit() else None
        daemon = found.task if found is not None else None
    for name in () if daemon is not None else ("automount", "systemd"):
        daemon = next(iter(view.named(name)), None)
        if daemon is not None:
            break
    return Explanation(
        f"waits until the automount daemon has mounted a file system{where}",
        (where,),
        resource_of(view, blocked),
        (task_link(view, daemon),) if daemon is not None else (),
        "see what the automount daemon and its mount(8) child wait for; systemctl list-jobs",
    )
