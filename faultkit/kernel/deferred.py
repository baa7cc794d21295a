"""What runs though no task gets on: timers, delayed work and work items that are due, those of
kthread_workers too, and what devices' interrupts call."""

from __future__ import annotations

from collections.abc import Iterator

from faultkit.kernel.kthreads import items_of, kthread_workers
from faultkit.kernel.objects import BrokenList, entries, is_kernel_pointer, need, pointer
from faultkit.kernel.system import System
from faultkit.kernel.trees import maple_entries, rb_nodes, xarray_load
from faultkit.kernel.workers import (
    held_back,
    place_of,
    pwqs_of,
    workers,
    workqueue_of,
    workqueues,
)
from faultkit.model import Task
from faultkit.record import NamedTuple
from faultkit.target import FaultkitError

MOST = 50_000  # of each kind
_LACKING = "timers that the dump lacks"
MOST_IN_A_LIST = 10_000
MOST_INTERRUPTS, MOST_SHARING = 4096, 64  # handlers that share one
SURE_BASES = 2  # that kernels of distributions have at least
BASES = 3  # timer_bases of a CPU: NR_BASES of kernel/time/timer.c is 1, 2, or 3 since 6.9

TIMER, DELAYED_WORK, INTERRUPT = "a timer", "delayed work", "an interrupt"
WORK_ITEM, KTHREAD_ITEM = "a work item", "a kthread_worker's item"
# What the timers of delayed work call (kernel/workqueue.c, kernel/kthread.c): of which type.
DELAYED = {
    "delayed_work_timer_fn": ("delayed_work", "work_struct"),
    "kthread_delayed_work_timer_fn": ("kthread_delayed_work", "kthread_work"),
}


class Deferred(NamedTuple):
    """A call that is due, or may come at any time: `function` gets `argument` in `register`: the
    address of the timer or work item, or what an interrupt's handler was registered with."""

    kind: str
    function: int
    argument: int
    register: str = "rdi"


def timers(system: System) -> Iterator[Deferred]:
    """The pending timers of all CPUs, delayed work among them."""
    for cpu in system.running:
        yield from _wheel(system, cpu)
        yield from _high_resolution(system, cpu)


def lacks_timers(system: System) -> bool:
    """Whether the dump lacks where a CPU's timers are kept, or one of these, behind which others
    may be, so that nobody knows which are due: asked when timers() has been gone through."""
    if system.cache.get(_LACKING):
        return True
    kernel = system.kernel
    kept = (("timer_bases", "timer_base"), ("hrtimer_bases", "hrtimer_cpu_base"))
    for name, type_name in kept:
        bases, size = kernel.symbol(name), kernel.size(type_name)
        if not bases or not size:
            continue
        for cpu in system.running:
            try:
                kernel.read(kernel.per_cpu(bases, cpu), size)
            except FaultkitError:
                return True
    return False


