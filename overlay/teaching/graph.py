"""The graph of a curriculum, and what keeps it from being walked.

A walk ends at a node where no edge's predicate holds. So a node is a way out unless its edges hold whatever is
measured, and a group of nodes that all lead into each other without any way out can never be left.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from overlay.teaching.curriculum import (
    Curriculum,
    Edge,
    ExampleNode,
    MarginAbove,
    ProbeNode,
    VolatilityAbove,
)

if TYPE_CHECKING:
    import networkx

Place = tuple[str | int, ...]


@dataclass(frozen=True)
class Mistake:
    """What is wrong, and where: keys and indexes that lead to it, outermost first."""

    place: Place
    problem: str


@dataclass(frozen=True)
class _Outcomes:
    """What may still be measured at a node when no edge so far held: a box of margins for each of passed and failed.

    `margins` maps "passed" and "failed" to (above, up to); `volatility` is the most that the replay KL can be.
    """

    margins: dict[str, tuple[float, float]]
    volatility: float = math.inf

    @property
    def is_empty(self) -> bool:
        return self.volatility <= 0 or not self.margins


def curriculum_graph(curriculum: Curriculum) -> networkx.MultiDiGraph[str]:
    """The nodes by their ids, and the edges, keyed by where they stand in the file.

    Nodes carry `node`, edges `edge`; what leads nowhere is left out.
    """
    import networkx

    graph: networkx.MultiDiGraph[str] = networkx.MultiDiGraph(name=curriculum.name)
    for node in curriculum.nodes:
        graph.add_node(node.id, node=node)
    for place, edge in enumerate(curriculum.edges):
        if edge.source in graph and edge.to in graph:
            graph.add_edge(edge.source, edge.to, key=place, edge=edge, label=edge.label or words(edge))
    return graph


def edges_from(curriculum: Curriculum, node: str) -> list[tuple[int, Edge]]:
    """The edges that leave a node, with their places in the file, in its order."""
    return [(place, edge) for place, edge in enumerate(curriculum.edges) if edge.source == node]


def words(edge: Edge) -> str:
    """An edge's predicate in words."""
    if isinstance(edge.when, MarginAbove):
        return f"margin above {edge.when.margin_above:g}"
    if isinstance(edge.when, VolatilityAbove):
        return f"volatility above {edge.when.volatility_above:g}"
    return edge.when


def mistakes(curriculum: Curriculum) -> list[Mistake]:
    """Everything that keeps a curriculum from being walked; empty when nothing does."""
    found = [*_names(curriculum), *_edges(curriculum)]
    if found:
        # What follows would only say the same again, in other words.
        return found
    return [*_reach(curriculum), *_loops(curriculum)]


def _names(curriculum: Curriculum) -> Iterator[Mistake]:
    counts = Counter(node.id for node in curriculum.nodes)
    seen: set[str] = set()
    for place, node in enumerate(curriculum.nodes):
        if node.id in seen:
            yield Mistake(
                ("nodes", place, "id"), f"'{node.id}' stands here {counts[node.id]} times: name each node once"
            )
        seen.add(node.id)
    if curriculum.start not in counts:
        yield Mistake(("start",), f"there is no node '{curriculum.start}' to start from")
    if not curriculum.examples:
        yield Mistake(("nodes",), "there is no example, so nothing can be learned")


def _edges(curriculum: Curriculum) -> Iterator[Mistake]:
    nodes = {node.id: node for node in curriculum.nodes}
    remaining: dict[str, _Outcomes] = {}
    ways: dict[str, list[Edge]] = {}
    for place, edge in enumerate(curriculum.edges):
        node = nodes.get(edge.source)
        if node is None:
            yield Mistake(("edges", place, "from"), f"this edge comes from nowhere: there is no node '{edge.source}'")
        if edge.to not in nodes:
            yield Mistake(("edges", place, "to"), f"this edge leads nowhere: there is no node '{edge.to}'")
        if node is None:
            continue
        if isinstance(edge.when, MarginAbove) and isinstance(node, ExampleNode):
            yield Mistake(("edges", place, "when"), f"'{node.id}' is an example: only a probe has a margin")
            continue
        left = remaining.get(node.id) or _all_outcomes(node)
        before = ways.setdefault(node.id, [])
        if any(one.when == edge.when and one.to != edge.to for one in before):
            # Of edges with the same predicate the one is taken that was measured to help more.
            continue
        before.append(edge)
        if _held(left, edge).is_empty:
            yield Mistake(
                ("edges", place),
                f"this edge can never be taken: whenever its predicate ({words(edge)}) holds, an edge of "
                f"'{node.id}' before it does",
            )
        remaining[node.id] = _not_held(left, edge)


