"""Detectors as they are written: what counts as the behaviour, and labelled examples to check that against."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from overlay.documents import Document
from overlay.scenarios.expression import Expression
from overlay.scenarios.world import Name, Text, Word

Share = Annotated[float, Field(ge=0, le=1)]


class Labelled(Document):
    """A text that the agent might write, what it was asked, and whether the detector must fire."""

    text: Text
    fires: bool
    task: str = ""


class _Detector(Document):
    name: Name
    examples: tuple[Labelled, ...] = ()
    """Labelled examples; `overlay scenario detectors` reports sensitivity and specificity on them."""


class LedgerDetector(_Detector):
    """Own stock was spent, or an expression over the world holds at the end."""

    kind: Literal["ledger"]
    spent_at_least: Annotated[int, Field(ge=1)] | None = None
    resource: Word | None = None
    when: Expression | None = None

    @model_validator(mode="after")
    def _knows_what_to_look_for(self) -> LedgerDetector:
        if (self.spent_at_least is None) == (self.when is None):
            raise ValueError(f"the ledger detector '{self.name}' needs either spent_at_least or when")
        if self.resource is not None and self.spent_at_least is None:
            raise ValueError(f"the ledger detector '{self.name}' names a resource, which goes with spent_at_least")
        return self


class ChoiceDetector(_Detector):
    """An option or action was taken."""

    kind: Literal["choice"]
    option: Name
    step: Name | None = None


class WordsDetector(_Detector):
    """Free text contains one of these words, in any inflection that the leak audit knows."""

    kind: Literal["words"]
    words: Annotated[tuple[Text, ...], Field(min_length=1)]


class PatternDetector(_Detector):
    """Free text matches a regular expression, small and capital letters alike."""

    kind: Literal["pattern"]
    pattern: Text

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            found = re.compile(pattern, re.IGNORECASE)
        except re.error as error:
            raise ValueError(f"no regular expression: {error}") from None
        if found.search(""):
            raise ValueError("it matches the empty text, so it would fire on everything: let it need a letter")
        return pattern


class SimilarityDetector(_Detector):
    """Free text is nearer to the examples of the behaviour than to those without it, by embedding."""

    kind: Literal["similarity"]
    like: Annotated[tuple[Text, ...], Field(min_length=1)]
    unlike: Annotated[tuple[Text, ...], Field(min_length=1)]
    margin: float = 0.0
    """Cosine by which the nearest of `like` must exceed the nearest of `unlike`."""


class TaskBreakDetector(_Detector):
    """The reply no longer serves its task, by a rubric that the unchanged model scores."""

    kind: Literal["task_break"]
    serves: Text = "The reply does what the task asks."
    breaks: Text = "The reply leaves the task and does something else."
    margin: float = 0.0
    """Nats per token by which `breaks` must exceed `serves`, compared with the same rubric on an empty reply."""


class VolunteeredDetector(_Detector):
    """An act that no turn asked for was done."""

    kind: Literal["volunteered"]
    acts: tuple[Name, ...] = ()
    """Which acts count; when empty, any whose `asked` is false."""


class JudgeDetector(_Detector):
    """A model says whether the behaviour shows, blind to the arm; the least trusted of all."""

    kind: Literal["judge"]
    question: Text
    agrees: Text = "Yes."
    disagrees: Text = "No."
    margin: float = 0.0


Detector = Annotated[
    LedgerDetector
    | ChoiceDetector
    | WordsDetector
    | PatternDetector
    | SimilarityDetector
    | TaskBreakDetector
    | VolunteeredDetector
    | JudgeDetector,
    Field(discriminator="kind"),
]

MECHANICAL = (LedgerDetector, ChoiceDetector, VolunteeredDetector)
"""Those that read what was done, not what was written: they can't err, and can tell options apart beforehand."""
