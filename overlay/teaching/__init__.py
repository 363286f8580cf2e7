"""The room of teaching: a graph of examples and probes is walked with a model, and what holds becomes an adapter.

In go a curriculum that people wrote (or that a program built), probe banks and a model; out come an adapter, a journal
that says why at every step, and a verdict against the same examples shuffled. Weights that let a cell of the probes
sag, or that cost too much on ordinary text, never get past a check: the walk steps back to the last good ones, bit for
bit, and the base is never changed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from overlay.teaching.curriculum import Asked, Curriculum, Edge, ExampleNode, ProbeNode, TeachingSettings
from overlay.teaching.curriculum_file import OWN_CURRICULUM, read_curriculum
from overlay.teaching.graph import Mistake, curriculum_graph, mistakes
from overlay.teaching.questions import Questions, questions

if TYPE_CHECKING:
    from overlay.teaching.learned_edges import LearnedEdges, learn_edges, read_learned_edges
    from overlay.teaching.teach import Taught, Teaching

__all__ = [
    "OWN_CURRICULUM",
    "Asked",
    "Curriculum",
    "Edge",
    "ExampleNode",
    "LearnedEdges",
    "Mistake",
    "ProbeNode",
    "Questions",
    "Taught",
    "Teaching",
    "TeachingSettings",
    "curriculum_graph",
    "learn_edges",
    "mistakes",
    "questions",
    "read_curriculum",
    "read_learned_edges",
]

_NEED_TORCH = {
    "LearnedEdges": "learned_edges",
    "Taught": "teach",
    "Teaching": "teach",
    "learn_edges": "learned_edges",
    "read_learned_edges": "learned_edges",
}


def __getattr__(name: str) -> Any:
    # Walking needs torch; reading a curriculum and finding its mistakes does not.
    if name in _NEED_TORCH:
        return getattr(importlib.import_module(f"overlay.teaching.{_NEED_TORCH[name]}"), name)
    raise AttributeError(f"module 'overlay.teaching' has no attribute '{name}'")