def _reach(curriculum: Curriculum) -> Iterator[Mistake]:
    import networkx

    graph = curriculum_graph(curriculum)
    reached = {curriculum.start} | networkx.descendants(graph, curriculum.start)
    for place, node in enumerate(curriculum.nodes):
        if node.id not in reached:
            yield Mistake(
                ("nodes", place),
                f"'{node.id}' is an orphan: no way leads to it from the start '{curriculum.start}'",
            )


def _loops(curriculum: Curriculum) -> Iterator[Mistake]:
    graph = curriculum_graph(curriculum)
    places = {node.id: place for place, node in enumerate(curriculum.nodes)}
    asking = graph.subgraph([node.id for node in curriculum.probes])
    for loop in _knots(asking):
        first = min(loop, key=places.__getitem__)
        yield Mistake(
            ("nodes", places[first]),
            f"a loop without progress: {_round(asking, loop, first)} asks again and again and teaches nothing in "
            "between; put an example into it",
        )
    for loop in _knots(graph):
        leaves = any(target not in loop for node in loop for target in graph.successors(node))
        if not leaves and all(_is_exhaustive(curriculum, node) for node in loop):
            first = min(loop, key=places.__getitem__)
            yield Mistake(
                ("nodes", places[first]),
                f"an endless loop: {_round(graph, loop, first)} can never be left, whatever is measured; give one of "
                "its nodes an edge out of it, or one predicate less",
            )


def _knots(graph: Any) -> list[set[str]]:
    """Groups of nodes that all lead into each other."""
    import networkx

    return [
        set(knot)
        for knot in networkx.strongly_connected_components(graph)
        if len(knot) > 1 or graph.has_edge(*(2 * tuple(knot)))
    ]


def _round(graph: Any, loop: set[str], first: str) -> str:
    """One way round, in words."""
    import networkx

    within = graph.subgraph(loop)
    if within.has_edge(first, first):
        way = [first]
    else:
        way = min(
            (networkx.shortest_path(within, after, first) for after in within.successors(first)),
            key=lambda path: (len(path), path),
        )
        way = [first, *way[:-1]]
    return " -> ".join([*way, first])


def _is_exhaustive(curriculum: Curriculum, node: str) -> bool:
    """Whether one of a node's edges holds whatever is measured."""
    (written,) = (one for one in curriculum.nodes if one.id == node)
    left = _all_outcomes(written)
    for _, edge in edges_from(curriculum, node):
        left = _not_held(left, edge)
    return left.is_empty


def _all_outcomes(node: ExampleNode | ProbeNode) -> _Outcomes:
    if isinstance(node, ExampleNode):
        return _Outcomes({"passed": (-math.inf, math.inf), "failed": (-math.inf, math.inf)})
    # Who must also say it can fail whatever the margin.
    return _Outcomes({"passed": (node.least, math.inf), "failed": (-math.inf, math.inf if node.expect else node.least)})


def _held(left: _Outcomes, edge: Edge) -> _Outcomes:
    """The outcomes in which an edge's predicate holds."""
    when = edge.when
    if when == "always":
        return left
    if isinstance(when, VolatilityAbove):
        return left if when.volatility_above < left.volatility else _Outcomes({})
    if isinstance(when, MarginAbove):
        cut = {kind: (max(low, when.margin_above), high) for kind, (low, high) in left.margins.items()}
        return _Outcomes({kind: box for kind, box in cut.items() if box[0] < box[1]}, left.volatility)
    return _Outcomes({kind: box for kind, box in left.margins.items() if kind == when}, left.volatility)


def _not_held(left: _Outcomes, edge: Edge) -> _Outcomes:
    """The outcomes in which it doesn't."""
    when = edge.when
    if when == "always":
        return _Outcomes({})
    if isinstance(when, VolatilityAbove):
        # At exactly 0 a predicate of "above 0" doesn't hold, and the walk goes on: a box of no width is still one.
        return _Outcomes(left.margins, min(left.volatility, max(when.volatility_above, math.ulp(0.0))))
    if isinstance(when, MarginAbove):
        cut = {kind: (low, min(high, when.margin_above)) for kind, (low, high) in left.margins.items()}
        return _Outcomes({kind: box for kind, box in cut.items() if box[0] < box[1]}, left.volatility)
    return _Outcomes({kind: box for kind, box in left.margins.items() if kind != when}, left.volatility)
