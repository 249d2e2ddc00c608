"""What goes wrong, and how often: every move may be somebody's last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from benchmarks.simulation.users import Users
from benchmarks.simulation.workers import Child, SimulatedWorker, Site

LEASE_SECONDS = 4.0


class Storm:
    """Faults, drawn at every move.

    Args:
        workers: Those that live; the storm takes some out, and puts new ones in.
        make_worker: Starts one more.
        intensity: How often something goes wrong, as a factor.
    """

    def __init__(
        self,
        site: Site,
        users: Users,
        workers: list[SimulatedWorker],
        make_worker: Callable[[], SimulatedWorker],
        intensity: float,
    ) -> None:
        self._site = site
        self._users = users
        self._workers = workers
        self._make_worker = make_worker
        self._share = 0.012 * intensity
        self._is_over = False
        self.faults: Counter[str] = Counter()
        self.borders: Counter[str] = Counter()
        self._kinds: dict[str, tuple[float, Callable[[], bool]]] = {
            "child killed": (30, self._kill_child),
            "worker killed": (4, self._kill_worker),
            "parent killed": (2, self._kill_parent),
            "child frozen": (14, self._freeze_child),
            "worker frozen": (12, self._freeze_worker),
            "user's process killed": (4, self._kill_user),
            "broker flushed": (4, self._flush),
            "broker away": (3, self._broker_away),
            "chord counts deleted": (6, self._forget_chords),
            "database away": (4, self._database_away),
            "time jumps": (3, self._jump),
        }

    def strike(self) -> None:
        """Perhaps something goes wrong now."""
        random = self._site.loop.random
        if self._is_over or random.random() >= self._share:
            return
        names = list(self._kinds)
        (name,) = random.choices(names, [self._kinds[name][0] for name in names])
        if self._kinds[name][1]():
            self.faults[name] += 1
            self._site.loop.note(f"fault: {name}")

    def end(self) -> None:
        """From now on everything works: what is frozen goes on, what is away comes back."""
        self._is_over = True
        self._site.broker.calm()
        self._site.weather.away_until = self._site.weather.lost_replies = 0.0
        for actor in self._site.loop.actors:
            actor.frozen_until = min(actor.frozen_until, self._site.loop.now)

    def _busy(self) -> list[Child]:
        """Children in the middle of something, and not frozen: what is frozen is to wake up and go on."""
        return [
            child
            for worker in self._workers
            for child in worker.children
            if not child.is_dead and not child.is_idle and child.actor.frozen_until <= self._site.loop.now
        ]

    def _kill_child(self) -> bool:
        busy = self._busy()
        if not busy:
            return False
        child = self._site.loop.random.choice(busy)
        self.borders[child.actor.at] += 1
        self._worker_of(child).child_dies(child)
        return True

    def _worker_of(self, child: Child) -> SimulatedWorker:
        return next(worker for worker in self._workers if child in worker.children)

    def _kill_worker(self, *, with_children: bool = True) -> bool:
        if not self._workers:
            return False
        worker = self._site.loop.random.choice(self._workers)
        for child in worker.children if with_children else ():
            if not child.is_dead and not child.is_idle:
                self.borders[child.actor.at] += 1
        self._workers.remove(worker)
        worker.die(with_children=with_children)
        self._site.loop.spawn("restart", self._make_worker, self._site.loop.random.uniform(0.5, 10.0))
        return True

    def _kill_parent(self) -> bool:
        return self._kill_worker(with_children=False)

    def _freeze_child(self) -> bool:
        busy = self._busy()
        if busy:
            self._site.loop.random.choice(busy).actor.frozen_until = self._thaw()
        return bool(busy)

    def _freeze_worker(self) -> bool:
        if self._workers:
            self._site.loop.random.choice(self._workers).freeze(self._thaw())
        return bool(self._workers)

    def _thaw(self) -> float:
        return self._site.loop.now + self._site.loop.random.uniform(0.5, 3.0) * LEASE_SECONDS

    def _kill_user(self) -> bool:
        actors = self._users.actors
        if actors:
            self._users.kill(self._site.loop.random.choice(actors))
        return bool(actors)

    def _flush(self) -> bool:
        self._site.broker.flush()
        return True

    def _broker_away(self) -> bool:
        random, broker = self._site.loop.random, self._site.broker
        broker.away_until = self._site.loop.now + random.uniform(0.1, 6.0)
        if random.random() < 0.5:
            broker.flush()
        return True

    def _forget_chords(self) -> bool:
        self._site.broker.forget_chords()
        return True

    def _database_away(self) -> bool:
        self._site.weather.away_until = self._site.loop.now + self._site.loop.random.uniform(0.05, 8.0)
        return True

    def _jump(self) -> bool:
        """The machine slept, or was too busy for everybody: all are late."""
        self._site.loop.now += self._site.loop.random.uniform(0.3, 2.5) * LEASE_SECONDS
        return True
