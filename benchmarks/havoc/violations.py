"""A broken promise, and what is needed to see it again."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Violation:
    """`law` was broken by run `run_id`, the `number`-th of the seed; None: not by a run."""

    law: str
    number: int | None
    run_id: str | None
    text: str

    def __str__(self) -> str:
        run = "" if self.run_id is None else f" run {self.run_id} (number {self.number}):"
        return f"{self.law}:{run} {self.text}"

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)
