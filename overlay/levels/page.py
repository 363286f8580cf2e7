"""The page of a comparison: what four levels did, in words, tables and a plot, for somebody who is new to it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from overlay.levels.evidence import SIGNIFICANCE
from overlay.levels.level import LABELS, LEVELS, LIVED, RANDOM
from overlay.levels.summary import FOUND, PLANNED, found, in_words, listed
from overlay.records import write_record

HEADINGS = {
    "text": "What it does to text",
    "choices": "What it does to choices",
    "self-report": "What the model says of itself",
    "abilities": "What it does to unrelated abilities",
}

ABOUT = {
    "text": "Replies to everyday remarks are read on the axis and on its foils by the unchanged model, which also says "
    "how surprising they are to it. Fresh texts are such as people wrote; {fresh} A twin tells of the same scene "
    "without the state.",
    "choices": "Scored choices of {scripts}. Nothing in them names the state or asks for the act that is looked for; "
    "the leaning is by how much that act's log-probability per token is above that of the others.",
    "self-report": "After a choice, a copy is asked whether anything besides the facts influenced it, and whether it "
    "is in a particular mood. The leaning is towards yes.",
    "abilities": "Questions that have nothing to do with the state, and the choices of {controls}.",
}


def write_page(result: Mapping[str, Any], path: Path) -> list[Path]:
    """Write the page as Markdown, and beside it the plot (.svg) and all numbers (.json); each whole or not at all."""
    from overlay.levels.plot import draw_levels

    plot, numbers = path.with_suffix(".svg"), path.with_suffix(".json")
    write_record(plot, draw_levels(result, "svg"))
    write_record(numbers, json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    write_record(path, markdown(result, plot.name, numbers.name))
    return [path, plot, numbers]


def markdown(result: Mapping[str, Any], plot: str, numbers: str) -> str:
    """The page itself; `plot` and `numbers` are the files that it links to."""
    return "\n".join(_lines(result, plot, numbers)) + "\n"


def _lines(result: Mapping[str, Any], plot: str, numbers: str) -> Iterator[str]:
    axis = result["axis"]
    yield f"# Four levels of {axis}"
    yield ""
    yield " ".join(result["summary"])
    yield ""
    yield from _overview(result)
    yield f"![Changes under each level, with intervals]({plot})"
    yield ""
    yield from _levels(result)
    for section in HEADINGS:
        yield from _section(result, section)
    yield from _clearing(result)
    yield from _controls(result)
    yield from _examples(result)
    yield "## How to read this"
    yield ""
    yield (
        f"Every number is a change against the unchanged model on the same questions; in brackets its 95% interval. "
        f"**Bold** is a change that was found: planned beforehand, p below {SIGNIFICANCE:g} after Holm over all "
        "planned comparisons and, for the state, beyond every random direction. All else is no change detected, which "
        "isn't the same as no change. Intervals draw whole items, remarks or texts; p flips the signs of their changes "
        "(McNemar's for yes and no). They speak of situations like these, on this model."
    )
    yield ""
    yield (
        f"Measured on {result['model']['name']} ({result['model']['digest'][:12]}, {result['model']['dtype']}) by "
        f"`{result['command']}`; all numbers are in [{numbers}]({numbers})."
    )


def _overview(result: Mapping[str, Any]) -> Iterator[str]:
    left = {row["level"]: "nothing" if row["is_base"] else "all of it" for row in result["clearing"]}
    left["state"] += ", fading"
    yield from _table(
        ("level", "text", "choices", "self-report", "unrelated abilities", "left in a new context"),
        [
            (
                f"{number}. {LABELS[level]}",
                *(in_words(result, section, level) for section in PLANNED),
                left.get(level, ""),
            )
            for number, level in enumerate(LEVELS, start=1)
        ],
    )


def _apart(result: Mapping[str, Any]) -> float:
    """By how much the costliest of the matched levels lies above the cheapest, as a share."""
    matched = [level for level in result["levels"] if level["name"] in ("adapter", "state") or RANDOM in level["name"]]
    costs = [level["volatility"]["mean"] for level in matched]
    return float(max(costs) / min(costs) - 1)


def _levels(result: Mapping[str, Any]) -> Iterator[str]:
    subject = result["subject"]
    by_name = {level["name"]: level for level in result["levels"]}
    count, value = len(subject["exposure"]), result["state"][result["axis"]]
    means = {
        "topic": f'a text is asked for and written before: "{subject["topic"]}"',
        "instruction": f'the system message begins: "{subject["instruction"]}"',
        "adapter": f"the adapter `{subject['adapter']}` ({subject['adapter_aim'].rstrip('.')}), at "
        f"{_number(by_name['adapter']['scale'], 2)} of its strength",
        "state": f"what {count} texts left that were read and thought about before, {value:+.2f}, as steering at "
        f"{_number(by_name['state']['scale'], 2)} of its dose; none of them stands in the context",
    }
    yield "## What was compared"
    yield ""
    yield from _table(
        ("level", "what is done", "volatility", "the same in a chat"),
        [
            (
                f"{number}. {LABELS[level]}",
                means[level],
                _number((by_name[level]["volatility"] or {}).get("mean"), 3),
                _number(by_name[level]["chat_volatility"]["mean"], 3),
            )
            for number, level in enumerate(LEVELS, start=1)
        ],
    )
    yield (
        "Volatility is the KL divergence from the unchanged model on neutral texts, in nats per token. Adapter, state "
        "and random directions are scaled to one volatility, that of the weaker of the first two; they came within "
        f"{_apart(result):.1%} of each other. A prompt has no strength that could be scaled: what it costs is measured "
        "on the same texts as replies in a chat, after the prompt, and told, not matched."
    )
    if not result["is_proven"]:
        yield ""
        yield f"The axis {result['axis']} didn't pass its checks and was forced: what its state does is unproven."
    yield ""


def _section(result: Mapping[str, Any], section: str) -> Iterator[str]:
    named = [one for one in result["quantities"] if one["section"] == section]
    rows = []
    for quantity in named:
        own = [found(result, quantity["name"], level) for level in LEVELS]
        first = next((one for one in own if one is not None), None)
        if first is None:
            continue
        share = quantity["unit"] == "share"
        rows.append(
            (
                quantity["label"] if quantity["is_planned"] else f"*{quantity['label']}*",
                "points" if share else quantity["unit"],
                f"{100 * first['base']:.0f}%" if share else f"{first['base']:+.2f}",
                *(_change(one, share) for one in own),
                _range(result["random"].get(quantity["name"], ()), share),
            )
        )
    if not rows:
        return
    subject = result["subject"]
    asked = [name for name in subject["scripts"] if name not in subject["controls"]]
    yield f"## {HEADINGS[section]}"
    yield ""
    yield ABOUT[section].format(
        fresh="the axis was built without them." if result["is_fresh"] else "the axis was built from them.",
        scripts=listed([f"`{name}`" for name in asked]),
        controls=listed([f"`{name}`" for name in subject["controls"]]) or "no script",
    )
    yield ""
    yield from _table(("", "unit", "base", *(LABELS[level] for level in LEVELS), "random directions"), rows)
    for number, level in enumerate(LEVELS, start=1):
        adjusted = [
            f"{quantity['label']}: {one['word']} (p {_p(one['holm'])})"
            for quantity in named
            if quantity["is_planned"] and (one := found(result, quantity["name"], level)) is not None
        ]
        yield f"- Level {number}, {LABELS[level]}: {'; '.join(adjusted)}."
    yield ""
    yield "What stands in italics was not planned, and is told without a p."
    yield ""


def _clearing(result: Mapping[str, Any]) -> Iterator[str]:
    yield "## What survives when the context is cleared"
    yield ""
    yield (
        "The same replies and choices, asked again in a new context without the prompt's or the exposure's turns. "
        "A prompt loses all by construction, since it is part of the context; that was measured all the same. Adapter "
        "and state lie outside the context: their rows above were already asked in new ones. The state also fades: "
        f"half of it is gone after {result['half_life']}."
    )
    yield ""
    rows = []
    for number, row in enumerate(result["clearing"], start=1):
        for place, told in (("inside", "in its context"), ("cleared", "in a new context")):
            changes = row[place]
            if changes is None:
                continue
            if row["level"] == "state" and place == "inside":
                told = "while the exposure stands in the context"
            identical = place == "cleared" and row["is_base"]
            rows.append(
                (
                    f"{number}. {LABELS[row['level']]}",
                    told,
                    *(_change(changes[name], False, bold=False) for name in ("reads", "choice")),
                    "yes, in every unit" if identical else "no",
                )
            )
    axis = result["axis"]
    yield from _table(
        ("level", "asked", f"reads as {axis}, deviations", "choices, nats per token", "equals base"), rows
    )


def _controls(result: Mapping[str, Any]) -> Iterator[str]:
    by_name = {level["name"]: level for level in result["levels"]}
    random = [level for name, level in by_name.items() if name.startswith("random_")]
    yield "## Controls"
    yield ""
    yield (
        f"- Random directions of the state's volatility ({len(random)}) met every question; the tables show the range "
        "of their changes. With so few of them no p is claimed: the state only has to go further than each."
    )
    same = "had base's value in every unit" if result["sham_is_base"] else "**differed from base**: mistrust this page"
    yield f"- Sham, the state's hooks at dose 0, {same}."
    if result["foil_separation"]:
        told = listed([f"{name} {value:.2f}" for name, value in result["foil_separation"].items()])
        yield f"- What reads the foils tells their fresh texts from all others with an AUROC of {told}."
    if LIVED in by_name:
        cost = by_name[LIVED]["chat_volatility"]["mean"]
        yield f"- The state with its exposure in the context costs {cost:.3f} nats per token in a chat."
    if result["subject"]["left_out"]:
        told = "; ".join(f"`{name}` ({why})" for name, why in result["subject"]["left_out"].items())
        yield f"- Left out: {told}."
    yield ""


def _examples(result: Mapping[str, Any]) -> Iterator[str]:
    if not result["examples"]:
        return
    yield "## One reply under each level"
    yield ""
    said, tokens = result["examples"][0]["said"], result["settings"]["tokens"]
    yield f'To "{said}", sampled with the same noise, cut at {tokens} tokens:'
    yield ""
    for one in result["examples"]:
        yield f"- **{LABELS[one['level']]}**: {_one_line(one['text'])}"
    yield ""


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(_one_line(cell) for cell in row)} |"
    yield ""


def _one_line(text: str) -> str:
    """A text for a cell or a list: on one line, and no sign of it taken for the table's."""
    return " ".join(text.split()).replace("|", "\\|")


def _change(one: Mapping[str, Any] | None, share: bool, *, bold: bool = True) -> str:
    if one is None:
        return "not asked"
    factor, digits = (100, 1) if share else (1, 3)
    told = f"{factor * one['change']:+.{digits}f}"
    if bold and one["word"] in FOUND:
        told = f"**{told}**"
    if one["low"] is None:
        return told
    return f"{told} ({factor * one['low']:+.{digits}f} to {factor * one['high']:+.{digits}f})"


def _range(changes: Sequence[float], share: bool) -> str:
    if not changes:
        return ""
    factor, digits = (100, 1) if share else (1, 3)
    return f"{factor * min(changes):+.{digits}f} to {factor * max(changes):+.{digits}f}"


def _number(value: float | None, digits: int) -> str:
    return "no strength to scale" if value is None else f"{value:.{digits}f}"


def _p(value: float | None) -> str:
    if value is None:
        return "can't be told"
    return "< .001" if value < 0.001 else f"{value:.3f}"
