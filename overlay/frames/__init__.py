"""Frames: reasoning patterns in a graph.

Written frames and the user's turn go in; energies by spreading activation come out, each with its
cause, and the few frames that are active. Energies are plain numbers by name that the caller
keeps from turn to turn; this room stores nothing, and decides nothing about what an active frame does.
"""

from overlay.frames.frame import Frame, read_frames
from overlay.frames.graph import ActiveFrame, CueEmbedder, CueMatch, EnergyCause, FrameGraph, FrameTurn

__all__ = [
    "ActiveFrame",
    "CueEmbedder",
    "CueMatch",
    "EnergyCause",
    "Frame",
    "FrameGraph",
    "FrameTurn",
    "read_frames",
]
