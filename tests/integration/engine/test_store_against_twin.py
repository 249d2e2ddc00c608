"""Whatever is called, in whatever order: SQLite, PostgreSQL and a twin of plain values say and hold the same."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.support.hands import Hands
from tests.support.twin import CALLS, Key, Row, Store, Twin
from workflows.compile import compile_workflow
from workflows.db.database import Database
from workflows.model.parser import parse_workflow
from workflows.model.states import CLAIMABLE, STEP_TRANSITIONS, Event, State

PLAN = compile_workflow(
    parse_workflow("""
id: twin
steps:
  a: {uses: x}
  b: {uses: x}
  c: {uses: x, needs: [a, b]}
  d: {uses: x, needs: [c]}
  m: {uses: x, needs: [a], for_each: {items: [0, 1, 2, 3, 4]}}
  e: {uses: x, needs: [d, m]}
""")
)
MAP = PLAN.ordinal_of("m")
LEGAL = {
    resume: {
        (source.value, to.value)
        for (source, event), to in STEP_TRANSITIONS.items()
        if (event is Event.RESUME) is resume
    }
    for resume in (True, False)
}

nodes = st.sampled_from(["one", "two"])
picks = st.integers(0, 1_000)


class StoreMachine(RuleBasedStateMachine):
    """Calls of workers, keepers, reconcilers and people, in any order that the types allow."""

    databases: ClassVar[list[Database]]

    def __init__(self) -> None:
        super().__init__()
        self.twin = Twin(PLAN)
        self.stores = [Store(database, PLAN, str(uuid.uuid4())) for database in self.databases]
        self.handles = 0
        self.read_leases: list[tuple[str, list[Any]]] = []
        self.before: dict[Key, tuple[str, int]] = {}

    def teardown(self) -> None:
        for store in self.stores:
            store.close()

    def ask(self, call: str, *args: Any, **named: Any) -> Any:
        """The same call to all; they answer the same."""
        answer = getattr(self.twin, call)(*args, **named)
        for store in self.stores:
            assert getattr(store, call)(*args, **named) == answer, call
        self.check()
        return answer

    def key(self, pick: int, *, status: tuple[str, ...] = ()) -> Key:
        """One of the units; of those in `status` when there are such."""
        keys = sorted(self.twin.rows)
        wanted = [key for key in keys if self.twin.rows[key].status in status]
        found = wanted or keys or [(0, 0)]
        return found[pick % len(found)]

    def handle(self, pick: int, *, ranges: bool) -> int | None:
        """One of the claims, mostly one that still holds."""
        known = [handle for handle, (key, _) in self.twin.claims.items() if (key[1] > 0) is ranges]
        holding = [handle for handle in known if self.twin.owned(handle)]
        found = holding if holding and pick % 4 else known
        return found[pick // 4 % len(found)] if found else None

    @initialize(is_started=st.integers(0, 9))
    def begin(self, is_started: int) -> None:
        if is_started:
            self.ask("start")

    @precondition(lambda self: self.twin.status == "PENDING" or self.handles % 7 == 6)
    @rule()
    def start(self) -> None:
        self.ask("start")

    def _claim(self, pick: int, node: str) -> None:
        ready = [
            key
            for key, row in sorted(self.twin.rows.items())
            if row.status in CLAIMABLE and row.is_due and not row.pending
        ]
        self.handles += 1
        self.ask("claim", self.handles, ready[pick % len(ready)] if ready and pick % 6 else self.key(pick), node)

    @precondition(lambda self: self.twin.rows)
    @rule(pick=picks, node=nodes)
    def claim(self, pick: int, node: str) -> None:
        self._claim(pick, node)

    def _go_on(self, pick: int, node: str) -> None:
        """What a worker would do: go on with what it holds, claim what is ready, allocate more of a map."""
        holding = self._holding()
        if not holding or pick % 3 == 0:
            if pick % 4 == 0:
                self._allocate(1 + pick % 3)
            self._claim(1 + 6 * pick, node)
            return
        handle = holding[pick % len(holding)]
        key = self.twin.claims[handle][0]
        if key[1]:
            first, last = self.twin.bounds[handle]
            self.ask("end_range", handle, ["SUCCESS"] * (last - first))
        elif key[0] != MAP:
            self.ask("end", handle, State.SUCCESS)
        elif (self.twin.rows[key].inserted or 0) < CALLS:
            self._add_calls(1 + pick % CALLS)
        else:
            self._open_map()

    @precondition(lambda self: self.twin.status == "PROGRESS")
    @rule(picked=st.lists(st.tuples(picks, nodes), min_size=2, max_size=10))
    def workers_go_on(self, picked: list[tuple[int, str]]) -> None:
        for pick, node in picked:
            self._go_on(pick, node)

    @precondition(lambda self: self.twin.claims)
    @rule(pick=picks, status=st.sampled_from([*[State.SUCCESS] * 6, State.FAILURE, State.REVOKED]))
    def end(self, pick: int, status: State) -> None:
        handle = self.handle(pick, ranges=False)
        if handle is not None and (self.twin.claims[handle][0][0] != MAP or status is not State.SUCCESS):
            self.ask("end", handle, status)
            self.ask("was_ended", handle, status)

    @precondition(lambda self: self.twin.claims)
    @rule(
        pick=picks,
        ranges=st.booleans(),
        status=st.sampled_from([State.RETRY, State.WAITING, State.PENDING]),
        is_late=st.booleans(),
        failed=st.booleans(),
    )
    def put_off(self, pick: int, ranges: bool, status: State, is_late: bool, failed: bool) -> None:
        handle = self.handle(pick, ranges=ranges)
        if handle is not None:
            self.ask("put_off", handle, status, is_late=is_late, failed=failed)

    def _holding(self) -> list[int]:
        return [handle for handle in self.twin.claims if self.twin.owned(handle)]

    @precondition(lambda self: self._holding())
    @rule(pick=picks, late=st.sampled_from(["end", "put_off", "hold", "renew", "end_range"]))
    def be_overtaken(self, pick: int, late: str) -> None:
        """Somebody is frozen beyond the lease, another one takes over, and then the first one goes on."""
        holding = self._holding()
        handle = holding[pick % len(holding)]
        key = self.twin.claims[handle][0]
        read = self.ask("leases", "one")
        self.ask("expire", key)
        self.ask("take_back_expired", key)
        self.handles += 1
        self.ask("claim", self.handles, key, "two")
        if late == "renew":
            self.ask("renew", "one", read)
        elif late == "put_off":
            self.ask("put_off", handle, State.RETRY, is_late=False, failed=True)
        elif late == "hold":
            self.ask("hold", handle)
        elif key[1]:
            self.ask("end_range", handle, ["SUCCESS"])
        elif late == "end" and key[0] != MAP:
            self.ask("end", handle, State.SUCCESS)

    @precondition(lambda self: self._expander() is not None and self.twin.owned(self._expander() or 0))
    @rule(late=st.sampled_from(["renew", "put_off", "open_map"]))
    def open_a_map_without_hearing_of_it(self, late: str) -> None:
        """What was decided before a map was open is done after."""
        handle = self._expander()
        assert handle is not None
        self._add_calls(CALLS)
        read = [(node, self.ask("leases", node)) for node in ("one", "two")]
        self.ask("open_map", handle)
        if late == "renew":
            for node, held in read:
                self.ask("renew", node, held)
        elif late == "put_off":
            self.ask("put_off", handle, State.PENDING, is_late=False, failed=False)
        else:
            self.ask("open_map", handle)

    @precondition(lambda self: self.twin.claims)
    @rule(pick=picks, ranges=st.booleans())
    def look(self, pick: int, ranges: bool) -> None:
        self.ask("standing", self.key(pick))
        handle = self.handle(pick, ranges=ranges)
        if handle is not None:
            self.ask("owned", handle)
            self.ask("hold", handle)

    @precondition(lambda self: self.twin.claims)
    @rule(pick=picks, node=nodes, counted=st.booleans())
    def child_dies(self, pick: int, node: str, counted: bool) -> None:
        self.ask("take_back_dead", self.key(pick, status=("PROGRESS",)), node, counted=counted)

    @precondition(lambda self: self.twin.claims)
    @rule(pick=picks)
    def lease_ends(self, pick: int) -> None:
        self.ask("expire", self.key(pick, status=("PROGRESS",)))

    @precondition(lambda self: self.twin.claims)
    @rule(pick=picks)
    def take_back(self, pick: int) -> None:
        expired = self.ask("expired")
        self.ask("take_back_expired", expired[pick % len(expired)] if expired else self.key(pick))

    @precondition(lambda self: self.twin.claims)
    @rule(node=nodes)
    def read(self, node: str) -> None:
        self.read_leases.append((node, self.ask("leases", node)))

    @precondition(lambda self: self.read_leases)
    @rule(pick=picks)
    def renew(self, pick: int) -> None:
        self.ask("renew", *self.read_leases[pick % len(self.read_leases)])

    @precondition(lambda self: self.twin.rows)
    @rule(pick=picks)
    def skip(self, pick: int) -> None:
        if pick % 6 == 0:
            key = self.key(pick, status=("PENDING",))
            if key[1] == 0:
                self.ask("skip", key)

    @precondition(lambda self: any(row.arrives_by == "canvas" for row in self.twin.rows.values()))
    @rule(pick=picks)
    def leave_canvas(self, pick: int) -> None:
        self.ask("leave_canvas", [pick % len(PLAN.steps), (pick + 1) % len(PLAN.steps)])

    @precondition(lambda self: self.twin.is_something_late)
    @rule()
    def time_passes(self) -> None:
        self.ask("come_due")

    @rule(pick=picks)
    def cancel(self, pick: int) -> None:
        if pick % 12 == 0:
            self.ask("cancel")

    @precondition(lambda self: self.twin.status not in ("PENDING", "PROGRESS") or self.handles % 7 == 6)
    @rule()
    def resume(self) -> None:
        self.ask("resume")

    # Maps

    def _expander(self) -> int | None:
        for handle, (key, _) in reversed(self.twin.claims.items()):
            if key == (MAP, 0):
                return handle
        return None

    @precondition(lambda self: self._expander() is not None)
    @rule(number=st.integers(1, CALLS))
    def add_calls(self, number: int) -> None:
        self._add_calls(number)

    def _add_calls(self, number: int) -> None:
        handle = self._expander()
        if handle is not None:
            first = self.twin.rows[MAP, 0].inserted or 0
            if first < CALLS:
                self.ask("add_calls", handle, first, number)

    @precondition(lambda self: self._expander() is not None)
    @rule()
    def open_map(self) -> None:
        self._open_map()

    def _open_map(self) -> None:
        handle = self._expander()
        if handle is not None and self.twin.rows[MAP, 0].inserted == CALLS:
            self.ask("open_map", handle)

    def _is_being_expanded(self) -> bool:
        row = self.twin.rows.get((MAP, 0))
        return row is not None and row.status == "PROGRESS" and not row.is_open_map

    @precondition(lambda self: self.twin.rows.get((MAP, 0), Row()).parts is not None)
    @rule(size=st.integers(1, 3))
    def allocate(self, size: int) -> None:
        self._allocate(size)

    def _allocate(self, size: int) -> None:
        if not self._is_being_expanded():
            self.ask("allocate", MAP, size)

    @precondition(lambda self: self.twin.bounds)
    @rule(pick=picks, ends=st.lists(st.sampled_from(["SUCCESS", "FAILURE", "RETRY", "LATER"]), min_size=3, max_size=3))
    def end_range(self, pick: int, ends: list[str]) -> None:
        handle = self.handle(pick, ranges=True)
        if handle is not None:
            first, last = self.twin.bounds[handle]
            self.ask("end_range", handle, ends[: last - first])

    @precondition(lambda self: self.twin.rows.get((MAP, 0), Row()).parts is not None)
    @rule(status=st.sampled_from([*[State.SUCCESS] * 5, State.FAILURE]))
    def end_map(self, status: State) -> None:
        row = self.twin.rows.get((MAP, 0))
        if status is State.FAILURE or row is None or row.success == CALLS:
            self.ask("end_map", MAP, status)

    def check(self) -> None:
        """All hold the same, every change was legal, and the laws hold."""
        picture = self.twin.picture()
        for store in self.stores:
            assert store.picture() == picture
        assert self.twin.broken() == []
        now = {key: (row.status, row.generation) for key, row in self.twin.rows.items()}
        for key, (status, generation) in now.items():
            old, old_generation = self.before.get(key, (status, generation))
            is_resumed = generation != old_generation
            assert status == old or (old, status) in LEGAL[is_resumed], (key, old, status)
        self.before = now


@pytest.mark.timeout(170)
def test_the_store_and_its_twin_never_disagree(hands_on_postgres: Hands, request: pytest.FixtureRequest) -> None:
    on_sqlite = request.getfixturevalue("_sqlite_by_hand").runtime.database

    class Machine(StoreMachine):
        databases: ClassVar = [on_sqlite, hands_on_postgres.database]

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=40,
            stateful_step_count=40,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],  # shrinking over two databases takes minutes
            suppress_health_check=list(HealthCheck),
        ),
    )
