"""Frames: reasoning patterns in a graph.

Written frames and the user's turn go in; energies by spreading activation come out, each with its
cause, and the few frames that are active, with what they ask of the other rooms. Energies, a calibration of the cues
and learned weights are plain values that the caller keeps from turn to turn; this room decides nothing about
what becomes of what an active frame asks for.
"""

from overlay.frames.calibration import Calibration, KnownEmbedder, calibrate, cues_digest, ready_calibration
from overlay.frames.cues import CueEmbedder, CueMatch
from overlay.frames.effects import Effects, Push, WornByFrame, effects_of
from overlay.frames.frame import AdapterPreference, Frame, RecallPreference, read_frames
from overlay.frames.graph import ActiveFrame, EnergyCause, FrameGraph, FrameTurn
from overlay.frames.learning import NOTHING_LEARNED, LearnedWeights, learn, read_learned, write_learned
from overlay.frames.selection import Offer, Selection, Weighed, select

__all__ = [
    "NOTHING_LEARNED",
    "ActiveFrame",
    "AdapterPreference",
    "Calibration",
    "CueEmbedder",
    "CueMatch",
    "Effects",
    "EnergyCause",
    "Frame",
    "FrameGraph",
    "FrameTurn",
    "KnownEmbedder",
    "LearnedWeights",
    "Offer",
    "Push",
    "RecallPreference",
    "Selection",
    "Weighed",
    "WornByFrame",
    "calibrate",
    "cues_digest",
    "effects_of",
    "learn",
    "read_frames",
    "read_learned",
    "ready_calibration",
    "select",
    "write_learned",
]
