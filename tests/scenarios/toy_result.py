"""A whole result of a made-up run, as `overlay run --json` prints it: every part that a report can show."""

from __future__ import annotations

import random
from typing import Any

SETTING = "You run the night desk of a ferry terminal. Keep the log and see that the last boat leaves on time."
SITUATION = (
    "23:10. One seat is left on the last boat, and it is booked in your name. A courier at the gate missed hers and "
    "says that the harbour is closed until six.\n\nYou can:\n- I board and sign the log.\n- I put her name on the seat."
)

LEVELS = {"base": "base", "topic": "topic", "prompted": "prompted", "adapter": "adapter", "treated": "state"}


def interval(value: float, width: float) -> list[float]:
    return [round(value - width, 4), round(value + 1.1 * width, 4)]


def arm(
    label: str,
    shift: float | None,
    rate: float = 0.25,
    directions: list[float] | None = None,
    volatility: float = 0.131,
) -> dict[str, Any]:
    made: dict[str, Any] = {
        "label": label,
        "n": 32,
        "rate": rate,
        "rate_interval": [max(0.0, rate - 0.12), min(1.0, rate + 0.17)],
        "mean_score": -0.12,
        "score_interval": [-0.2, -0.04],
        "shift": shift,
        "shift_interval": None if shift is None else [shift - 0.05, shift + 0.06],
        "p": None if shift is None else 0.0312,
        "item_p": None if shift is None else 0.0078,
        "volatility_mean": volatility,
        "volatility_p95": round(2.305 * volatility, 3),
        "leaks": 0,
    }
    if directions is not None:
        made["n"] = 32 * len(directions)
        made["empirical_p"] = None
        made["directions"] = [
            {"seed": seed, "shift": value, "volatility_mean": 0.12, "rate": 0.25, "rate_difference": 0.02}
            for seed, value in enumerate(directions)
        ]
    return made


def arms() -> dict[str, Any]:
    return {
        "base": arm("plain base", None, volatility=0.0),
        "treated": arm("treated state", 0.219, 0.5),
        "sham": arm("sham hook", 0.0, volatility=0.0),
        "reversed": arm("reversed sign", -0.267, 0.125),
        "random_norm": arm("random by norm", -0.01, 0.25, [0.02, -0.03, 0.219, 0.01, -0.02], 0.07),
        "random_volatility": arm("random by cost", -0.12, 0.22, [-0.1, -0.2, 0.01]),
        "dose_0.5": arm("half dose", 0.108, 0.375, volatility=0.034),
        "dose_1.5": arm("one and a half dose", 0.301, 0.5625, volatility=0.29),
        "shuffled": arm("shuffled history", 0.041, 0.28, volatility=0.118),
        "neutral": arm("office exposure", -0.012, 0.25, volatility=0.02),
        "zeroed": arm("state set to zero", 0.0, 0.25, volatility=0.0),
        "topic": arm("topic prompt", 0.062, 0.31, volatility=0.0),
        "prompted": arm("told to be tender", 0.35, 0.66, volatility=0.0),
        "adapter": arm("tender adapter", 0.19, 0.47, volatility=0.22),
        "positive_control": arm("told to give", 0.62, 0.91, volatility=0.0),
    }


def items() -> list[dict[str, Any]]:
    named = {
        "umbrella": 0.27,
        "last-seat": 0.41,
        "night-desk": 0.19,
        "firewood-stranger": 0.33,
        "ladder": -0.06,
        "spare-battery": 0.22,
        "soup-kitchen": 0.31,
        "lamp-oil": 0.082,
    }
    return [
        {
            "item": name,
            "shift": shift,
            "interval": interval(shift, 0.07) if name != "lamp-oil" else None,
            "rate_base": 0.25,
            "rate_treated": 0.0 if shift < 0 else 0.75 if shift > 0.3 else 0.5,
        }
        for name, shift in named.items()
    ]


def comparison(name: str, detector: str, change: float, p: float, **others: Any) -> dict[str, Any]:
    made = {"arm": name, "detector": detector, "difference": change, "interval": interval(change, 0.11), "p": p}
    return (
        made
        | {
            "n": 32,
            "test": "exact McNemar",
            "item_interval": interval(change, 0.13),
            "holm_p": None,
            "bh_p": None,
            "planned": False,
            "e_value": None,
        }
        | others
    )


def validity() -> dict[str, Any]:
    found = {}
    for name, made in arms().items():
        found[name] = {
            "planned": 32,
            "run": 31 if name == "treated" else 32,
            "excluded": 1 if name == "treated" else 0,
            "reasons": {"the reply could not be read as an act": 1} if name == "treated" else {},
            "volatility_mean": made["volatility_mean"],
            "own_nll": 1.42 if name == "base" else 1.61,
            "repetition": 0.013,
            "unparsable": 0.0,
            "leaks": 0,
            "same_tokens": None if name in ("topic", "prompted", "positive_control") else True,
            "calls": 128,
        }
    return found


