"""Signals: guests/signals, and what `deadlock` has to say of it; tests/test_sigsrc_kernel.py has
what `sigsrc` says."""

from .model import Expect, Fault


def _sent(name: str, *threads: str, found: tuple[Expect, ...] = ()) -> Fault:
    """Signals, in no deadlock; what waits for them may be a chain."""
    return Fault(name, threads, found, guest=(name,))


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
    _sent(
        "sig_group",
        "sg-keeper",
        "sg-thread-d",
        "sg-group",
        "sg-faulter",
        found=(Expect("chain", ("sg-thread-d", "sg-faulter"), root="sg-keeper"),),
    ),
    _sent("sig_traced", "sg-tracer", "sg-pest", "sg-traced"),
    _sent("sig_oom", "sg-mother", "sg-eater"),
    _sent("sig_crowd", "sg-crowd"),
)
