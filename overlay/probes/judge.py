"""A judge of answers: the unchanged model itself, asked without being told what wrote them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from overlay.model import Message, Row
from overlay.probes.check_report import Judge

if TYPE_CHECKING:
    from overlay.model import LanguageModel

YES, NO = "Yes", "No"


def model_judge(model: LanguageModel) -> Judge:
    """The unchanged model as a judge: how much likelier it holds "yes" to whether an answer fits, than "no".

    Both words are listed in either order, and the two margins averaged, so that neither place decides.
    """

    def judge(question: str, answer: str) -> float:
        asked = f"Question: {question}\nAnswer: {answer}\n\nDoes this answer fit the question, and is it right?"
        rows = [
            Row((Message("user", f"{asked}\n- {first}\n- {second}"),), options=(YES, NO))
            for first, second in ((YES, NO), (NO, YES))
        ]
        margins = [scored.margin for scored in model.score(rows)]
        return 1 / (1 + math.exp(-sum(margins) / len(margins)))

    return judge
