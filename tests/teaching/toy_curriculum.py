"""A toy curriculum for a tiny model: letters after words, and a branch that teaches the opposite."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from overlay.adapters import AdapterLibrary
from overlay.teaching import Curriculum, Questions, Teaching, read_curriculum

Make = Callable[..., Teaching]

REPLAY = (
    "The river rises in the hills.",
    "A list, in order: 1, 2, 3.",
    "Rain in the north.",
    "He closed the door behind him.",
)
WORDS = ("one", "two", "three", "four", "five", "six")


def example(name: str, prompt: str, target: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "kind": "example", "prompt": prompt, "target": target, **more}


def probe(name: str, prompt: str, good: str, bad: str, **more: Any) -> dict[str, Any]:
    cell = {"level": "definition", "layer": "lexical"}
    return {"id": name, "kind": "probe", "prompt": prompt, "good": good, "bad": bad, **cell, **more}


def asked(prompt: str, good: str, bad: str) -> dict[str, Any]:
    return {"level": "definition", "layer": "lexical", "prompt": prompt, "good": good, "bad": bad}


def edge(source: str, to: str, when: Any = "always", **more: Any) -> dict[str, Any]:
    return {"from": source, "to": to, "when": when, **more}


def toy_curriculum(**changes: Any) -> dict[str, Any]:
    """Four examples that end in z, asked after the second and the last; six held-out probes."""
    nodes = [example(f"say_{word}", f"say {word}", " zzz") for word in WORDS[:4]]
    nodes += [probe("ask_first", "say seven", " zzz", " qqq"), probe("ask_last", "say eight", " zz", " qq")]
    return {
        "name": "toy",
        "about": "everything ends in z",
        "source": "own texts",
        "start": "say_one",
        "replay": list(REPLAY),
        "teaching": {
            "rank": 2,
            "learning_rate": 0.02,
            "feedings": 2,
            "rehearse": 1,
            "check_every": 2,
            "budget": 50,
            "sag": 5,
            "least_in_cell": 2,
            "variants": 1,
        },
        "nodes": nodes,
        "edges": [
            edge("say_one", "say_two"),
            edge("say_two", "ask_first"),
            edge("ask_first", "say_three"),
            edge("say_three", "say_four"),
            edge("say_four", "ask_last"),
        ],
        "held_out": [asked(f"tell {word}", " zzz", " qqq") for word in WORDS],
    } | changes


def bad_branch(**teaching: Any) -> dict[str, Any]:
    """The same with a branch behind it that teaches the opposite: two examples that end in q."""
    content = toy_curriculum()
    content["nodes"] += [
        example(f"unsay_{word}", f"say {word}", " qqq", variants=[f"say {word},"]) for word in WORDS[4:]
    ]
    content["nodes"].append(probe("ask_after", "say nine", " zzz", " qqq"))
    content["edges"] += [
        edge("ask_last", "unsay_five"),
        edge("unsay_five", "unsay_six"),
        edge("unsay_six", "ask_after"),
    ]
    content["teaching"] |= {"sag": 0.1, **teaching}
    return content


def write(folder: Path, content: dict[str, Any]) -> Path:
    path = folder / f"{content['name']}.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def read(folder: Path, content: dict[str, Any]) -> tuple[Curriculum, Questions]:
    return read_curriculum(write(folder, content))


def make_in(root: Path, model: Any) -> Make:
    """Make a teaching of a toy curriculum in a folder of its own; the same place again goes on there."""

    def make(content: dict[str, Any], place: str = "place", **changes: Any) -> Teaching:
        folder = root / place
        folder.mkdir(exist_ok=True)
        curriculum, questions = read(folder, content)
        library = AdapterLibrary(folder / "lora", folder / "adapters")
        return Teaching(curriculum, questions, model, folder / "teaching", library, made_at=1.0, **changes)

    return make
