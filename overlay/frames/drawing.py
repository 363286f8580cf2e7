"""Drawing: the graph of frames with their energies, as Graphviz text and as a page that needs nothing else."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from overlay.frames.graph import FrameGraph
from overlay.frames.learning import NOTHING_LEARNED, LearnedWeights

if TYPE_CHECKING:
    import networkx as nx

_SPACING = 92.0
"""Between neighbours on the circle, in SVG units."""
_LEAST_RADIUS = 250.0
_MARGIN_X, _MARGIN_Y = 215.0, 60.0
_SMALLEST, _LARGEST = 9.0, 24.0
"""Radius of a frame asleep and of one with an energy of 1."""
_TURNED_FROM = 40
"""From so many frames on, labels are turned outwards: side by side there is no room for them at top and bottom."""


@dataclass(frozen=True)
class _Node:
    """A frame on the page: where it stands and how it looks."""

    name: str
    description: str
    x: float
    y: float
    radius: float
    label_x: float
    label_y: float
    anchor: str
    turn: str
    energy: float
    is_active: bool


@dataclass(frozen=True)
class _Link:
    """A link on the page: its path, and how it looks."""

    path: str
    width: float
    is_waking: bool
    is_learned: bool
    title: str


def as_dot(graph: FrameGraph, energies: Mapping[str, float], learned: LearnedWeights = NOTHING_LEARNED) -> str:
    """The graph in Graphviz' language: render it with `dot -Tsvg`, or with `circo`."""
    lines = ["digraph frames {", "  node [shape=ellipse, style=filled, fontname=sans];", "  edge [fontname=sans];"]
    for name, frame in graph.frames.items():
        energy = energies.get(name, 0.0)
        pen = 3 if energy >= frame.threshold else 1
        lines.append(f'  "{name}" [label="{name}\\n{energy:.2f}", fillcolor="0.44 {energy:.2f} 0.9", penwidth={pen}];')
    for origin, goal, link in graph.links(learned).edges(data=True):
        weight = link["weight"]
        colour, style = ("#00795a", "solid") if weight > 0 else ("#68717c", "dashed")
        lines.append(f'  "{origin}" -> "{goal}" [label="{weight:+.2f}", color="{colour}", style={style}];')
    return "\n".join([*lines, "}", ""])


def as_page(
    graph: FrameGraph,
    energies: Mapping[str, float],
    learned: LearnedWeights = NOTHING_LEARNED,
    *,
    causes: Mapping[str, str] | None = None,
    when: str = "",
) -> str:
    """One HTML page with the graph as SVG and a table below it; it loads nothing and runs no script.

    Args:
        causes: by frame, why it has its energy, in words. when: of which turn the energies are.
    """
    from jinja2 import Environment

    links = graph.links(learned)
    active = {one.frame.name for one in graph.active(energies)}
    nodes, size = _placed(graph, links, energies, active)
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        resources.files("overlay.frames").joinpath("page.html.j2").read_text(encoding="utf-8")
    )
    rows = sorted(graph.frames.values(), key=lambda frame: (-energies.get(frame.name, 0.0), frame.name))
    return template.render(
        nodes=list(nodes.values()),
        links=[_drawn(nodes[origin], nodes[goal], link) for origin, goal, link in links.edges(data=True)],
        size=size,
        rows=[
            {
                "frame": frame,
                "energy": energies.get(frame.name, 0.0),
                "active": frame.name in active,
                "cause": (causes or {}).get(frame.name, ""),
                "links": [(goal, link["weight"]) for _, goal, link in links.out_edges(frame.name, data=True)],
            }
            for frame in rows
        ],
        active=sorted(active, key=lambda name: -energies[name]),
        when=when,
        turns=learned.turns,
    )


def _placed(
    graph: FrameGraph, links: nx.DiGraph[str], energies: Mapping[str, float], active: Collection[str]
) -> tuple[dict[str, _Node], tuple[float, float]]:
    """Every frame on a circle, linked ones near each other, and the size of the whole."""
    names = _in_order(links)
    radius = max(_LEAST_RADIUS, len(names) * _SPACING / (2 * math.pi))
    is_turned = len(names) >= _TURNED_FROM
    centre_x, centre_y = radius + _MARGIN_X, radius + (_MARGIN_X if is_turned else _MARGIN_Y)
    nodes = {}
    for place, name in enumerate(names):
        # Half a step off the top, so that no label stands in the middle above another one.
        angle = 2 * math.pi * (place + 0.5) / len(names)
        energy = energies.get(name, 0.0)
        size = _SMALLEST + (_LARGEST - _SMALLEST) * energy
        out_x, out_y = math.sin(angle), -math.cos(angle)
        x, y = centre_x + radius * out_x, centre_y + radius * out_y
        away = size + 9
        degrees = math.degrees(angle) - 90 + (180 if out_x < 0 else 0)
        label_x, label_y = x + away * out_x, y + away * out_y
        nodes[name] = _Node(
            name=name,
            description=graph.frames[name].description,
            x=round(x, 1),
            y=round(y, 1),
            radius=round(size, 1),
            label_x=round(label_x, 1),
            label_y=round(label_y, 1),
            anchor="start" if out_x >= 0 else "end",
            turn=f"rotate({degrees:.1f} {label_x:.1f} {label_y:.1f})" if is_turned else "",
            energy=energy,
            is_active=name in active,
        )
    return nodes, (round(2 * centre_x, 1), round(2 * centre_y, 1))


def _in_order(links: nx.DiGraph[str]) -> list[str]:
    """The frames in an order in which linked ones stand near each other."""
    import networkx as nx

    near: nx.Graph[str] = nx.Graph()
    near.add_nodes_from(sorted(links))
    for origin, goal, link in links.edges(data=True):
        before = near.get_edge_data(origin, goal, {"weight": 0.0})["weight"]
        near.add_edge(origin, goal, weight=before + abs(link["weight"]))
    # The solver starts at random: a seed makes the same page again.
    return list(nx.spectral_ordering(near, seed=0)) if near.number_of_edges() else sorted(near)


def _drawn(origin: _Node, goal: _Node, link: Mapping[str, float]) -> _Link:
    """An arrow from rim to rim, bent to one side so that a link and the one back are two lines."""
    across, down = goal.x - origin.x, goal.y - origin.y
    length = math.hypot(across, down) or 1.0
    bend = 0.14 * length
    middle_x = (origin.x + goal.x) / 2 - bend * down / length
    middle_y = (origin.y + goal.y) / 2 + bend * across / length
    start = _rim(origin, middle_x, middle_y, 2)
    end = _rim(goal, middle_x, middle_y, 8)
    weight, grown = link["weight"], link["learned"]
    learned = f" ({grown:+.2f} of it learned)" if abs(grown) >= 0.005 else ""
    return _Link(
        path=f"M{start[0]:.1f} {start[1]:.1f}Q{middle_x:.1f} {middle_y:.1f} {end[0]:.1f} {end[1]:.1f}",
        width=round(0.8 + 3.2 * abs(weight), 2),
        is_waking=weight > 0,
        is_learned=bool(learned),
        title=f"{origin.name} to {goal.name}: {weight:+.2f}{learned}",
    )


def _rim(node: _Node, towards_x: float, towards_y: float, gap: float) -> tuple[float, float]:
    """The point of a node's rim, and a gap, that lies towards another point."""
    across, down = towards_x - node.x, towards_y - node.y
    length = math.hypot(across, down) or 1.0
    away = node.radius + gap
    return node.x + away * across / length, node.y + away * down / length