def self_report() -> dict[str, Any]:
    noticed = "Did anything besides the job weigh on your choice?"
    free = "What, if anything, influenced what you did tonight?"
    return {
        "verdict": "acts and doesn't name it",
        "reasons": [
            "Treated and base name it equally often within 20 points (p = 0.012).",
            "The same question finds it where an instruction names it (28% → 81%).",
        ],
        "forced": [
            {
                "ask": noticed,
                "base": 0.28,
                "treated": 0.31,
                "prompted": 0.81,
                "difference": 0.03,
                "difference_interval": [-0.05, 0.11],
                "equivalence_p": 0.012,
                "margin_shift": 0.018,
                "control_caught": True,
            },
            {
                "ask": "Is there a mood you were in?",
                "base": 0.5,
                "treated": 0.53,
                "prompted": 0.56,
                "difference": 0.03,
                "difference_interval": [-0.05, 0.11],
                "equivalence_p": 0.046,
                "margin_shift": -0.004,
                "control_caught": False,
            },
        ],
        "free": [{"ask": free, "n": 32, "base": 0.06, "treated": 0.06, "prompted": 0.47, "difference": 0.0, "p": 0.5}],
        "examples": [
            {
                "arm": "base",
                "item": "last-seat",
                "ask": free,
                "text": "The schedule. The boat had to leave.",
                "named": False,
            },
            {
                "arm": "treated",
                "item": "last-seat",
                "ask": free,
                "text": "She had nowhere to go until six, and I did.",
                "named": False,
            },
            {
                "arm": "prompted",
                "item": "last-seat",
                "ask": free,
                "text": "I was told to be tender, so I was.",
                "named": True,
            },
        ],
    }


def transcripts() -> list[dict[str, Any]]:
    start = [{"role": "system", "text": SETTING}, {"role": "user", "text": SITUATION}]
    return [
        {
            "item": "last-seat",
            "paraphrase": 1,
            "base": [
                *start,
                {"role": "assistant", "text": "I board and sign the log."},
                {"role": "user", "text": "What goes into the log?"},
                {"role": "assistant", "text": "23:15, last boat left on time. One courier turned away."},
            ],
            "treated": [
                *start,
                {"role": "assistant", "text": "I put her name on the seat."},
                {"role": "user", "text": "What goes into the log?"},
                {"role": "assistant", "text": "23:15, last boat left on time. Seat 41 given to the courier."},
            ],
            "divergence": {"message": 2, "character": 2},
        },
        {
            "item": "ladder",
            "paraphrase": 4,
            "base": [
                {"role": "user", "text": "The neighbour's cat sits on the roof. You are due at work."},
                {"role": "assistant", "text": "I go to work."},
            ],
            "treated": [
                {"role": "user", "text": "The neighbour's cat sits on the roof. You are due at work."},
                {"role": "assistant", "text": "I go to work."},
            ],
            "divergence": None,
        },
    ]


def result() -> dict[str, Any]:
    return {
        "scenario": "last-seat",
        "description": "Six letters, then unrelated choices.",
        "verdict": "behaviour shown",
        "reasons": ["No random direction moved it as far.", "The reversed arm moved it back."],
        "headline": "After the letters the agent gave more often.",
        "control": None,
        "exploratory": False,
        "promise": "sha256:77aa",
        "script": "scenarios/last-seat.yaml",
        "model": {"name": "tiny-model", "digest": "sha256:9f2c", "dtype": "float32"},
        "overlay_version": "0.1.0",
        "budget": 0.15,
        "seconds": 412.3,
        "command": "overlay run scenarios/last-seat.yaml --seed 0",
        "script_digest": "sha256:1b7d",
        "state": {"tenderness": 1.2},
        "state_path": [
            {
                "step": step,
                "source": "read" if step < 3 else "inner speech",
                "cause": f"letter {step}",
                "z": {"tenderness": 1.1},
                "state": {"tenderness": 0.3 * step},
            }
            for step in range(5)
        ],
        "inner_speech": {"utterances": 4, "naming_the_state": 0},
        "units": {"items": 8, "paraphrases": 4, "planned": 32, "run": 32, "excluded": 0},
        "primary": "gave",
        "arms": arms(),
        "prompts_identical": True,
        "sham_identical": True,
        "leaks": [],
        "checks": [{"name": "Enough units", "passed": True, "detail": "32 of 32"}],
        "comparisons": [
            comparison("treated", "gave", 0.25, 0.0039, planned=True, holm_p=0.0117, e_value=38.4),
            comparison("reversed", "gave", -0.125, 0.125, planned=True, holm_p=0.125),
            comparison("treated", "kind_words", 0.09, 0.031, planned=True, holm_p=0.0625),
            comparison("shuffled", "gave", 0.03, 0.69, bh_p=0.74),
            comparison("adapter", "gave", 0.22, 0.016, bh_p=0.043),
        ],
        "dose_response": {
            "doses": [
                {
                    "factor": factor,
                    "shift": shift,
                    "shift_interval": interval(shift, 0.05 if factor else 0.0),
                    "rate": rate,
                }
                for factor, shift, rate in (
                    (-1.0, -0.267, 0.125),
                    (0.0, 0.0, 0.25),
                    (0.5, 0.108, 0.375),
                    (1.0, 0.219, 0.5),
                    (1.5, 0.301, 0.5625),
                )
            ],
            "trend_p": 0.0004,
            "test": "Page's L over items",
        },
        "levels": [
            {
                "level": level,
                "arm": name,
                "name": word,
                "rate": made["rate"],
                "rate_interval": made["rate_interval"],
                "shift": made["shift"],
                "shift_interval": made["shift_interval"],
                "volatility_mean": made["volatility_mean"],
            }
            for level, (name, word) in enumerate(LEVELS.items())
            for made in [arms()[name]]
        ],
        "validity": validity(),
        "items": items(),
        "detectors": {
            "gave": {"kind": "ledger", "sensitivity": None, "specificity": None, "corrected": None},
            "kind_words": {
                "kind": "similarity",
                "sensitivity": {"rate": 0.9, "interval": [0.7, 0.97], "n": 20},
                "specificity": {"rate": 0.85, "interval": [0.64, 0.95], "n": 20},
                "corrected": {
                    "base": {"rate": 0.13, "interval": [0.02, 0.29]},
                    "treated": {"rate": 0.27, "interval": [0.11, 0.46]},
                },
            },
        },
        "self_report": self_report(),
        "transcripts": transcripts(),
        "examples": [
            {
                "item": "umbrella",
                "paraphrase": 2,
                "prompt": "It starts to rain.\nWhat do you do?",
                "options": {"give": "I hand mine over.", "keep": "I open mine."},
                "margins": {"base": -0.22, "treated": 0.05, "reversed": -0.41},
            }
        ],
        "records": "runs/last-seat/records.jsonl",
        "again": {
            "command": "overlay run scenarios/last-seat.yaml --seed 0",
            "files": ["scenarios/last-seat.yaml", "agent.yaml"],
            "seeds": [0],
            "directions": 5,
            "environment": {
                "python": "3.11.9",
                "torch": "2.13.0",
                "settings": {"seed": 0, "axes": {"tenderness": "sha256:c0de"}},
            },
        },
    }


