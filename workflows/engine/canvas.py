"""Fragments of a plan as Celery signatures, and their way to the broker."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from celery import Celery
from celery.canvas import Signature, chain, chord, group, maybe_signature
from celery.canvas import _chain as chain_type
from celery.utils import uuid
from celery.utils.functional import regen
from kombu.exceptions import OperationalError
from kombu.messaging import Producer

from workflows.compile.plan import Fragment, FragmentKind, Plan
from workflows.model.errors import BrokerUnavailableError

STEP_TASK = "celeriac.step"
"""Name of the task that runs a step: `celeriac.step(run_pk, ordinal[, part])`."""

RUN_QUEUE = "research"
"""Queue of the messages that start runs."""

COUNTS_CHORDS = "celeriac_counts_chords"
"""Celery setting of our own: whether the result backend can count the members of a chord."""

EXECUTE_TASK = "execute_research_job"
"""Name of the task that starts a run: `execute_research_job(run_pk)`."""


def execute_signature(app: Celery, run_pk: int, run_id: str) -> Signature:
    """The message that starts a run; its id is the run's own, so that Celery's tools find it."""
    return Signature(
        EXECUTE_TASK, args=(run_pk,), immutable=True, options={"queue": RUN_QUEUE, "task_id": run_id}, app=app
    )


def step_signature(app: Celery, run_pk: int, ordinal: int, *, part: int = 0, queue: str) -> Signature:
    """The message of one unit of work; immutable, so what ran before it adds nothing to its arguments."""
    args = (run_pk, ordinal, part) if part else (run_pk, ordinal)
    # Nobody waits for a reply. Left out, Celery writes an address of 36 characters into every step of a chain.
    return Signature(STEP_TASK, args=args, immutable=True, options={"queue": queue, "reply_to": ""}, app=app)


def chain_canvas(app: Celery, plan: Plan, ordinals: Sequence[int], run_pk: int) -> Signature:
    """A step, or steps one after the other, each on its own queue."""
    steps = [step_signature(app, run_pk, ordinal, queue=plan.steps[ordinal].queue) for ordinal in ordinals]
    return steps[0] if len(steps) == 1 else chain(steps, app=app)


def fragment_canvas(app: Celery, plan: Plan, fragment: Fragment, run_pk: int) -> Signature:
    """The canvas of a fragment: a signature, a chain, a group or a chord, each step on its own queue."""
    chains = [chain_canvas(app, plan, ordinals, run_pk) for ordinals in fragment.chains]
    match fragment.kind:
        case FragmentKind.SINGLE | FragmentKind.CHAIN:
            return chains[0]
        case FragmentKind.GROUP:
            return group(chains, app=app)
        case FragmentKind.CHORD:
            if fragment.body is None:
                raise ValueError(f"fragment {fragment.index} is a chord without a body")
            # Written out, because Celery's own upgrade of `group | task` is slow.
            body = chain_canvas(app, plan, (fragment.body,), run_pk)
            return chord(group(chains, app=app), body, app=app)


def publish_fragment(app: Celery, plan: Plan, fragment: Fragment, run_pk: int) -> None:
    """Publish the first messages of a fragment.

    Raises:
        BrokerUnavailableError: the broker does not answer; some of the messages may have been sent.
    """
    publish_steps(app, [fragment_canvas(app, plan, fragment, run_pk)])


def publish_steps(app: Celery, signatures: Sequence[Signature]) -> None:
    """Publish signatures, or whole canvases, over one connection.

    Raises:
        BrokerUnavailableError: the broker does not answer; some of the messages may have been sent.
    """
    with _broker_errors(), app.producer_or_acquire() as producer:
        for signature in signatures:
            send(app, signature, producer)


def send(app: Celery, canvas: Signature, producer: Producer) -> None:
    """Publish one canvas over an open producer; the messages are those that its own `apply_async` would make.

    That method is not used for two reasons. A group's subscribes the publisher to the result of every member, twice
    for a chord, and a process that lives long never gets rid of these subscriptions. A chain's takes another
    connection than the one it is given.

    Args:
        app: Whose messages they are, whatever application the canvas or its members belong to. A canvas that was
            written down and read again leaves its members to the application that is current in this thread.
    """
    if isinstance(canvas, chord) and app.conf.get(COUNTS_CHORDS, True):
        body = _copy(app, canvas.body)
        body.freeze()
        _send_members(app, canvas.tasks, producer, body)
    elif isinstance(canvas, chord | group):
        # A chord's body is left to the reconciler where nothing counts the header: the run was planned on a result
        # backend that this installation has no more.
        _send_members(app, canvas.tasks, producer)
    else:
        single = _copy(app, canvas)
        single.freeze()
        _send_frozen(single, producer)


def _copy(app: Celery, canvas: Signature) -> Signature:
    """A signature, or a chain and all its members, as that of an application."""
    copy = maybe_signature(canvas, app=app, clone=True)
    if isinstance(copy, chain_type):
        copy.tasks = [maybe_signature(task, app=app) for task in copy.tasks]
    return copy


def _send_members(
    app: Celery, signatures: Iterable[Signature], producer: Producer, body: Signature | None = None
) -> None:
    group_id = uuid()
    members = [_copy(app, signature) for signature in signatures]
    results = [member.freeze(group_id=group_id, chord=body, group_index=i) for i, member in enumerate(members)]
    if body is not None:
        # Lazy, or else the Redis backend makes a GroupResult of them, which subscribes to each.
        app.backend.apply_chord((group_id, regen(iter(results))), body)
        app.backend.set_chord_size(group_id, len(members))
    for member in members:
        _send_frozen(member, producer)


def _send_frozen(canvas: Signature, producer: Producer) -> None:
    first, *rest = canvas.tasks if isinstance(canvas, chain_type) else [canvas]
    # A worker takes the next task from the end. The result is ignored by the task itself; it is said again for
    # processes that do not know the task, which would subscribe to it.
    first.apply_async(producer=producer, add_to_parent=False, ignore_result=True, chain=rest[::-1] or None)


@contextmanager
def _broker_errors() -> Iterator[None]:
    from amqp.exceptions import AMQPError
    from redis.exceptions import RedisError  # a third of a second that a dry-run can do without

    try:
        yield
    except (OperationalError, AMQPError, RedisError, OSError) as error:
        raise BrokerUnavailableError(
            f"the message broker does not answer: {error}",
            "start it, or correct CELERY_BROKER_URL; nothing is lost, what is recorded is sent again",
        ) from error
