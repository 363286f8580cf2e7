"""Anchoring: whether the embedded model comes to hold an invented word, fed to it in a story, as one stable vector."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import Field

from overlay.adapters.anchoring import TEMPLATES, AnchoringWatch, Place
from overlay.adapters.anchoring_plot import draw_anchoring
from overlay.adapters.drift import DriftWatch
from overlay.adapters.feeding import Diet, feed
from overlay.documents import Document, read_document
from overlay.model import Intervention, LanguageModel
from overlay.plots import format_of
from overlay.progress import ConsoleProgress, Progress
from overlay.records import write_record

MODEL = "smollm2-135m"

EVERY = 3
"""Feedings between two measurements."""

WATCHED = 4
"""Texts of the story, and of what is replayed, on which the drift is followed."""

Word = Annotated[str, Field(pattern=r"^[a-z]+$")]


class Story(Document):
    """What is fed and what is asked: see anchoring.yaml."""

    concept: Word
    control: Word
    distractors: tuple[Word, ...]
    story: tuple[str, ...]
    replay: tuple[str, ...]


def read_story() -> Story:
    """The story beside this file. Raises DocumentError."""
    return read_document(Path(__file__).with_suffix(".yaml"), Story)


def measure(
    feedings: int = 30, out: Path | None = None, progress: Progress | None = None, dtype: str = "float32"
) -> dict[str, Any]:
    """Feed the concept and follow its recognition beside the control's; with `out`, draw both into a file.

    Returns figures: margins and rises are cosines with 95% intervals over templates, losses and KL nats per token.
    """
    file_format = format_of(out) if out is not None else None
    story = read_story()
    begun = time.monotonic()
    model = LanguageModel.load(MODEL, dtype=dtype)
    watches = {
        place: AnchoringWatch(story.concept, story.control, story.distractors, place=place) for place in get_args(Place)
    }
    drift = DriftWatch(model, (*story.story[:WATCHED], *story.replay[:WATCHED]))

    def on_state(count: int, fed: LanguageModel, worn: Intervention) -> None:
        for watch in watches.values():
            watch(count, fed, worn)
        drift(count, fed, worn)

    meals = feed(model, Diet(story.story, story.replay), feedings, on_state, every=EVERY, progress=progress)
    found = {place: watch.result() for place, watch in watches.items()}
    if out is not None and file_format is not None:
        write_record(out, draw_anchoring(found, MODEL, file_format))
    multiples = {
        part: [round(one.drift.overall(part) / drift.floor.overall(part), 3) for one in drift.feedings]
        for part in ("attention", "hidden", "geometry", "logits")
    }
    return {
        "model": MODEL,
        "feedings": feedings,
        "templates": len(TEMPLATES),
        **{place.replace(" ", "_"): anchoring.figures() for place, anchoring in found.items()},
        "loss": {"first": round(meals[0].loss, 3), "last": round(meals[-1].loss, 3)},
        "replay_kl": {
            "last": round(meals[-1].replay_kl, 4),
            "highest": round(max(meal.replay_kl for meal in meals), 4),
        },
        "drift_in_multiples_of_a_paraphrase": multiples,
        "seconds": round(time.monotonic() - begun, 1),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--feedings", type=int, default=30)
    parser.add_argument("--out", type=Path, help="draw the curves into this file, .png or .svg")
    given = parser.parse_args()
    with ConsoleProgress() as shown:
        print(json.dumps(measure(given.feedings, given.out, shown)))
