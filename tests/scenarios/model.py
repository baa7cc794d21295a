"""What a scenario is: a program to run, and what `deadlock` has to say about it."""

from dataclasses import dataclass
from typing import Optional, Union

C_VARIANTS = ("dbg", "opt", "stripped", "static", "static-stripped")


@dataclass(frozen=True)
class Expect:
    """One finding that the report has to hold.

    `type` is a finding type, or several that would each be right, as "chain|cycle".
    `members` are thread names: of a cycle in its order, compared up to rotation; of any other
    finding everybody in it but the root, in any order.  `kinds` and `names` are those of the
    locks that the members wait for, in the same order ("" or None: any); names are compared
    only where the binary has symbols.  `victims` is how many there are, or their names.
    `root` is a thread's name.  `confidence` is that of the weakest edge.  `otherwise` is
    another finding that would be as right.
    """

    type: str
    members: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    victims: Union[int, tuple[str, ...], None] = None
    root: Optional[str] = None
    confidence: Optional[str] = None
    names: tuple[Optional[str], ...] = ()
    otherwise: Optional["Expect"] = None

    @property
    def types(self) -> tuple[str, ...]:
        return tuple(self.type.split("|"))


@dataclass(frozen=True)
class Scenario:
    """A program and its arguments, and the verdict and findings that are right for it.

    `verdict` may name several, as "found|inconclusive".  The report holds exactly these
    findings, no others; where another verdict than "found" is right and given, they may be
    missing.  `variants` are the ways in which the program is built (harness.py).
    `core`: whether a core of the first process shows the same; `core_verdict` and
    `core_findings` replace what differs there.  `moving`: its threads never come to rest.
    `healed`: attaching interrupts the waits, and that alone lets the program go on.
    """

    name: str
    program: str
    argv: tuple[str, ...]
    verdict: str
    findings: tuple[Expect, ...] = ()
    variants: tuple[str, ...] = C_VARIANTS
    core: bool = True
    moving: bool = False
    notes: str = ""
    healed: bool = False
    core_verdict: Optional[str] = None
    core_findings: Optional[tuple[Expect, ...]] = None

    def verdicts(self, core: bool) -> tuple[str, ...]:
        """The verdicts that are right, live or on a core."""
        verdict = self.core_verdict if core and self.core_verdict else self.verdict
        return tuple(verdict.split("|"))

    def expected(self, core: bool) -> tuple[Expect, ...]:
        """The findings that are right, live or on a core."""
        if core and self.core_findings is not None:
            return self.core_findings
        return self.findings
