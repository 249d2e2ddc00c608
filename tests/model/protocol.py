"""The protocol of the engine: what one transaction, or one touch of the broker, does to the world.

`moves` says when it may happen: whatever can come between two of these, does. What is left out changes no order of
events: durations (a due time is a move, a lease that runs out is a move), data, and the difference between a message
that is late and one that comes last. A method that starts with `rest` is given the world without the worker, or without
the sight, that acts.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum, auto
from typing import assert_never

from tests.model.model import Bug, Graph, May, Model
from tests.model.world import RUN, Message, Phase, Row, Sight, Worker, World, without
from workflows.compile.plan import ArrivesBy
from workflows.model.states import Event, State


class BrokenLawError(Exception):
    """A move did what the protocol forbids; the text says what."""


class Verdict(Enum):
    """What a claim finds; `Protocol.deliver` says what the task then does."""

    CLAIMED = auto()
    OWNED = auto()
    ENDED = auto()
    EARLY = auto()
    NOT_DUE = auto()
    CANCELLED = auto()
    EXHAUSTED = auto()


class Protocol:
    """The transactions on a model's rows, and what they publish; `bugs` are the parts taken out."""

    def __init__(self, model: Model, bugs: frozenset[Bug] = frozenset()) -> None:
        self.model = model
        self.bugs = bugs
        self.graph = Graph(model)
        self.used: set[tuple[str, State, Event]] = set()
        """Entries of the tables that were looked up: `("step" | "run", from, event)`."""

    def start(self) -> World:
        """A run has been triggered: its row is written, its message published."""
        steps = range(self.graph.size)
        rows = tuple(
            Row(
                State.PENDING,
                pending=self._pending_before(steps, step),
                arrives_by=ArrivesBy.CANVAS if self.graph.delivered_by[step] else ArrivesBy.SQL,
            )
            for step in steps
        )
        return World(State.PENDING, rows, (Message(RUN),), self.model.may, self.model.faults)

    # The claim

    def verdict(self, world: World, step: int) -> Verdict:
        """The claim table, first match wins. In SQL this is the WHERE of one conditional UPDATE."""
        row = world.rows[step]
        if not self.exists(world, step):
            return Verdict.EARLY
        if row.state in self.model.terminal:
            return Verdict.ENDED
        if row.state not in self.model.claimable:
            return Verdict.OWNED
        if world.cancelled and Bug.NO_CANCEL_CHECK not in self.bugs:
            return Verdict.CANCELLED
        if (row.pending and Bug.NO_DEPENDENCY_CHECK not in self.bugs) or row.held:
            return Verdict.EARLY
        if not row.due:
            return Verdict.NOT_DUE
        if row.crashes >= self.model.max_crashes:
            return Verdict.EXHAUSTED
        return Verdict.CLAIMED

    def deliver(self, world: World, message: Message) -> World:
        """A worker takes a message and tries to claim its step; to return the world without the message is `Ignore`."""
        world = world._replace(bag=without(world.bag, message))
        step = message.step
        if step == RUN:
            return self._materialise(world, message)
        match self.verdict(world, step):
            case Verdict.CLAIMED:
                row = self._advance(world.rows[step], Event.CLAIM)
                row = row._replace(token=row.token + 1)
                return world.with_row(step, row).busy(Worker(message, row.token, Phase.CLAIMED))
            case Verdict.OWNED:
                if Bug.DUPLICATE_RETURNS_NORMALLY in self.bugs:
                    return self._canvas_goes_on(world, message)
                return world
            case Verdict.ENDED:
                return self._canvas_goes_on(world, message) if message.redelivered else world
            case Verdict.EARLY:
                return self._hand_over(world, step, *self.graph.off_canvas(step))
            case Verdict.NOT_DUE:
                return world
            case Verdict.CANCELLED:
                row = self._advance(world.rows[step], Event.CANCEL)
                return self._commit(world.with_row(step, row), Worker(message, row.token, Phase.CLAIMED))
            case Verdict.EXHAUSTED:
                row = self._advance(self._advance(world.rows[step], Event.CLAIM), Event.FAIL)
                return self._commit(world.with_row(step, row), Worker(message, row.token, Phase.CLAIMED))
            case other:
                assert_never(other)

    def _materialise(self, world: World, message: Message) -> World:
        """`execute_research_job`: the steps' rows in one transaction, the first fragments after it."""
        if world.run is not State.PENDING:
            return world
        world = world._replace(run=self._advance_run(world.run, Event.CLAIM))
        heads = tuple(
            self._first(step)
            for step in sorted(self.graph.heads)
            if not self.graph.predecessors[step] and step not in self.graph.turn_of
        )
        return world.busy(Worker(message, 0, Phase.COMMITTED, heads))

    # A worker with a step

    def effect(self, rest: World, worker: Worker) -> World:
        """The target refuses a key that it has seen. Not fenced: nothing outside of the database can be."""
        step = worker.message.step
        row = rest.rows[step]
        if not row.effects or Bug.NO_IDEMPOTENCY_KEY in self.bugs:
            row = row._replace(effects=row.effects + 1)
        world = rest.with_row(step, row)
        if Bug.PUBLISH_BEFORE_COMMIT in self.bugs:
            foreseen = world.with_row(step, row._replace(state=State.SUCCESS))
            world = world.send(*self._count_down(foreseen, [step])[1])
        return world.busy(worker._replace(phase=Phase.EFFECTED))

    def complete(self, rest: World, worker: Worker, event: Event) -> World:
        """One transaction, `WHERE token = mine`; a late result changes nothing and its message is ignored."""
        step = worker.message.step
        if not self.owns(rest, step, worker.token) and Bug.NO_FENCE not in self.bugs:
            return rest
        row = self._advance(rest.rows[step], event)
        match event:
            case Event.SUCCEED:
                return self._commit(rest.with_row(step, row._replace(commits=row.commits + 1)), worker)
            case Event.FAIL:
                return self._commit(rest.with_row(step, row._replace(failures=row.failures + 1)), worker)
            case Event.CANCEL | Event.DECLINE:
                return self._commit(rest.with_row(step, row), worker)
            case Event.EXPAND:
                return self._expand(rest.with_row(step, row), worker)
            case Event.RETRY:
                row = row._replace(failures=row.failures + 1, due=False)
                return self._leave_worker(rest.with_row(step, row), step)
            case Event.PARK:
                return self._leave_worker(rest.with_row(step, row._replace(due=False)), step)
            case Event.RELEASE:
                world = self._leave_worker(rest.with_row(step, row), step)
                return world.send(worker.message._replace(redelivered=True))
            case _:
                raise AssertionError(f"a worker does not {event} its step")

    def _expand(self, world: World, worker: Worker) -> World:
        """The ranges come into being. From here on the map has no owner and no lease: its last range ends it."""
        step = worker.message.step
        parts = [part for part in self.model.maps[step] if world.rows[part].state is not State.SUCCESS]
        world = world.with_row(step, world.rows[step]._replace(open_parts=len(parts)))
        for part in parts:
            held = world.run is State.PAUSED
            world = world.with_row(part, world.rows[part]._replace(pending=0, held=held))
        if world.run is State.PAUSED:
            return world.busy(worker._replace(phase=Phase.COMMITTED))
        return world.busy(worker._replace(phase=Phase.COMMITTED, publishes=tuple(map(Message, parts))))

    def exists(self, world: World, step: int) -> bool:
        """Whether the row is there: the ranges of a map come with its expansion, after a resume with the next one."""
        return step not in self.graph.part_of or not world.rows[step].pending

    def _commit(self, world: World, worker: Worker) -> World:
        """The end of a step: successors' counters in the same transaction; what became ready is published after it."""
        world, ready = self._count_down(world, [worker.message.step])
        if Bug.PUBLISH_BEFORE_COMMIT in self.bugs:
            ready = ()
        world, begun = self._turn(world)
        return world.busy(worker._replace(phase=Phase.COMMITTED, publishes=(*ready, *begun)))

    def finish(self, rest: World, worker: Worker) -> World:
        """Publish, return, acknowledge: the canvas goes on to the next step."""
        return self._canvas_goes_on(rest.send(*worker.publishes), worker.message)

    # Counters, skips, the end of the run

    def _count_down(self, world: World, ended: list[int]) -> tuple[World, tuple[Message, ...]]:
        """Count down the successors of what has ended; gives what became ready and arrives by SQL."""
        ready: list[Message] = []
        while ended:
            step = ended.pop(0)
            if step in self.graph.part_of:
                world = self._close_part(world, self.graph.part_of[step], ended)
            for after in self.graph.successors[step]:
                row = world.rows[after]
                row = row._replace(pending=row.pending - 1)
                if row.pending == 0 and row.state not in self.model.terminal:
                    if any(world.rows[before].state is not State.SUCCESS for before in self.graph.predecessors[after]):
                        row = self._advance(row, Event.SKIP)
                        ended.append(after)
                    elif row.arrives_by is ArrivesBy.SQL and not row.held:
                        ready.append(self._first(after))
                world = world.with_row(after, row)
        for message in ready:
            if not message.canvas:
                world = self._leave_canvas(world, message.step)
        return world, tuple(ready)

    def _close_part(self, world: World, step: int, ended: list[int]) -> World:
        """A range has ended; the last one ends its map."""
        row = world.rows[step]
        row = row._replace(open_parts=row.open_parts - 1)
        if not row.open_parts:
            states = {world.rows[part].state for part in self.model.maps[step]}
            if State.REVOKED in states:
                row = self._advance(row, Event.CANCEL)
            elif State.FAILURE in states:
                row = self._advance(row, Event.FAIL)
            else:
                row = self._advance(row, Event.SUCCEED)
                row = row._replace(commits=row.commits + 1)
            ended.append(step)
        return world.with_row(step, row)

    def states(self, world: World, turn: int) -> set[State]:
        """The states of the steps of a block, and of the ranges of its maps."""
        return {
            row.state
            for step, row in enumerate(world.rows)
            if self.exists(world, step) and self.graph.turn_of.get(step, 0) == turn
        }

    def _turn(self, world: World) -> tuple[World, tuple[Message, ...]]:
        """When a block has ended the next one begins, or the run ends; what is to be published after the commit."""
        states = self.states(world, world.turn)
        if not states <= set(self.model.terminal):
            return world, ()
        verdict = world.verdict
        if world.turn == 0:
            verdict = self._verdict(states)
            if verdict is State.FAILURE and self.model.later[0]:
                return self._begin(world, 1, verdict)
            for step in self.model.later[0]:
                world = world.with_row(step, self._advance(world.rows[step], Event.SKIP)._replace(pending=0))
        assert verdict is not None
        if world.turn < 2 and self.model.later[1]:
            return self._begin(world, 2, verdict)
        if verdict is State.SUCCESS and State.FAILURE in states:
            verdict = State.FAILURE
        event = {State.REVOKED: Event.CANCEL, State.FAILURE: Event.FAIL, State.SUCCESS: Event.SUCCEED}[verdict]
        return world._replace(run=self._advance_run(world.run, event), verdict=verdict), ()

    def _verdict(self, states: set[State]) -> State:
        if State.REVOKED in states:
            return State.REVOKED
        return State.FAILURE if State.FAILURE in states else State.SUCCESS

    def _begin(self, world: World, turn: int, verdict: State) -> tuple[World, tuple[Message, ...]]:
        """The gate of a block opens; a cancel of the one before it has been carried out."""
        world = world._replace(turn=turn, verdict=verdict, cancelled=False)
        heads = self.graph.gated(turn)
        for step in heads:
            world = world.with_row(step, world.rows[step]._replace(pending=0))
        return world, tuple(self._first(step) for step in heads if not world.rows[step].held)

    # Who delivers

    def _canvas_goes_on(self, world: World, message: Message) -> World:
        """A task has returned normally: Celery publishes what comes after it, or counts it in its chord."""
        if not message.canvas or message.step not in self.graph.delivers:
            return world
        after = self.graph.delivers[message.step]
        if world.generation == 0 and world.rows[message.step].state not in self.model.terminal:
            # A resume may come between a commit and the return; nothing else may let a canvas go on from an open step.
            names = self.graph.names
            raise BrokenLawError(f"the canvas goes on to {names[after]}, but {names[message.step]} has not ended")
        members = self.graph.delivered_by[after]
        returned = world.returned | {message.step}
        if not returned.issuperset(members):
            return world._replace(returned=returned)
        world = world._replace(returned=returned.difference(members))
        return world.send(Message(after, canvas=after in self.graph.delivers))

    def _first(self, step: int) -> Message:
        """How a step is published by SQL: the head of a fragment with its canvas, any other step alone."""
        return Message(step, canvas=step in self.graph.heads and step in self.graph.delivers)

    def _leave_canvas(self, world: World, step: int) -> World:
        """Whatever takes a step off its canvas makes those that came after it arrive by SQL."""
        return self._hand_over(world, *self.graph.off_canvas(step))

    def _leave_worker(self, world: World, step: int) -> World:
        """A step that has started has not ended, and waits again: in a paused run for the end of the pause as well."""
        if world.run is State.PAUSED and Bug.RETRY_FORGETS_PAUSE not in self.bugs:
            world = world.with_row(step, world.rows[step]._replace(held=True))
        return self._leave_canvas(world, step)

    def _hand_over(self, world: World, *steps: int) -> World:
        if Bug.NO_HAND_OVER in self.bugs:
            return world
        for step in steps:
            world = world.with_row(step, world.rows[step]._replace(arrives_by=ArrivesBy.SQL))
        return world

    def is_ready(self, world: World, step: int) -> bool:
        """Whether a step could be claimed now, if a message for it arrived."""
        row = world.rows[step]
        is_open = world.run is State.PROGRESS and row.state in self.model.claimable
        return is_open and row.pending == 0 and row.due and not row.held

    def is_coming(self, world: World, step: int) -> bool:
        """Whether a message for the step is in the broker, or somebody is about to publish one."""
        if any(message.step == step for message in world.bag):
            return True
        if any(message.step == step for worker in world.workers for message in worker.publishes):
            return True
        members = self.graph.delivered_by[step]
        return bool(members) and all(self._is_returning(world, member) for member in members)

    def _is_returning(self, world: World, member: int) -> bool:
        """Whether the canvas has counted, or will count, a step that has ended."""
        return (
            member in world.returned
            or any(w.message.step == member and w.message.canvas and w.phase is Phase.COMMITTED for w in world.workers)
            or Message(member, canvas=True, redelivered=True) in world.bag
        )

    # Reconcilers, and the parent of a child that died

    def act(self, rest: World, sight: Sight) -> World:
        """Act upon what was read, if it is still so: the same guard in the WHERE, whoever acts."""
        step, row = sight.step, rest.rows[sight.step]
        if not self.still_so(rest, sight):
            if Bug.EXPIRE_AND_CRASH_BOTH_COUNTED in self.bugs and sight.event is not Event.CLAIM:
                return rest.with_row(step, row._replace(crashes=row.crashes + 1))
            return rest
        if sight.event is Event.CLAIM:
            return self._dispatch(rest, step)
        row = self._advance(row, sight.event)
        return self._leave_worker(rest.with_row(step, row._replace(crashes=row.crashes + 1)), step)

    def still_so(self, world: World, sight: Sight) -> bool:
        """The guard. Once it fails it fails for good: tokens only rise, and a resume sends what it makes ready."""
        if sight.event is Event.CLAIM:
            return self.is_ready(world, sight.step) and world.rows[sight.step].token == sight.token
        return self.owns(world, sight.step, sight.token)

    def _dispatch(self, world: World, step: int) -> World:
        """The remaining graph, not the canvas that was: the step alone."""
        return self._leave_canvas(world, step).send(Message(step))

    def come_due(self, world: World, step: int) -> World:
        """`not_before` has passed, and the reconciler, which slept until then, dispatches what is not held."""
        world = world.with_row(step, world.rows[step]._replace(due=True))
        return world if world.rows[step].held else self._dispatch(world, step)

    def owner_is_dead(self, world: World, step: int) -> bool:
        """Whether nobody renews the lease of a step in PROGRESS."""
        row = world.rows[step]
        return self.owns(world, step, row.token) and not any(
            worker.message.step == step and worker.token == row.token for worker in world.workers
        )

    def owns(self, world: World, step: int, token: int) -> bool:
        """The fence: `WHERE state = PROGRESS AND token = :token`, and the map has not been expanded yet."""
        row = world.rows[step]
        return row.state is State.PROGRESS and row.token == token and not row.open_parts

    # People

    def refuse(self, world: World, message: Message) -> World:
        """The run cannot be materialised, and says so."""
        world = world._replace(bag=without(world.bag, message)).spend(May.REFUSE)
        return world._replace(run=self._advance_run(world.run, Event.FAIL))

    def cancel(self, world: World) -> World:
        """Everything unstarted is REVOKED in one UPDATE; what runs sees the flag."""
        world = world._replace(cancelled=True).spend(May.CANCEL)
        if world.run is State.PENDING or world.is_unmade:
            return world._replace(run=self._advance_run(world.run, Event.CANCEL), is_unmade=False)
        if world.run is State.PAUSED:
            world = world._replace(run=self._advance_run(world.run, Event.UNPAUSE))
            for step in self.graph.turn_of:
                world = world.with_row(step, world.rows[step]._replace(held=False))
        unstarted = [
            step
            for step, row in enumerate(world.rows)
            if row.state in self.model.claimable
            and self.exists(world, step)
            and (self.graph.turn_of.get(step, 0) <= world.turn or Bug.CANCEL_REVOKES_FINALLY in self.bugs)
        ]
        for step in unstarted:
            world = world.with_row(step, self._advance(world.rows[step], Event.CANCEL))
        world, ready = self._count_down(world, unstarted)
        assert not ready, "a cancel makes nothing ready"
        world, begun = self._turn(world)
        return world.send(*begun)

    def turn_away(self, world: World) -> World:
        """`behavior: skip` of a concurrency group: the run ends before it has begun."""
        return world.spend(May.TURN_AWAY)._replace(run=self._advance_run(world.run, Event.SKIP))

    def may_be_cancelled(self, world: World) -> bool:
        """A run that has begun its `finally` has nothing left to be cancelled."""
        return world.run in (State.PENDING, State.PROGRESS, State.PAUSED) and world.turn < 2

    def pause(self, world: World) -> World:
        """Everything unstarted gets one more thing to wait for, and leaves its canvas, in one UPDATE."""
        unmade = world.run is State.PENDING
        world = world.spend(May.PAUSE)._replace(run=self._advance_run(world.run, Event.PAUSE), is_unmade=unmade)
        for step, row in enumerate(world.rows):
            if not unmade and row.state in self.model.claimable and self.exists(world, step):
                arrives_by = row.arrives_by if Bug.RESUME_TRUSTS_CANVAS in self.bugs else ArrivesBy.SQL
                world = world.with_row(step, row._replace(held=True, arrives_by=arrives_by))
        return world

    def unpause(self, world: World) -> World:
        """Nothing is held any more; what is ready is published. A run whose steps are no rows yet begins here."""
        unmade = world.is_unmade
        world = world._replace(run=self._advance_run(world.run, Event.UNPAUSE), is_unmade=False)
        held = [step for step, row in enumerate(world.rows) if row.held]
        for step in held:
            world = world.with_row(step, world.rows[step]._replace(held=False))
        if unmade:
            heads = (
                s for s in sorted(self.graph.heads) if not self.graph.predecessors[s] and s not in self.graph.turn_of
            )
            return world.send(*map(self._first, heads))
        ready = [step for step in held if self.is_ready(world, step)]
        if Bug.RESUME_TRUSTS_CANVAS in self.bugs:
            ready = [step for step in ready if world.rows[step].arrives_by is ArrivesBy.SQL]
        for step in ready:
            world = self._leave_canvas(world, step)
        return world.send(*map(Message, ready))

    def resume(self, world: World) -> World:
        """The next generation: what did not succeed is to be done again, and arrives by SQL."""
        again = [
            step for step, row in enumerate(world.rows) if row.state is not State.SUCCESS or step in self.graph.turn_of
        ]
        run = self._advance_run(world.run, Event.RESUME)
        world = world.spend(May.RESUME)._replace(run=run, generation=world.generation + 1, cancelled=False)
        world = world._replace(turn=0, verdict=None)
        for step in again:
            row = world.rows[step]
            if row.state in self.model.terminal:
                row = self._advance(row, Event.RESUME)
            if step in self.graph.turn_of:
                row = row._replace(commits=0, effects=0)  # it is another end that is handled
            pending = self._pending_before(again, step)
            row = row._replace(pending=pending, arrives_by=ArrivesBy.SQL, failures=0, crashes=0, due=True, held=False)
            world = world.with_row(step, row)
        world = world.send(*(Message(step) for step in again if self.is_ready(world, step)))
        world, begun = self._turn(world)
        return world.send(*begun)

    def _pending_before(self, open_steps: Collection[int], step: int) -> int:
        if step in self.graph.part_of:
            return 1
        if step in self.graph.turn_of and not self.graph.predecessors[step]:
            return 1
        return sum(before in open_steps for before in self.graph.predecessors[step])

    # The tables

    def _advance(self, row: Row, event: Event) -> Row:
        """The only way in which a step changes its state."""
        self.used.add(("step", row.state, event))
        try:
            return row._replace(state=self.model.steps[row.state, event])
        except KeyError:
            raise BrokenLawError(f"illegal transition: a step in {row.state} cannot {event}") from None

    def _advance_run(self, state: State, event: Event) -> State:
        """The only way in which a run changes its state."""
        self.used.add(("run", state, event))
        try:
            return self.model.runs[state, event]
        except KeyError:
            raise BrokenLawError(f"illegal transition: a run in {state} cannot {event}") from None
