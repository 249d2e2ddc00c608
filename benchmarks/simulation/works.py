"""Random runs, and how each must end if faults change nothing: a small reading of the rules, not the engine's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from random import Random

MAX_ATTEMPTS = 30
"""A frozen process, too, is over its time when it wakes up. That must not decide how a step ends."""
TIMEOUT_SECONDS = 2.0

RULES = (
    *("all_success", "none_failed", "all_done", "one_success", "one_done", "none_failed_min_one_success"),
    "all_done_min_one_success",
)
LEAF_RULES = ("one_failed", "all_failed", "none_skipped", "all_skipped")
"""They can end a step as skipped by its condition. Whether a step after several such, and failures, was skipped for the
one or the other reason may depend on which came first; so nothing comes after them here."""


@dataclass(frozen=True, slots=True)
class Node:
    """A step.

    Attributes:
        ms: Time that its body takes.
        failures: How often it, or the call `unlucky`, fails before it succeeds; -1 means for good.
        slow: How often it takes longer than its timeout.
        deaths: How often it takes its process down.
        is_rare: Not every worker knows it.
        in_transaction: Whether its effect is made in its completing transaction.
        calls: Number of calls of a map; None for another step.
    """

    needs: tuple[str, ...]
    run_if: str
    ms: int
    failures: int
    slow: int
    deaths: int
    is_rare: bool
    in_transaction: bool
    calls: int | None = None
    max_parallel: int = 0
    tolerate: int = 0
    unlucky: int = 0

    @property
    def ends_in_failure(self) -> bool:
        """Whether it fails when it runs."""
        return self.failures < 0 and (self.calls is None or self.tolerate == 0)

    @property
    def successes(self) -> int:
        """How many calls of a map succeed."""
        return (self.calls or 0) - int(self.failures < 0)


@dataclass(frozen=True, slots=True)
class Work:
    """A run to submit.

    Attributes:
        submissions: How often it is triggered under its key.
        pause_after_seconds: Counted from its acceptance; None: not at all. A while later it goes on.
        cancel_after_seconds: Counted from its acceptance; None: not at all.
        resumes: How often somebody sets it going again when it has not succeeded.
    """

    number: int
    nodes: Mapping[str, Node]
    submissions: int
    pause_after_seconds: float | None
    cancel_after_seconds: float | None
    resumes: int

    def definition(self) -> str:
        """Text of the workflow; each is a workflow of its own."""
        lines = [f"id: simulated-{self.number}", "steps:"]
        for name, node in self.nodes.items():
            lines += [f"  {name}:", *self._lines(node)]
        return "\n".join(lines) + "\n"

    def _lines(self, node: Node) -> list[str]:
        lines = [
            f"    uses: simulated.{'rare' if node.is_rare else 'work'}",
            f"    retry: {{max_attempts: {MAX_ATTEMPTS}, delay: 500ms, factor: 2, max_delay: 3s, jitter: full}}",
            f"    timeout: {TIMEOUT_SECONDS:g}s",
            f"    run_if: {node.run_if}",
        ]
        failures, slow, deaths = f"{node.failures}", f"{node.slow}", f"{node.deaths}"
        if node.calls is not None:
            items = [
                f"[{node.failures}, {node.slow}, {node.deaths}]" if index == node.unlucky else "[0, 0, 0]"
                for index in range(node.calls)
            ]
            rest = f"max_parallel: {node.max_parallel}, tolerate: {node.tolerate}"
            lines.append(f"    for_each: {{items: [{', '.join(items)}], {rest}}}")
            failures, slow, deaths = (f'"${{{{ item[{place}] }}}}"' for place in range(3))
        lines.append("    with:")
        lines += [f"      {{ms: {node.ms}, failures: {failures}, slow: {slow}, deaths: {deaths},"]
        lines += [f"      in_transaction: {str(node.in_transaction).lower()}, seen: {{{self._seen(node)}}}}}"]
        return [*lines, *([f"    needs: [{', '.join(node.needs)}]"] if node.needs else [])]

    def _seen(self, node: Node) -> str:
        """What the step is given of those before it: of a step its name, of a map how many of its calls succeeded."""
        if node.run_if != "all_success":
            return ""
        maps = {name for name in node.needs if self.nodes[name].calls is not None}
        return ", ".join(
            f'{name}: "${{{{ {f"size(steps.{name}.outputs)" if name in maps else f"steps.{name}.output.name"} }}}}"'
            for name in node.needs
        )

    def expected(self) -> dict[str, str]:
        """How every step ends when nobody cancels."""
        ends: dict[str, str] = {}
        for name, node in self.nodes.items():
            skipped = node.needs and not may_start(node.run_if, [ends[before] for before in node.needs])
            if skipped:
                failed = any(ends[before] in ("FAILURE", "BLOCKED") for before in node.needs)
                ends[name] = "BLOCKED" if failed and node.run_if not in LEAF_RULES else "SKIPPED"
            else:
                ends[name] = "FAILURE" if node.ends_in_failure else "SUCCESS"
        return ends


def may_start(rule: str, ends: Iterable[str]) -> bool:
    """Whether a step may start when those before it stand so; BLOCKED is one skipped because of a failure.

    An end that is not known yet is anything else, such as PENDING.
    """
    found = list(ends)
    good = found.count("SUCCESS")
    failed = sum(end in ("FAILURE", "BLOCKED", "REVOKED") for end in found)
    skipped = found.count("SKIPPED")
    is_done = good + failed + skipped == len(found)
    return {
        "all_success": good == len(found),
        "all_done": is_done,
        "none_failed": is_done and not failed,
        "none_failed_min_one_success": is_done and not failed and good > 0,
        "one_success": good > 0,
        "one_done": good + failed > 0,
        "one_failed": failed > 0,
        "all_failed": failed == len(found),
        "none_skipped": is_done and not skipped,
        "all_skipped": skipped == len(found),
        "all_done_min_one_success": is_done and good > 0,
    }[rule]


def make_work(seed: str, number: int) -> Work:
    """The run of this number: the same for the same seed, whatever the others are."""
    random = Random(f"{seed}/{number}")
    shape = random.choice((_any_graph, _any_graph, _fans, _chain))(random)
    is_plain = random.random() < 0.3
    nodes: dict[str, Node] = {}
    leaves: set[str] = set()
    for name, wanted in shape.items():
        needs = tuple(before for before in wanted if before not in leaves)
        nodes[name] = _node(random, needs, is_plain=is_plain)
        if nodes[name].run_if in LEAF_RULES:
            leaves.add(name)
    return Work(
        number,
        nodes,
        submissions=random.choice((1, 1, 1, 2, 3)),
        pause_after_seconds=random.uniform(0.0, 4.0) if random.random() < 0.15 else None,
        cancel_after_seconds=random.uniform(0.0, 4.0) if random.random() < 0.15 else None,
        resumes=random.choice((0, 1, 2)),
    )


def _any_graph(random: Random) -> dict[str, tuple[str, ...]]:
    share = 10 ** random.uniform(-1.2, -0.2)
    needs: dict[str, tuple[str, ...]] = {}
    for index in range(random.randint(2, 14)):
        before = list(needs)
        needs[f"s{index}"] = tuple(name for name in before if random.random() < share)
        if before and random.random() < 0.4:
            needs[f"s{index}"] = (before[-1],)
    return needs


def _fans(random: Random) -> dict[str, tuple[str, ...]]:
    """Chords: stretches side by side between two joins."""
    needs: dict[str, tuple[str, ...]] = {"s0": ()}
    last = "s0"
    for _ in range(random.randint(1, 3)):
        tails = []
        for _ in range(random.randint(2, 4)):
            tail = last
            for _ in range(random.randint(1, 3)):
                name = f"s{len(needs)}"
                needs[name], tail = (tail,), name
            tails.append(tail)
        last = f"s{len(needs)}"
        needs[last] = tuple(tails)
    return needs


def _chain(random: Random) -> dict[str, tuple[str, ...]]:
    return {f"s{index}": (f"s{index - 1}",) if index else () for index in range(random.randint(3, 12))}


def _node(random: Random, needs: tuple[str, ...], *, is_plain: bool) -> Node:
    failures = random.choice((-1, 1, 2)) if random.random() < 0.08 else 0
    slow = 1 if random.random() < 0.05 else 0
    deaths = random.choice((1, 2)) if random.random() < 0.03 else 0
    rules = (*RULES, *LEAF_RULES)
    run_if = random.choices(rules, (20, 3, 3, 2, 1, 1, 1, 1, 1, 1, 1))[0] if needs and not is_plain else "all_success"
    ms = random.choices((0, random.randint(5, 60), random.randint(100, 1500)), (4, 4, 2))[0]
    is_rare, in_transaction = random.random() < 0.05 and not is_plain, random.random() < 0.5
    if is_plain or random.random() > 0.12:
        return Node(needs, run_if, ms, failures, slow, deaths, is_rare, in_transaction)
    calls = random.randint(0, 25)
    return Node(
        *(needs, run_if, min(ms, 60), failures if calls else 0, slow, deaths, is_rare, in_transaction),
        calls=calls,
        max_parallel=random.choice((1, 4, 16)),
        tolerate=random.choice((0, 1)),
        unlucky=random.randrange(max(calls, 1)),
    )
