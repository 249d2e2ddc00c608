"""Rounds: each arm once, one after the other, again and again. Only what was measured in the same minutes compares."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from benchmarks.arms import Arm, RawArm, Sample, Servers, celeriac_arm, raw_worker
from benchmarks.works import Work


@dataclass(frozen=True, slots=True)
class Figures:
    """All samples of one work, by arm, in the order of the rounds."""

    work: Work
    samples: dict[str, list[Sample]]
    load: tuple[float, float]

    def median(self, arm: str) -> float:
        """Median wall time of an arm, in seconds."""
        return statistics.median(sample.wall_seconds for sample in self.samples[arm])

    def processor_ms(self, arm: str) -> dict[str, float]:
        """Median milliseconds of processor time for each step, by part, and `total`."""
        spent = [s.processor_seconds for s in self.samples[arm]]
        parts = {part: statistics.median(s[part] for s in spent) for part in spent[0]}
        total = statistics.median(sum(s.values()) for s in spent)
        return {part: seconds * 1000 / self.work.steps for part, seconds in (parts | {"total": total}).items()}

    def ratios(self, arm: str, baseline: str) -> list[float]:
        """Wall time of `arm` over that of `baseline` in the same round."""
        return [
            ours.wall_seconds / theirs.wall_seconds
            for ours, theirs in zip(self.samples[arm], self.samples[baseline], strict=True)
        ]

    def to_json(self) -> dict[str, Any]:
        """Everything that was measured, and what follows."""
        databases = [arm for arm in self.samples if not arm.startswith("raw")]
        raws = [arm for arm in self.samples if arm.startswith("raw")]
        ideal = self.work.ideal_seconds
        return {
            "work": self.work.key,
            "title": self.work.title,
            "slots": self.work.slots,
            "load_average": {"before": self.load[0], "after": self.load[1]},
            "ideal_seconds": ideal,
            "arms": {
                arm: {
                    "median_seconds": self.median(arm),
                    "over_ideal": self.median(arm) / ideal if ideal else None,
                    "wall_seconds": [s.wall_seconds for s in samples],
                    "database_seconds": [s.database_seconds for s in samples],
                    "processor_ms_per_step": self.processor_ms(arm),
                    "broker_bytes_per_step": statistics.median(s.broker_bytes for s in samples) / self.work.steps,
                }
                for arm, samples in self.samples.items()
            },
            "ratios": {
                database: {
                    baseline: {
                        "median": statistics.median(self.ratios(database, baseline)),
                        "all": self.ratios(database, baseline),
                        "goal": self.work.goals.get(baseline.removeprefix("raw: "), {}).get(database),
                    }
                    for baseline in raws
                }
                for database in databases
            },
        }


def measure_all(
    works: Iterable[Work],
    databases: list[str],
    servers: Servers,
    folder: Path,
    *,
    repeat: int,
    environment: dict[str, str],
    profile: Path | None = None,
    tell: Callable[[str], None],
) -> Iterator[Figures]:
    """Figures of each work; workers are started once for all works with the same number of slots."""
    for slots, group in groupby(sorted(works, key=lambda work: work.slots), key=lambda work: work.slots):
        with ExitStack() as stack:
            tell(f"workers with {slots} processes start")
            worker = stack.enter_context(raw_worker(folder, servers, slots, environment, _inside(profile, "raw")))
            ours: list[Arm] = [
                stack.enter_context(
                    celeriac_arm(folder / f"{name}-{slots}", servers, name, slots, _inside(profile, name))
                )
                for name in databases
            ]
            for work in group:
                yield _rounds(work, [*(RawArm(variant, worker) for variant in work.raws), *ours], repeat, tell)


def _rounds(work: Work, arms: list[Arm], repeat: int, tell: Callable[[str], None]) -> Figures:
    samples: dict[str, list[Sample]] = {arm.name: [] for arm in arms}
    before = os.getloadavg()[0]
    for number in range(repeat + 1):
        for arm in arms:
            tell(f"{work.key} {arm.name}, " + (f"round {number} of {repeat}" if number else "warming up"))
            sample = arm.measure(work)
            if number:
                samples[arm.name].append(sample)
        arms.reverse()  # so that no arm always follows the same one
    return Figures(work, samples, (before, os.getloadavg()[0]))


def _inside(folder: Path | None, name: str) -> Path | None:
    if folder is None:
        return None
    (folder / name).mkdir(parents=True, exist_ok=True)
    return folder / name