def _wheel(system: System, cpu: int) -> Iterator[Deferred]:
    """struct timer_base (kernel/time/timer.c): its `vectors` are hlists of timer_lists.  What is
    no such list's first node, which points back to the list, is behind the last base."""
    kernel = system.kernel
    bases, size = kernel.symbol("timer_bases"), kernel.size("timer_base")
    length = kernel.size("timer_base", "vectors")
    if not bases or not size or not length:
        return
    vectors = need(kernel, "timer_base", "vectors")
    links, function = need(kernel, "timer_list", "entry"), need(kernel, "timer_list", "function")
    delayed = {kernel.symbol(name): types for name, types in DELAYED.items()}
    for number in range(BASES):
        at = kernel.per_cpu(bases, cpu) + number * size + vectors
        try:
            heads = kernel.words(at, length // 8)
        except FaultkitError:
            continue
        for index, head in enumerate(heads):
            for node in _hlist(system, at + 8 * index, head, number < SURE_BASES):
                timer = node - links
                try:
                    called = kernel.u64(timer + function)
                    if called in delayed:
                        whole, item = delayed[called]  # it begins with its item
                        work = timer - need(kernel, whole, "timer")
                        yield _item(system, DELAYED_WORK, work, item)
                    else:
                        yield Deferred(TIMER, called, timer)
                except FaultkitError:
                    system.cache[_LACKING] = True


def _hlist(system: System, head: int, node: int, lacking: bool) -> list[int]:
    """The nodes of the hlist at `head`, whose first is `node`; none of what does not link back, or
    leads round to `head`, as a list_head does.  `lacking`: it is one, so that nodes which can't be
    read are lacking."""
    found: list[int] = []
    place = head
    while node and len(found) < MOST_IN_A_LIST:
        if not is_kernel_pointer(node) or node & 7 or node == head:
            return []
        try:
            following, back = system.kernel.words(node, 2)
        except FaultkitError:
            system.cache[_LACKING] = lacking or system.cache.get(_LACKING)
            break
        if back != place:
            return []
        found.append(node)
        place, node = node, following
    return found


def _high_resolution(system: System, cpu: int) -> Iterator[Deferred]:
    """struct hrtimer_cpu_base (include/linux/hrtimer_defs.h): a tree for each of its clocks."""
    kernel = system.kernel
    bases, size = kernel.symbol("hrtimer_bases"), kernel.size("hrtimer_clock_base")
    length = kernel.size("hrtimer_cpu_base", "clock_base")
    node_at, function = kernel.offset("hrtimer", "node.node"), kernel.offset("hrtimer", "function")
    root = kernel.offset("hrtimer_clock_base", "active.rb_root.rb_root.rb_node")
    if not bases or not size or not length or None in (node_at, function, root):
        return
    first = kernel.per_cpu(bases, cpu) + need(kernel, "hrtimer_cpu_base", "clock_base")
    for clock in range(first, first + length, size):
        try:
            top = kernel.u64(clock + (root or 0))
            for node in rb_nodes(kernel, top, MOST):
                timer = node - (node_at or 0)
                yield Deferred(TIMER, kernel.u64(timer + (function or 0)), timer)
        except FaultkitError:
            continue


def interrupts(system: System) -> Iterator[Deferred]:
    """The handlers of interrupts, and what their threads call (struct irqaction,
    include/linux/interrupt.h)."""
    kernel = system.kernel
    first, following = need(kernel, "irq_desc", "action"), need(kernel, "irqaction", "next")
    handlers = [need(kernel, "irqaction", name) for name in ("handler", "thread_fn")]
    argument = need(kernel, "irqaction", "dev_id")
    for description in _irq_descriptions(system):
        try:
            action = kernel.u64(description + first)
            for _ in range(MOST_SHARING):
                if not is_kernel_pointer(action):
                    break
                for handler in handlers:
                    called = kernel.u64(action + handler)
                    if called:
                        device = kernel.u64(action + argument)
                        yield Deferred(INTERRUPT, called, device, "rsi")
                action = kernel.u64(action + following)
        except FaultkitError:
            continue


def _irq_descriptions(system: System) -> Iterator[int]:
    """All struct irq_desc (kernel/irq/irqdesc.c): in a maple tree since 721255b98286 ("genirq: Use
    a maple tree for interrupt descriptor management", 6.5), before in a radix tree."""
    kernel = system.kernel
    tree = kernel.symbol("sparse_irqs")
    if tree:
        yield from maple_entries(kernel, tree)
        return
    tree, count = kernel.symbol("irq_desc_tree"), kernel.symbol("nr_irqs")
    if tree and count:
        for number in range(min(kernel.u32(count), MOST_INTERRUPTS)):
            yield xarray_load(kernel, tree, number)


def work_items(system: System) -> Iterator[Deferred]:
    """The work items in line: on pools' lists, held back by their workqueues, or next on a
    kworker's own list."""
    kernel = system.kernel
    heads = dict.fromkeys([*(worker.scheduled for worker in workers(system)), *held_back(system)])
    for queue in workqueues(system):
        for pwq in pwqs_of(system, queue):
            try:
                pool = pointer(kernel, pwq, "pool_workqueue", "pool")
                heads[pool + need(kernel, "worker_pool", "worklist")] = None
            except FaultkitError:
                continue
    links = need(kernel, "work_struct", "entry")
    for head in heads:
        try:
            for work in entries(kernel, head, links):
                yield _item(system, WORK_ITEM, work)
        except (BrokenList, FaultkitError):
            continue


def kthread_items(system: System) -> Iterator[Deferred]:
    """The items in line at kthread_workers."""
    for worker in kthread_workers(system):
        for work in items_of(system, worker):
            try:
                yield _item(system, KTHREAD_ITEM, work, "kthread_work")
            except FaultkitError:
                continue


def _item(system: System, kind: str, work: int, of: str = "work_struct") -> Deferred:
    return Deferred(kind, pointer(system.kernel, work, of, "func"), work)


def ahead_of(system: System, call: Deferred) -> tuple[Task, ...]:
    """The kernel threads behind whose items this one is in line; () if it is in none, or any that
    is free may take it."""
    if call.kind == KTHREAD_ITEM:
        return tuple(
            worker.task
            for worker in kthread_workers(system)
            if worker.work and call.argument in items_of(system, worker)
        )
    place = place_of(system, call.argument) if call.kind == WORK_ITEM else None
    if place is None:
        return ()
    if place.worker is not None:
        return (place.worker.task,)
    return tuple(
        worker.task
        for worker in workers(system)
        if place.held_back and workqueue_of(system, worker) == place.held_back
    )
