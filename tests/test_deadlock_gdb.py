"""`deadlock` in a real gdb on every scenario, live and on cores.

By default each scenario runs once in each mode, with the variants dealt out in turn; all
variants in all modes run with `-m full` or FAULTKIT_FULL=1.
"""

import harness
import pytest
from scenarios import ALL

LIVE = ("attached", "unattached")
CORES = ("kernel-core", "gcore")


def _cases():
    for number, scenario in enumerate(ALL):
        modes = LIVE + (CORES if scenario.core else ())
        for turn, mode in enumerate(modes):
            chosen = (number + turn) % len(scenario.variants)
            for index, variant in enumerate(scenario.variants):
                yield pytest.param(
                    scenario,
                    variant,
                    mode,
                    id=f"{scenario.name}-{variant}-{mode}",
                    marks=() if index == chosen else pytest.mark.full,
                )


@pytest.mark.parametrize("scenario, variant, mode", list(_cases()))
def test_scenario(scenario, variant, mode):
    with harness.running(scenario, variant) as stage:
        if mode == "attached":
            report, _, _ = harness.gdb_deadlock(pid=stage.target)
            if not scenario.healed:
                harness.assert_unharmed(stage)
        elif mode == "unattached":
            report, _, _ = harness.unattached_deadlock(stage.target)
            harness.assert_unharmed(stage, seconds=0)
        else:
            take = harness.kernel_core if mode == "kernel-core" else harness.gcore_core
            core = take(stage)
            report, _, _ = harness.gdb_deadlock(exe=stage.executable, core=core)
        symbols = "stripped" not in variant
        harness.check(report, scenario, stage, core=mode in CORES, symbols=symbols)
