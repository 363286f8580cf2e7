"""Guarded self-reprogramming: a state that stays may become a part of the agent, once the checks allow it.

In go the journals of a home: that an accumulator has long stayed beyond a threshold, and what the agent itself said
meanwhile. Out comes a decision with its evidence, in a journal of its own: an axis grown from those texts, or an
adapter trained on them, is adopted or rolled back. Nothing happens unless agent.yaml asks for it, no file that people
wrote is ever changed, no word of theirs is learned from, and whatever was adopted can be undone.
"""

from overlay.reprogramming.adoption import decide, undo
from overlay.reprogramming.decision import Decision, Outcome, decisions
from overlay.reprogramming.own_texts import OwnText
from overlay.reprogramming.proposal import Proposal, due

__all__ = ["Decision", "Outcome", "OwnText", "Proposal", "decide", "decisions", "due", "undo"]
