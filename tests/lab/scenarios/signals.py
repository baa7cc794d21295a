"""Signals: guests/signals, and what `deadlock` has to say of it; tests/test_sigsrc_kernel.py has
what `sigsrc` says."""

from .model import Expect, Fault


def _sent(
    name: str, *threads: str, found: tuple[Expect, ...] = (), kernels: tuple[str, ...] = ()
) -> Fault:
    """Signals, in no deadlock; what waits for them may be a chain."""
    return Fault(name, threads, found, guest=(name,), kernels=kernels)


def _group(*kernels: str, idle: bool) -> Fault:
    """`idle`: those that wait for a core dump to be written are (f5d39b020809, 6.1)."""
    waiters = ("sg-thread-d", "sg-faulter", *(() if idle else ("sg-group",)))
    found = (Expect("chain", waiters, root="sg-keeper"),)
    threads = ("sg-keeper", "sg-thread-d", "sg-group", "sg-faulter")
    return _sent("sig_group", *threads, found=found, kernels=kernels)


ALL = (
    _sent("sig_pending", "sg-target", "sg-killer", "sg-queuer", "sg-thread"),
    _sent("sig_timer", "sg-timer"),
    _sent("sig_parent", "sg-orphan"),
    _sent("sig_pipe", "sg-pipe"),
    _sent(
        "sig_stuck",
        "sg-holder",
        "sg-stuck",
        "sg-slayer",
        found=(Expect("chain", ("sg-stuck",), root="sg-holder"),),
    ),
    _group("5.10", idle=False),
    _group("6.1", "6.12", "7", idle=True),
    _sent("sig_traced", "sg-tracer", "sg-pest", "sg-traced"),
    _sent("sig_oom", "sg-mother", "sg-eater"),
    _sent("sig_crowd", "sg-crowd"),
)
HARD = (
    _sent("hard_namespace", "hd-maker", "hd-outside"),
    _sent("hard_reused", "hd-target", "hd-reuser"),
    _sent("hard_kinds", "hd-kinds"),
)
