"""Control groups of tasks, v1 and v2 (include/linux/cgroup-defs.h), and the few of their files that
`dstate` asks for."""

from __future__ import annotations

from faultkit.kernel.objects import first_offset, is_kernel_pointer, need, pointer, text, unsigned
from faultkit.kernel.system import System
from faultkit.model import Task
from faultkit.target import FaultkitError

MOST_LEVELS = 64
PAGE = 4096
NO_LIMIT = 0x7FFF_FFFF_FFFF_FFFF // PAGE  # PAGE_COUNTER_MAX, mm/page_counter.c
FREEZING_SELF = 2  # kernel/cgroup/legacy_freezer.c, enum freezer_state_flags
CONTROLLERS = ("freezer", "memory")


class Cgroups:
    """The control groups that tasks were seen in, by (controller, path)."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.kernel = system.kernel
        self._known: dict[tuple[str, str], int] = {}  # struct cgroup

    def path(self, task: Task, controller: str) -> str | None:
        """The task's path in the hierarchy of a v1 controller, or of v2 ("")."""
        try:
            group = self._group(task, controller)
            return self._path(group, controller) if group else None
        except FaultkitError:
            return None

    def _group(self, task: Task, controller: str) -> int:
        """The struct cgroup; 0 where the controller is not v1's.  Raises FaultkitError."""
        kernel = self.kernel
        groups = pointer(kernel, task.address or 0, "task_struct", "cgroups")
        default = self.system.kernel.symbol("cgrp_dfl_root")
        if not controller:
            return pointer(kernel, groups, "css_set", "dfl_cgrp")
        state = self._state(groups, controller)
        group = pointer(kernel, state, "cgroup_subsys_state", "cgroup") if state else 0
        if not group or pointer(kernel, group, "cgroup", "root") == default:
            return 0
        return group

    def _state(self, groups: int, controller: str) -> int:
        """A css_set's cgroup_subsys_state of a controller."""
        number = self.kernel.enumerator(f"{controller}_cgrp_id")
        if number is None:
            return 0
        return self.kernel.u64(groups + need(self.kernel, "css_set", "subsys") + 8 * number)

    def _path(self, group: int, controller: str) -> str:
        """By the names of the kernfs nodes, up to the hierarchy's root; each group above becomes
        known as well.  kernfs_node.parent is __parent since 741c10b096bc ("kernfs: Use RCU to
        access kernfs_node::name and ::parent", 6.15)."""
        kernel = self.kernel
        names: list[str] = []
        groups = []
        parent_at = first_offset(kernel, ("kernfs_node", "__parent"), ("kernfs_node", "parent"))
        private_at = need(kernel, "kernfs_node", "priv")
        node = pointer(kernel, group, "cgroup", "kn")
        for _ in range(MOST_LEVELS):
            above = kernel.u64(node + (parent_at or 0))
            if not is_kernel_pointer(above):
                break
            names.append(text(kernel, pointer(kernel, node, "kernfs_node", "name"), 256))
            groups.append(kernel.u64(node + private_at))
            node = above
        path = ""
        for name, above in zip(reversed(names), reversed(groups)):
            path = f"{path}/{name}"
            self._known[controller, path] = above
        return path or "/"

    def file(self, path: str, controller: str, name: str) -> str | None:
        """The content of a file of a control group that a task was seen in."""
        group = self._known.get((controller, path))
        try:
            return self._content(group, name) if group else None
        except FaultkitError:
            return None

    def _content(self, group: int, name: str) -> str | None:
        kernel = self.kernel
        if name == "cgroup.freeze":
            at = need(kernel, "cgroup", "freezer") + need(kernel, "cgroup_freezer_state", "freeze")
            return str(kernel.read(group + at, 1)[0])
        controller = name.partition(".")[0]
        number = kernel.enumerator(f"{controller}_cgrp_id") if controller in CONTROLLERS else None
        if number is None:
            return None
        state = kernel.u64(group + need(kernel, "cgroup", "subsys") + 8 * number)
        if not state:
            return None
        if name == "freezer.self_freezing":
            flags = unsigned(kernel, state - need(kernel, "freezer", "css"), "freezer", "state")
            return "1" if flags & FREEZING_SELF else "0"
        counter = {
            "memory.limit_in_bytes": "max", "memory.max": "max", "memory.high": "high",
            "memory.usage_in_bytes": "usage", "memory.current": "usage",
        }.get(name)  # fmt: skip
        if counter is None:
            return None
        memory = state - need(kernel, "mem_cgroup", "css") + need(kernel, "mem_cgroup", "memory")
        pages = pointer(kernel, memory, "page_counter", counter)
        if pages >= NO_LIMIT:
            return "max"
        return str(pages * PAGE)
