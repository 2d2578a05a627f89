"""What a campaign found, and the table of all campaigns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Column: TypeAlias = Literal["lost", "doubled", "crashes", "wrong bytes", "left over", "wrong exit"]

COLUMNS: dict[Column, str] = {
    "lost": "images, samples, files or epochs that the finished output lacks",
    "doubled": "images, samples or epochs that it has twice",
    "crashes": "tracebacks, signals that nobody sent, and commands that hang or take more memory than the limit",
    "wrong bytes": "files that differ from those of an undisturbed run, or lie outside the output",
    "left over": "temporary files and processes that stay",
    "wrong exit": "exit codes or messages other than those promised",
}
"""Each must be 0."""


@dataclass(frozen=True)
class Problem:
    """One broken promise.

    Attributes
    ----------
    case : int
        Number of the case in its campaign.
    column : Column
    count : int
        How many images, files and so on.
    detail : str
        What was done, and what was found.
    """

    case: int
    column: Column
    count: int
    detail: str


@dataclass
class Tally:
    """What a campaign did and found so far.

    Attributes
    ----------
    name : str
        Of the campaign.
    note : str
        What the table says about it in addition.
    case : int
        Number of the case that runs.
    cases, faults : int
        How many were run, and injected.
    seconds : float
    problems : list of Problem
    """

    name: str
    note: str = ""
    case: int = 0
    cases: int = 0
    faults: int = 0
    seconds: float = 0.0
    problems: list[Problem] = field(default_factory=list)

    def add(self, column: Column, detail: str, count: int = 1) -> None:
        """Record a broken promise."""
        self.problems.append(Problem(self.case, column, count, detail))

    def check(self, kept: bool, column: Column, detail: str) -> None:
        """Record a broken promise unless it was kept."""
        if not kept:
            self.add(column, detail)

    def counts(self) -> Counter[Column]:
        """Return how much was found in each column."""
        counts: Counter[Column] = Counter()
        for problem in self.problems:
            counts[problem.column] += problem.count
        return counts


def render(tallies: Sequence[Tally]) -> str:
    """Return the table as text, one line per campaign and one of sums."""
    header = ["campaign", "cases", "faults", *COLUMNS, "seconds"]
    lines = [
        [tally.name, f"{tally.cases:,}", f"{tally.faults:,}"]
        + [f"{tally.counts()[column]:,}" for column in COLUMNS]
        + [f"{tally.seconds:.0f}"]
        for tally in tallies
    ]
    total = sum((tally.counts() for tally in tallies), Counter())
    sums = [sum(tally.cases for tally in tallies), sum(tally.faults for tally in tallies)]
    lines.append(
        ["all", *(f"{value:,}" for value in sums)]
        + [f"{total[column]:,}" for column in COLUMNS]
        + [f"{sum(tally.seconds for tally in tallies):.0f}"]
    )
    widths = [max(len(line[index]) for line in [header, *lines]) for index in range(len(header))]
    text = [
        "  ".join(cell.ljust(width) if index == 0 else cell.rjust(width) for index, (cell, width) in enumerate(row))
        for row in (zip(line, widths, strict=True) for line in [header, *lines])
    ]
    notes = [f"{tally.name}: {tally.note}" for tally in tallies if tally.note]
    return "\n".join([*text, *notes])


def describe_problems(tallies: Sequence[Tally], seed: int) -> str:
    """Return every broken promise with the command that repeats its case."""
    return "\n".join(
        f"{tally.name} {problem.case}: {problem.column}: {problem.detail}\n"
        f"    repeat: python -m tests.faults --seed {seed} --only {tally.name} --case {problem.case}"
        for tally in tallies
        for problem in tally.problems
    )
