"""The models that the tests explore: each graph is the smallest that has its kind of edge."""

from __future__ import annotations

from tests.model.model import May, Model
from workflows.compile.plan import Fragment, FragmentKind

STEP = (Fragment(0, FragmentKind.SINGLE, ((0,),)),)
CHAIN = (Fragment(0, FragmentKind.CHAIN, ((0, 1, 2),)),)
CHORD = (Fragment(0, FragmentKind.CHORD, ((0,), (1,)), body=2),)
GATE = (
    Fragment(0, FragmentKind.SINGLE, ((0,),)),
    Fragment(1, FragmentKind.CHAIN, ((1, 2),)),
)
MAP = (
    Fragment(0, FragmentKind.SINGLE, ((0,),)),
    Fragment(1, FragmentKind.SINGLE, ((1,),)),
)
BLOCKS = tuple(Fragment(step, FragmentKind.SINGLE, ((step,),)) for step in range(3))
FAIL, DECLINE, PARK, RELEASE, CANCEL, RESUME, REFUSE, TURN_AWAY, PAUSE = May

SCENARIOS = {
    model.name: model
    for model in (
        Model("run", STEP, faults=1, may=(PARK, CANCEL, RESUME, REFUSE, TURN_AWAY)),
        Model("step", STEP, faults=4),
        Model("step-fails", STEP, faults=2, may=(FAIL, FAIL, FAIL, CANCEL)),
        Model("chain", CHAIN, faults=2),
        Model("chain-retried", CHAIN, faults=1, may=(FAIL, RELEASE), max_attempts=2),
        Model("chain-declined", CHAIN, faults=1, may=(FAIL, DECLINE), max_attempts=2),
        Model("chord", CHORD, faults=2, reconcilers=1),
        Model("chord-cancelled", CHORD, faults=1, may=(FAIL, CANCEL), max_attempts=1),
        Model("chord-resumed", CHORD, faults=1, may=(FAIL, RESUME), max_attempts=1),
        Model("gate", GATE, gates=((0, 1),), faults=1, may=(FAIL, CANCEL), max_attempts=2),
        Model("blocks", BLOCKS, later=((1,), (2,)), faults=1, may=(FAIL, CANCEL), max_attempts=1),
        Model("finally", BLOCKS[:2], later=((), (1,)), faults=2, may=(CANCEL,), max_attempts=1),
        Model("finally-paused", BLOCKS[:2], later=((), (1,)), faults=1, may=(FAIL, CANCEL, PAUSE), max_attempts=1),
        Model("blocks-resumed", BLOCKS, later=((1,), (2,)), may=(FAIL, CANCEL, RESUME), max_attempts=1),
        Model("map", MAP, gates=((0, 1),), maps={0: (2, 3)}, faults=1, may=(FAIL,), max_attempts=1),
        Model("map-cancelled", MAP, gates=((0, 1),), maps={0: (2, 3)}, faults=1, may=(CANCEL,)),
        Model("run-paused", STEP, faults=1, may=(FAIL, CANCEL, RESUME, PAUSE), max_attempts=1),
        Model("chain-paused", CHAIN, faults=1, may=(FAIL, PAUSE), max_attempts=2),
        Model("chord-paused", CHORD, faults=1, may=(PAUSE,)),
        Model("map-paused", MAP, gates=((0, 1),), maps={0: (2, 3)}, may=(FAIL, PAUSE), max_attempts=2),
        Model("map-resumed", MAP, gates=((0, 1),), maps={0: (2, 3)}, may=(FAIL, CANCEL, RESUME), max_attempts=1),
    )
}
"""Together they use every entry of the transition tables; a name says what may happen besides faults.

Two reconcilers race everywhere but in `chord`, the widest graph, where two faults of every kind take the room.
"""
