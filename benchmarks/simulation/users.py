"""People and programs that trigger runs, cancel them, and set them going again, each from a process of its own."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

from benchmarks.simulation.loop import Actor
from benchmarks.simulation.workers import SimulatedMachine, Site
from benchmarks.simulation.works import Work
from workflows.compile import compile_workflow
from workflows.compile.plan import Plan
from workflows.engine import control, launch
from workflows.engine.runtime import Runtime
from workflows.model.errors import ConflictError, DatabaseUnavailableError
from workflows.model.parser import parse_workflow
from workflows.model.states import is_terminal
from workflows.steps.registry import StepRegistry


@dataclass
class Story:
    """What became of a work, as its users know it.

    Attributes:
        run_ids: Answers to its submissions, which must all be the same.
        cancels: `(generation, time)` of each answer to a cancel.
        is_over: Its users want no more of it.
    """

    work: Work
    plan: Plan
    run_ids: list[str] = field(default_factory=list)
    cancels: list[tuple[int, float]] = field(default_factory=list)
    resumes: int = 0
    was_paused: bool = False
    is_over: bool = False

    @property
    def run_id(self) -> str:
        """Of its run."""
        return self.run_ids[0]


class Users:
    """All that is wanted from outside."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.stories: list[Story] = []
        self._open: dict[Actor, tuple[Story, int]] = {}

    def want(self, work: Work, after: float) -> None:
        """From then on somebody wants this run."""
        story = Story(work, compile_workflow(parse_workflow(work.definition())))
        self.stories.append(story)
        for number in range(work.submissions):
            self._begin(story, number, after)

    @property
    def are_content(self) -> bool:
        """Whether nobody wants anything any more."""
        return not self._open and all(story.is_over for story in self.stories)

    @property
    def actors(self) -> list[Actor]:
        """Their processes."""
        return [actor for actor in self._open if not actor.is_ended]

    def kill(self, actor: Actor) -> None:
        """A user's process dies in the middle; the user comes again."""
        self._site.loop.kill(actor)
        story, number = self._open.pop(actor)
        self._begin(story, number, self._site.loop.random.expovariate(1 / 2.0))

    def _begin(self, story: Story, number: int, after: float) -> None:
        name = f"user {story.work.number}.{number}"
        actor = self._site.loop.spawn(name, self._site.guard(name, lambda: self._act(story, number)), after)
        self._open[actor] = (story, number)

    def _act(self, story: Story, number: int) -> None:
        runtime = self._site.make_runtime("api", SimulatedMachine(self._site.loop, 1), StepRegistry())
        actor = self._site.loop.current
        try:
            self._persist(runtime, story, number)
        finally:
            runtime.database.close()
        del self._open[actor]

    def _persist(self, runtime: Runtime, story: Story, number: int) -> None:
        while True:
            try:
                self._submit(runtime, story, number)
                if number == 0:
                    self._accompany(runtime, story)
                    story.is_over = True
                return
            except DatabaseUnavailableError:
                self._site.loop.sleep(1.0)

    def _submit(self, runtime: Runtime, story: Story, number: int) -> None:
        work = story.work
        if number == 0 and story.run_ids:
            return
        accepted = launch.submit(
            runtime, story.plan, work.definition(), {}, idempotency_key=f"key {work.number}", patience_seconds=5.0
        )
        story.run_ids.append(accepted.run_id)

    def _accompany(self, runtime: Runtime, story: Story) -> None:
        """Pause it and cancel it when their time has come; set it going again as often as wanted."""
        work, loop = story.work, self._site.loop
        if work.pause_after_seconds is not None and not story.was_paused:
            loop.sleep(work.pause_after_seconds)
            story.was_paused = True
            with suppress(ConflictError):
                control.pause(runtime, story.run_id, patience_seconds=5.0)
            loop.sleep(loop.random.uniform(0.0, 6.0))
        if work.cancel_after_seconds is not None and not story.cancels:
            loop.sleep(work.cancel_after_seconds)
            control.cancel(runtime, story.run_id, patience_seconds=5.0)
            run = control.find(runtime, story.run_id)
            story.cancels.append((run.generation, loop.now))
        if story.was_paused:
            with suppress(ConflictError):
                control.resume(runtime, story.run_id, patience_seconds=5.0)
        while story.resumes < work.resumes:
            run = control.find(runtime, story.run_id)
            if run.status == "SUCCESS":
                return
            if is_terminal(run.status):
                try:
                    control.retry(runtime, story.run_id)
                    story.resumes += 1
                except ConflictError:
                    loop.note(f"run {work.number} cannot be resumed yet")
            loop.sleep(loop.random.uniform(0.5, 4.0))
