"""Random runs, and how each must end if faults change nothing: a small reading of the rules, not the engine's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

MAX_FAILURES = 2
RETRY = "retry: {max_attempts: 4, delay: 200ms, factor: 1, jitter: none}"


@dataclass(frozen=True, slots=True)
class Node:
    """A step.

    Attributes:
        calls: Number of calls of a map; None for another step.
        failures: How often it, or the call `unlucky`, fails before it succeeds; -1 means for good.
    """

    needs: tuple[str, ...]
    run_if: str
    ms: int
    failures: int
    size: int
    calls: int | None = None
    max_parallel: int = 0
    tolerate: int = 0
    unlucky: int = 0

    @property
    def ends_in_failure(self) -> bool:
        """Whether it fails when it runs."""
        return self.failures < 0 and (self.calls is None or self.tolerate == 0)

    def lines(self) -> list[str]:
        """Its lines of the definition."""
        failures = str(self.failures)
        lines = ["    uses: chaos.work", f"    {RETRY}", f"    run_if: {self.run_if}"]
        if self.calls is not None:
            items = [self.failures if index == self.unlucky else 0 for index in range(self.calls)]
            lines.append(
                f"    for_each: {{items: {items}, max_parallel: {self.max_parallel}, tolerate: {self.tolerate}}}"
            )
            failures = '"${{ item }}"'
        lines.append(f"    with: {{ms: {self.ms}, failures: {failures}, size: {self.size}}}")
        return [*lines, *([f"    needs: [{', '.join(self.needs)}]"] if self.needs else [])]


@dataclass(frozen=True, slots=True)
class Work:
    """A run to submit.

    Attributes:
        submissions: How often it is triggered under its key.
        cancel_after_seconds: Counted from its acceptance; None: not at all.
    """

    number: int
    nodes: Mapping[str, Node]
    submissions: int
    cancel_after_seconds: float | None

    def definition(self) -> str:
        """Text of the workflow; each is a workflow of its own."""
        lines = [f"id: chaos-{self.number}", "steps:"]
        for name, node in self.nodes.items():
            lines += [f"  {name}:", *node.lines()]
        return "\n".join(lines) + "\n"

    def expected(self) -> dict[str, str]:
        """How every step ends when nobody cancels."""
        ends: dict[str, str] = {}
        for name, node in self.nodes.items():
            is_blocked = node.run_if != "all_done" and any(ends[before] != "SUCCESS" for before in node.needs)
            ends[name] = "SKIPPED" if is_blocked else "FAILURE" if node.ends_in_failure else "SUCCESS"
        return ends


def make_work(seed: int, number: int) -> Work:
    """The run of this number: the same for the same seed, whatever the others are."""
    random = Random(f"{seed}/{number}")
    size = random.randint(2, 25)
    share = 10 ** random.uniform(-1.3, -0.2)
    nodes: dict[str, Node] = {}
    for index in range(size):
        needs = tuple(f"s{before}" for before in range(index) if random.random() < share)
        if index and random.random() < 0.4:
            needs = (f"s{index - 1}",)
        nodes[f"s{index}"] = _node(random, needs)
    submissions = random.choice((1, 1, 1, 2, 3))
    cancel = random.uniform(0.0, 4.0) if random.random() < 0.12 else None
    return Work(number, nodes, submissions, cancel)


def _node(random: Random, needs: tuple[str, ...]) -> Node:
    failures = random.choice((-1, 1, MAX_FAILURES, MAX_FAILURES)) if random.random() < 0.06 else 0
    run_if = random.choices(("all_success", "none_failed", "all_done"), (8, 1, 1))[0]
    ms = random.choices((0, random.randint(5, 60), random.randint(100, 900)), (4, 4, 2))[0]
    size = 100_000 if random.random() < 0.03 else random.choice((0, 10))
    if random.random() > 0.08:
        return Node(needs, run_if, ms, failures, size)
    calls = random.randint(1, 50)
    return Node(
        needs,
        run_if,
        min(ms, 60),
        failures,
        min(size, 10),
        calls=calls,
        max_parallel=random.choice((1, 4, 16)),
        tolerate=random.choice((0, 1)),
        unlucky=random.randrange(calls),
    )
