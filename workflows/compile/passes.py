"""The compiler's passes: each takes a draft and gives the next, and changes one thing.

A draft starts as a graph and ends as fragments. Its nodes are ordinals, in topological order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

from workflows.compile.graph import Edge, Graph
from workflows.compile.plan import Fragment, FragmentKind

MAX_CHAIN = 6
"""Steps in a chain. The first message of a chain carries all that follow, so the cut bounds bytes, and duplicates."""

MAX_HEADER_CHAIN = 4
"""Steps in a chain of a chord's header, whose messages carry the chord's body as well."""

MAX_HEADER = 64
"""Chains in a chord's header. The messages of a chord are sent all at once, one for each chain, and each of them has to
return for the chord to be counted; a wider join is counted by SQL, which lets one message do several steps."""

Chain = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Draft:
    """A workflow on its way to fragments.

    Attributes:
        ruled: Steps whose `run_if` is other than all_success.
        alone: Steps that need gates on both sides: their place in the run is decided by SQL, not by a message.
        turns: Steps of later blocks, with the turn of the block; nothing else tells them apart where no edges are.
        chains: Runs of steps that are not yet part of a fragment, by head.
        fragments: What has been found, by head once `number_fragments` has run.
    """

    graph: Graph
    ruled: frozenset[int] = frozenset()
    alone: frozenset[int] = frozenset()
    turns: Mapping[int, int] = field(default_factory=dict)
    chains: tuple[Chain, ...] = ()
    fragments: tuple[Fragment, ...] = ()


def reduce_edges(draft: Draft) -> Draft:
    """Drop every edge that a longer path implies, in time and in outcome.

    >>> reduce_edges(Draft(Graph.of(3, [(0, 1), (1, 2), (0, 2)]))).graph.edges
    ((0, 1), (1, 2))

    A rule other than all_success judges each of its dependencies, and may succeed where they failed; so the edges
    that lead to it or around it stay:

    >>> reduce_edges(Draft(Graph.of(3, [(0, 1), (1, 2), (0, 2)]), ruled=frozenset({1}))).graph.edges
    ((0, 1), (0, 2), (1, 2))
    """
    return replace(draft, graph=draft.graph.reduced(draft.ruled))


def find_stretches(draft: Draft) -> Draft:
    """Split the steps into the longest stretches without a branch; steps that stand alone are stretches of one.

    >>> find_stretches(Draft(Graph.of(4, [(0, 1), (1, 2), (1, 3)]))).chains
    ((0, 1), (2,), (3,))
    >>> find_stretches(Draft(Graph.of(3, [(0, 1), (1, 2)]), alone=frozenset({1}))).chains
    ((0,), (1,), (2,))
    """

    def next_in_stretch(step: int) -> int | None:
        after = draft.graph.successors[step]
        if len(after) != 1 or len(draft.graph.predecessors[after[0]]) != 1 or {step, after[0]} & draft.alone:
            return None
        return after[0]

    following = {step: after for step in range(len(draft.graph)) if (after := next_in_stretch(step)) is not None}
    inner = set(following.values())
    stretches = []
    for head in range(len(draft.graph)):
        if head not in inner:
            stretch = [head]
            while (after := following.get(stretch[-1])) is not None:
                stretch.append(after)
            stretches.append(tuple(stretch))
    return replace(draft, chains=tuple(stretches))


def find_chords(draft: Draft) -> Draft:
    """Turn whole stretches that start together and end in nothing but one join into a chord, whose body is the join.

    What follows the body stays a stretch of its own. Stretches too long for a header are left as they are.

    >>> before = Draft(Graph.of(5, [(0, 1), (0, 2), (1, 3), (2, 3), (3, 4)]), chains=((0,), (1,), (2,), (3, 4)))
    >>> after = find_chords(before)
    >>> [(chord.chains, chord.body) for chord in after.fragments], after.chains
    ([(((1,), (2,)), 3)], ((0,), (4,)))
    """
    by_tail = {chain[-1]: chain for chain in draft.chains}
    chords = []
    for body in range(len(draft.graph)):
        header = _header_of(body, by_tail, draft)
        if header:
            chords.append(Fragment(-1, FragmentKind.CHORD, header, body))
    taken = {step for chord in chords for step in chord.members}
    rest = (tuple(step for step in chain if step not in taken) for chain in draft.chains)
    return replace(draft, chains=tuple(chain for chain in rest if chain), fragments=(*draft.fragments, *chords))


def _header_of(body: int, by_tail: dict[int, Chain], draft: Draft) -> tuple[Chain, ...]:
    tails = draft.graph.predecessors[body]
    if not 2 <= len(tails) <= MAX_HEADER or body in draft.alone:
        return ()
    if any(draft.graph.successors[tail] != (body,) or tail in draft.alone for tail in tails):
        return ()
    header = sorted(by_tail[tail] for tail in tails)
    before = draft.graph.predecessors[header[0][0]]
    if any(len(chain) > MAX_HEADER_CHAIN or draft.graph.predecessors[chain[0]] != before for chain in header):
        return ()
    return tuple(header)


def cut_chains(draft: Draft) -> Draft:
    """Cut what is left of the stretches so that no chain is longer than MAX_CHAIN.

    >>> cut_chains(Draft(Graph.of(8, []), chains=((0, 1, 2, 3, 4, 5, 6, 7),))).chains
    ((0, 1, 2, 3, 4, 5), (6, 7))
    """
    return replace(draft, chains=tuple(piece for chain in draft.chains for piece in _pieces(chain)))


def _pieces(chain: Chain) -> Iterator[Chain]:
    for start in range(0, len(chain), MAX_CHAIN):
        yield chain[start : start + MAX_CHAIN]


def find_groups(draft: Draft) -> Draft:
    """Join chains with equal predecessors and equal successors into groups; the others are fragments of their own.

    >>> two_by_two = Graph.of(4, [(0, 2), (0, 3), (1, 2), (1, 3)])
    >>> [(f.kind.value, f.chains) for f in find_groups(Draft(two_by_two, chains=((0,), (1,), (2,), (3,)))).fragments]
    [('group', ((0,), (1,))), ('group', ((2,), (3,)))]
    >>> found = find_groups(Draft(Graph.of(3, [(0, 1)]), alone=frozenset({2}), chains=((0, 1), (2,)))).fragments
    >>> [(f.kind.value, f.chains) for f in found]
    [('single', ((2,),)), ('chain', ((0, 1),))]
    """
    alike: dict[tuple[Chain, Chain, int], list[Chain]] = defaultdict(list)
    fragments = list(draft.fragments)
    for chain in draft.chains:
        if chain[0] in draft.alone:
            fragments.append(Fragment(-1, FragmentKind.SINGLE, (chain,)))
        else:
            before, after = draft.graph.predecessors[chain[0]], draft.graph.successors[chain[-1]]
            alike[before, after, draft.turns.get(chain[0], 0)].append(chain)
    fragments.extend(_fragment(chains) for chains in alike.values())
    return replace(draft, chains=(), fragments=tuple(fragments))


def _fragment(chains: list[Chain]) -> Fragment:
    if len(chains) > 1:
        return Fragment(-1, FragmentKind.GROUP, tuple(sorted(chains)))
    return Fragment(-1, FragmentKind.SINGLE if len(chains[0]) == 1 else FragmentKind.CHAIN, (chains[0],))


def number_fragments(draft: Draft) -> Draft:
    """Sort the fragments by their first head and number them.

    >>> found = Fragment(-1, FragmentKind.SINGLE, ((1,),)), Fragment(-1, FragmentKind.SINGLE, ((0,),))
    >>> [(f.index, f.heads) for f in number_fragments(Draft(Graph.of(2, []), fragments=found)).fragments]
    [(0, (0,)), (1, (1,))]
    """
    by_head = sorted(draft.fragments, key=lambda fragment: fragment.heads[0])
    return replace(draft, fragments=tuple(replace(fragment, index=i) for i, fragment in enumerate(by_head)))


PASSES: tuple[Callable[[Draft], Draft], ...] = (
    reduce_edges,
    find_stretches,
    find_chords,
    cut_chains,
    find_groups,
    number_fragments,
)


def find_gates(draft: Draft) -> tuple[Edge, ...]:
    """The edges that no fragment's canvas delivers, sorted: SQL counts them.

    >>> chain = Fragment(0, FragmentKind.CHAIN, ((0, 1),)), Fragment(1, FragmentKind.SINGLE, ((2,),))
    >>> find_gates(Draft(Graph.of(3, [(0, 1), (1, 2)]), fragments=chain))
    ((1, 2),)
    """
    delivered = {edge for fragment in draft.fragments for edge in canvas_edges(fragment)}
    return tuple(edge for edge in draft.graph.edges if edge not in delivered)


def canvas_edges(fragment: Fragment) -> Iterator[Edge]:
    """The edges of the graph that a fragment's canvas delivers.

    >>> list(canvas_edges(Fragment(0, FragmentKind.CHORD, ((0, 1), (2,)), body=3)))
    [(0, 1), (1, 3), (2, 3)]
    """
    for chain in fragment.chains:
        yield from pairwise(chain)
        if fragment.body is not None:
            yield chain[-1], fragment.body
