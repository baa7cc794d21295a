"""The wait graph against networkx and against its own definition."""

import networkx
from hypothesis import given, settings
from hypothesis import strategies as st

from faultkit.graph import WaitGraph, shortest_cycle, strong_components
from faultkit.model import EVENT, HELD, OUTSIDE, Lock, Task, Wait

NODES = 12


def task(number, pid=1):
    return Task(pid, number)


def wait(number, *holders, **fields):
    lock = Lock("pthread_mutex", 0x1000 + 64 * number, key=("private", 1, number))
    return Wait(task(number), lock, holders=tuple(task(h) for h in holders), **fields)


def graph_of(*waits, tasks=()):
    by_task = {w.task: w for w in waits}
    known = set(by_task) | {h for w in waits for h in w.holders} | {task(t) for t in tasks}
    return WaitGraph(by_task, known)


edge_lists = st.lists(
    st.tuples(st.integers(0, NODES - 1), st.integers(0, NODES - 1)), max_size=40
)


def adjacency(edges):
    table = {node: [] for node in range(NODES)}
    for start, end in edges:
        if end not in table[start]:
            table[start].append(end)
    return table


@given(edge_lists)
def test_components_are_networkx_components(edges):
    table = adjacency(edges)
    ours = {frozenset(component) for component in strong_components(table)}
    theirs = set(map(frozenset, networkx.strongly_connected_components(networkx.DiGraph(table))))
    assert ours == theirs


@given(edge_lists)
def test_shortest_cycle_is_a_cycle_and_shortest(edges):
    table = adjacency(edges)
    graph = networkx.DiGraph(table)
    for component in strong_components(table):
        cycle = shortest_cycle(table, component)
        lengths = [len(c) for c in networkx.simple_cycles(graph.subgraph(component))]
        assert len(cycle) == min(lengths, default=0)
        for here, there in zip(cycle, cycle[1:] + cycle[:1]):
            assert there in table[here]


@given(edge_lists)
def test_single_holders_are_stuck_exactly_if_they_lead_into_a_cycle(edges):
    """Locks held by all of several: whoever reaches a cycle never gets on."""
    table = adjacency(edges)
    graph = graph_of(*(wait(n, *table[n]) for n in table if table[n]), tasks=range(NODES))
    digraph = networkx.DiGraph(table)
    on_cycle = {
        n
        for component in networkx.strongly_connected_components(digraph)
        for n in component
        if len(component) > 1 or digraph.has_edge(n, n)
    }
    expected = {n for n in table if on_cycle & (networkx.descendants(digraph, n) | {n})}
    assert {t.tid for t in graph.stuck} == expected


@settings(max_examples=300)
@given(edge_lists, st.sets(st.integers(0, NODES - 1)))
def test_stuck_is_the_greatest_set_that_nothing_frees(edges, any_of):
    """Against the definition, for waits that one of several peers could end."""
    table = adjacency(edges)
    graph = graph_of(
        *(wait(n, *table[n], any_of=n in any_of) for n in table if table[n]),
        tasks=range(NODES),
    )
    free = {n for n in table if not table[n]}
    while True:
        more = {
            n
            for n in set(table) - free
            if (any if n in any_of else all)(holder in free for holder in table[n])
        }
        if not more:
            break
        free |= more
    assert {t.tid for t in graph.stuck} == set(table) - free


@given(edge_lists)
def test_members_are_held_by_the_next_and_victims_are_no_members(edges):
    table = adjacency(edges)
    graph = graph_of(*(wait(n, *table[n]) for n in table if table[n]), tasks=range(NODES))
    for cycle in graph.cycles():
        for here, there in zip(cycle, cycle[1:] + cycle[:1]):
            assert there.task in here.holders
        members = [w.task for w in cycle]
        victims = graph.behind(members)
        assert not set(victims) & set(members)
        digraph = networkx.DiGraph(table).reverse()
        reachable = networkx.descendants(digraph, members[0].tid)
        assert {v.tid for v in victims} == reachable - {m.tid for m in members}


def test_a_peer_that_runs_could_answer():
    answered = graph_of(wait(1, 2, 3, any_of=True), wait(2, 1, any_of=True), tasks=[3])
    assert answered.cycles() == []
    refused = graph_of(wait(1, 2, 3, any_of=True), wait(2, 1, any_of=True), wait(3, 2))
    assert len(refused.cycles()) == 1


def test_idle_threads_of_a_stuck_process_do_not_free_it():
    idle = Wait(task(3), Lock("condvar", 0x10, key=("private", 1, 0x10)), needs=EVENT, any_of=True)
    stuck = graph_of(wait(1, 2, 3, any_of=True), wait(2, 1), idle)
    assert {w.task.tid for w in stuck.cycles()[0]} == {1, 2}
    waker = graph_of(wait(1, 2, 3, any_of=True), wait(2, 1), idle, tasks=[4])
    assert waker.cycles() == []


def test_a_timer_ends_an_event_wait_but_not_a_lock_cycle():
    locks = graph_of(wait(1, 2, timed=True), wait(2, 1, timed=True))
    assert len(locks.cycles()) == 1
    joins = graph_of(wait(1, 2, needs=EVENT, timed=True), wait(2, 1))
    assert joins.cycles() == []


def test_chains_need_a_lock_that_somebody_wants():
    outside = Wait(task(9), Lock("pipe", None, "fd 3"), needs=OUTSIDE)
    wanted = graph_of(wait(1, 2), wait(2, 9), outside)
    assert [(root.tid, [t.tid for t in behind]) for root, behind in wanted.chains()] == [
        (9, [2, 1])
    ]
    joined = graph_of(wait(1, 9, needs=EVENT), outside)
    assert joined.chains() == []
    asleep = graph_of(wait(1, 9), outside.but(timed=True))
    assert asleep.chains() == []


def test_unknown_holders_prove_nothing():
    unknown = wait(1).but(needs=HELD)
    graph = graph_of(unknown, wait(2, 1), wait(3, 2))
    assert graph.stuck == set() and graph.cycles() == []


def test_cost_is_linear():
    """200,000 tasks in one chain, and in one cycle: no recursion, no quadratic step."""
    count = 200_000
    chain = graph_of(*(wait(n, n + 1) for n in range(count)))
    assert chain.stuck == set()
    ring = graph_of(*(wait(n, (n + 1) % 1000) for n in range(1000)))
    assert len(ring.cycles()[0]) == 1000