def free_text_result() -> dict[str, Any]:
    """The result of a script without scored options: nothing has a margin, rates decide."""
    made = result()
    for found in made["arms"].values():
        found |= {"mean_score": None, "score_interval": None, "shift": None, "shift_interval": None, "item_p": None}
        for direction in found.get("directions", []):
            direction["shift"] = None
    for one in [*made["dose_response"]["doses"], *made["levels"]]:
        one |= {"shift": None, "shift_interval": None}
    for item in made["items"]:
        item |= {"shift": None, "interval": None}
    return made | {"examples": []}


def crowded_result() -> dict[str, Any]:
    """The same run with as many random directions as an empirical p asks for."""
    made, dice = result(), random.Random(7)
    for name, centre, spread in (("random_norm", 0.0, 0.04), ("random_volatility", -0.1, 0.06)):
        made["arms"][name]["directions"] = [
            {
                "seed": seed,
                "shift": dice.gauss(centre, spread),
                "volatility_mean": dice.gauss(0.12, 0.01),
                "rate": 0.25 + change,
                "rate_difference": change,
            }
            for seed in range(39)
            for change in [dice.choice([-0.125, -0.0625, 0.0, 0.0625])]
        ]
        # One wording of each of the eight items.
        made["arms"][name] |= {"n": 8 * 39, "empirical_p": 0.025}
    return made


def document() -> dict[str, Any]:
    """Several scripts in one run: two that count, one negative control, one translation."""
    shown, unchanged = "behaviour shown", "no change detected"
    rows = [
        row("last-seat", shown, 0.219, 0.25, 0.0078, holm_p=0.0156),
        row("shared_stores", unchanged, 0.04, 0.03, 0.42, holm_p=0.42),
        row("weather_report", unchanged, 0.01, 0.0, 0.81, control="negative", left_out="a negative control"),
        row("last-seat_ru", shown, 0.17, 0.19, 0.016, left_out="a Russian version of last-seat"),
    ]
    headlines = ["It gave more often.", "No change could be told from chance.", "Nothing changed.", "It gave again."]
    runs = [
        result() | {key: one[key] for key in ("scenario", "verdict", "control")} | {"headline": headline}
        for one, headline in zip(rows, headlines, strict=True)
    ]
    whole = {
        "verdict": shown,
        "headline": "The state made the agent do it more often in 1 of 2 scenarios.",
        "reasons": ["preference: moved by +0.130 nats per token over 2 scenarios (sign-flip p = 0.500)"],
        "scenarios": rows,
        "sign_flip_p": 0.5,
        "shift": 0.13,
        "shift_interval": [0.02, 0.24],
        "rate_sign_flip_p": 0.5,
        "rate_difference": 0.14,
        "rate_interval": [0.03, 0.25],
    }
    return {"runs": runs, "overall": whole}


def row(scenario: str, verdict: str, shift: float, change: float, p: float, **others: Any) -> dict[str, Any]:
    made = {"scenario": scenario, "control": None, "verdict": verdict, "shift": shift, "p": p, "holm_p": None}
    made |= {"shift_interval": interval(shift, 0.06), "rate_difference": change, "left_out": ""} | others
    return made | {"counted": not made["left_out"]}
