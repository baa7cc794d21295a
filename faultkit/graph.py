"""Who waits for whom, as a graph: what can never end by itself, the cycles in it, and who
queues behind them.

A wait ends when *all* its holders let go, or with `any_of` when *one* of them acts.  A task is
stuck when its wait can't end: the least set of tasks that can get on is grown from those that
run or wait for the outside world, and what is left is stuck.  So a wait for one of several
peers is part of a deadlock only if none of them can ever act.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Hashable, Iterable, Mapping, Sequence

from faultkit.model import EVENT, HELD, OUTSIDE, Task, Wait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    Node = TypeVar("Node", bound=Hashable)


SEARCHED = 256  # members of one component from which the shortest cycle is searched


def strong_components(edges: Mapping[Node, Sequence[Node]]) -> list[list[Node]]:
    """Tarjan's strongly connected components, without recursion, in reverse topological order.

    Nodes without an entry in `edges` have no way out and are left aside.
    """
    index: dict[Node, int] = {}
    low: dict[Node, int] = {}
    on_path: set[Node] = set()
    path: list[Node] = []
    components: list[list[Node]] = []
    for start in edges:
        if start in index:
            continue
        work = [(start, iter(edges[start]))]
        index[start] = low[start] = len(index)
        path.append(start)
        on_path.add(start)
        while work:
            node, rest = work[-1]
            for after in rest:
                if after not in edges:
                    continue
                if after not in index:
                    index[after] = low[after] = len(index)
                    path.append(after)
                    on_path.add(after)
                    work.append((after, iter(edges[after])))
                    break
                if after in on_path:
                    low[node] = min(low[node], index[after])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    component = []
                    while True:
                        member = path.pop()
                        on_path.discard(member)
                        component.append(member)
                        if member == node:
                            break
                    components.append(component)
    return components


def shortest_cycle(edges: Mapping[Node, Sequence[Node]], component: Sequence[Node]) -> list[Node]:
    """The shortest cycle within a strongly connected component, in edge order; [] if it has
    none (a single node without an edge to itself)."""
    inside = set(component)
    best: list[Node] = []
    for start in component[:SEARCHED]:
        before: dict[Node, Node] = {}
        queue = deque([start])
        depth = {start: 0}
        found = False
        while queue and not found:
            node = queue.popleft()
            if best and depth[node] + 1 >= len(best):
                break
            for after in edges.get(node, ()):
                if after == start:
                    cycle = [node]
                    while cycle[-1] != start:
                        cycle.append(before[cycle[-1]])
                    best = cycle[::-1]
                    found = True
                    break
                if after in inside and after not in depth:
                    depth[after] = depth[node] + 1
                    before[after] = node
                    queue.append(after)
        if best and len(best) == 1:
            break
    return best


class WaitGraph:
    """The waits of all tasks that were looked at.

    `waits` has the blocked tasks; a task of `tasks` that is not there runs, and one in neither
    was not looked at: both are taken as able to get on, so that nothing is claimed of them.
    """

    def __init__(self, waits: Mapping[Task, Wait], tasks: Iterable[Task]) -> None:
        self.waits = waits
        self.tasks = set(tasks) | set(waits)
        self.stuck = self._find_stuck()
        self.edges = self._stuck_edges()
        self._waiters: dict[Task, list[Task]] | None = None

    def _find_stuck(self) -> set[Task]:
        """Everything that can never get on; linear in tasks and edges."""
        members: dict[int, list[Task]] = defaultdict(list)  # idle ones, by process
        crowds: dict[tuple[int, ...], list[Task]] = {}  # those who wait for the very same tasks
        waiting_for: dict[Task, list[tuple[int, ...]]] = defaultdict(list)
        left: dict[tuple[int, ...], int] = {}
        free = deque(
            holder
            for wait in self.waits.values()
            for holder in (*wait.holders, *wait.others)
            if holder not in self.tasks
        )
        for task in self.tasks:
            wait = self.waits.get(task)
            if wait is None or _ends_by_itself(wait):
                free.append(task)
            elif wait.fault:
                continue
            elif wait.holders:
                crowd: tuple[int, ...] = (id(wait.holders), id(wait.others), wait.any_of)
                if crowd in crowds:
                    crowds[crowd].append(task)
                    continue
                crowds[crowd] = [task]
                holders = {*wait.holders, *wait.others}
                left[crowd] = 1 if wait.any_of else len(holders)
                for holder in holders:
                    waiting_for[holder].append(crowd)
            else:
                members[task.pid].append(task)
        done: set[Task] = set()
        while free:
            task = free.popleft()
            if task in done:
                continue
            done.add(task)
            for crowd in waiting_for.get(task, ()):
                left[crowd] -= 1
                if left[crowd] == 0:
                    free.extend(crowds[crowd])
            free.extend(members.pop(task.pid, ()))
        return self.tasks - done

    def _stuck_edges(self) -> dict[Task, list[Task]]:
        """For each stuck task those of its holders that are stuck, where there are any."""
        edges = {}
        known: dict[int, list[Task]] = {}  # by the identity of the holders' tuple
        for task in self.stuck:
            holders = self.waits[task].holders
            if not holders:
                continue
            stuck = known.get(id(holders))
            if stuck is None:
                stuck = known[id(holders)] = [holder for holder in holders if holder in self.stuck]
            if stuck:
                edges[task] = stuck
        return edges

    def cycles(self) -> list[list[Wait]]:
        """The shortest cycle of every strongly connected component, members in cycle order,
        each held by the next one; from the one with the lowest thread id on."""
        cycles = []
        holders = {task for stuck in self._lists_of_holders() for task in stuck}
        edges = {task: self.edges[task] for task in holders if task in self.edges}
        for component in strong_components(edges):
            if len(component) == 1 and component[0] not in edges[component[0]]:
                continue
            members = shortest_cycle(edges, sorted(component, key=_order))
            if members:
                first = members.index(min(members, key=_order))
                cycles.append([self.waits[t] for t in members[first:] + members[:first]])
        return sorted(cycles, key=lambda cycle: _order(cycle[0].task))

    def _lists_of_holders(self) -> Iterable[list[Task]]:
        """The lists of stuck holders, each once: thousands may share one.  Whom none of them
        names is in no cycle."""
        return {id(holders): holders for holders in self.edges.values()}.values()

    def behind(self, roots: Iterable[Task], barred: Iterable[Task] = ()) -> list[Task]:
        """The tasks whose waits lead to `roots`, directly or not, without the roots themselves;
        nearest first, then by thread id.  `barred` tasks are neither listed nor passed."""
        reverse = self._reverse()
        seen = set(barred) | set(roots)
        order: list[Task] = []
        layer = list(dict.fromkeys(roots))
        while layer:
            following = []
            for task in layer:
                for waiter in reverse.get(task, ()):
                    if waiter not in seen:
                        seen.add(waiter)
                        following.append(waiter)
            following.sort(key=_order)
            order.extend(following)
            layer = following
        return order

    def chains(self) -> list[tuple[Task, list[Task]]]:
        """(root, those behind it) for every root that waits for something else than a task
        while others need what it holds.

        A wait for its end or its answer does not make a root (a pool that is joined may well be
        idle): somebody must want a lock, here or further down the chain.  A root that runs or
        sleeps for a time gets on by itself and is left out.
        """
        reverse = self._reverse()
        chains = []
        for root in sorted(reverse, key=_order):
            wait = self.waits.get(root)
            if wait is None or wait.fault or wait.timed:
                continue
            if wait.needs == HELD or (wait.holders and self._is_definite(wait)):
                continue
            if any(self._gets_on(holder) for holder in wait.holders):
                continue
            behind = self.behind([root])
            if any(self.waits[task].needs == HELD for task in behind):
                chains.append((root, behind))
        return chains

    def _is_definite(self, wait: Wait) -> bool:
        """Whether the wait depends on its holders: not if any of several could act and one of
        them still can."""
        return not wait.any_of or len(wait.holders) == 1 or wait.task in self.stuck

    def moves(self, task: Task) -> bool:
        """Whether the task gets on without any other: it runs, or waits for a time or the outside
        only."""
        return self._gets_on(task) or self.waits[task].needs == OUTSIDE

    def _gets_on(self, task: Task) -> bool:
        """Whether the task runs, or sleeps for a time only."""
        wait = self.waits.get(task)
        return wait is None or wait.timed

    def _reverse(self) -> dict[Task, list[Task]]:
        if self._waiters is None:
            self._waiters = defaultdict(list)
            for task, wait in self.waits.items():
                if wait.holders and self._is_definite(wait):
                    for holder in wait.holders:
                        if holder != task:
                            self._waiters[holder].append(task)
        return self._waiters


def _ends_by_itself(wait: Wait) -> bool:
    """Whether nothing can be claimed of who has to act: the outside world, a timer, or a holder
    that could not be found.  A lock wanted for a time only is still a deadlock while it lasts."""
    if wait.fault:
        return False
    if wait.needs == OUTSIDE or (wait.needs == EVENT and wait.timed):
        return True
    if wait.holders:
        return False
    return wait.needs == HELD or not _within_process(wait)


def _within_process(wait: Wait) -> bool:
    """Whether only threads of the waiter's own process could end this wait."""
    key: tuple[object, ...] | None = wait.lock.key
    return key is not None and key[0] == "private"


def _order(task: Task) -> tuple[int, int]:
    return task.pid, task.tid
