"""All scenarios: each module of this package is a family and has its own in SCENARIOS."""

import importlib
import pkgutil

from .model import Expect, Scenario

__all__ = ["ALL", "Expect", "Scenario"]


def _collect() -> tuple[Scenario, ...]:
    found: dict[str, Scenario] = {}
    for info in sorted(pkgutil.iter_modules(__path__), key=lambda info: info.name):
        module = importlib.import_module(f"{__name__}.{info.name}")
        for scenario in getattr(module, "SCENARIOS", ()):
            if scenario.name in found:
                raise ValueError(f"two scenarios are called {scenario.name}")
            found[scenario.name] = scenario
    return tuple(found.values())


ALL = _collect()
