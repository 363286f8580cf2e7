"""Every error that a user of Overlay can meet.

Each says what was wrong, where, and what to do next; the command line prints the message and
exits with `exit_code`. A bare exception that reaches a user is a bug.
"""

from __future__ import annotations

from pathlib import Path


class OverlayError(Exception):
    """What was wrong (`problem`) and what to do about it (`next_step`)."""

    exit_code = 1

    def __init__(self, problem: str, next_step: str = "") -> None:
        self.problem = problem
        self.next_step = next_step
        super().__init__(f"{problem}\n  -> {next_step}" if next_step else problem)


class DocumentError(OverlayError):
    """A file that a person wrote is wrong, at a known line (counted from 1)."""

    exit_code = 2

    def __init__(self, path: Path | str, line: int | None, problem: str, next_step: str = "") -> None:
        self.path = Path(path)
        self.line = line
        where = f"{path}:{line}" if line is not None else str(path)
        super().__init__(f"{where}: {problem}", next_step)


class ArgumentError(OverlayError, ValueError):
    """A value given in a call or on the command line is outside what is allowed."""

    exit_code = 2


class HomeError(OverlayError):
    """A home is missing, incomplete or unreadable."""


class HomeLocked(HomeError):
    """Another process has this home open."""

    exit_code = 3


class StorageFull(OverlayError):
    """The disk (or quota) is full; nothing that was saved before is lost."""

    exit_code = 4


class RecordDamaged(OverlayError):
    """A file that the program wrote can't be read back."""


class ModelUnavailable(OverlayError):
    """No model goes by this name, or it can't be fetched, or isn't one we can steer."""


class ChecksumMismatch(ModelUnavailable):
    """What was downloaded isn't what was expected."""


class GenerationFailed(OverlayError):
    """A generation was stopped from outside before it was done."""


class InterventionError(OverlayError, ValueError):
    """An intervention doesn't fit the model it is given to."""


class AxisMissing(OverlayError):
    """No axis of this name has been built for this model."""


class AxisUnproven(OverlayError):
    """The axis did not pass its checks."""


class WrongBaseModel(OverlayError):
    """An axis or adapter was made on another base model."""


class AdapterError(OverlayError):
    """An adapter is missing, damaged or unsafe to load."""


class NoteError(OverlayError):
    """The semantic memory refuses, or its index doesn't fit its truth."""


class ScenarioError(OverlayError):
    """A scenario can't be run as it stands."""


class ExpressionError(ScenarioError, ValueError):
    """An expression of a world's rules can't be evaluated where it stands."""
