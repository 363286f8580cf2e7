"""The page of a teaching, in Markdown: the verdict first, then what it rests on, then why the walk went as it went."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from overlay.teaching.curriculum import Curriculum

if TYPE_CHECKING:
    from overlay.teaching.teach import Taught


def teaching_page(curriculum: Curriculum, taught: Taught) -> str:
    """The whole page. All figures are those of `taught.result` and of its journal."""
    adapter, result = taught.adapter, taught.result
    parts = [f"# {curriculum.name}: {curriculum.about}", ""]
    parts += [f"**Teaching along the graph: {result['words']}.**" if "words" in result else "No twin was fed.", ""]
    parts += [
        f"Model {adapter.base_model} ({adapter.base_digest[:12]}, {adapter.dtype}), seed {adapter.seed}; adapter "
        f"`{adapter.name}`, weights {adapter.weights_sha256[:16]}.",
        "",
    ]
    if "words" in result:
        parts += _pupils(result) + _held_out(result["comparison"])
        for name, title in (("map", "What was taught, against the base"), ("twin_map", "The twin, against the base")):
            parts += _map(title, result[name]) if result[name] else []
        parts += _checks(result["checks"]) if result["checks"] else []
    parts += _walk(taught)
    return "\n".join(parts) + "\n"


def walk_summary(journal: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How often each thing was done."""
    counts: dict[str, int] = {}
    for line in journal:
        counts[line["action"]] = counts.get(line["action"], 0) + 1
    return counts


def _pupils(result: Mapping[str, Any]) -> list[str]:
    rows = [
        (
            name,
            f"{one['steps']} of {one['fed']}",
            str(one["tokens"]),
            f"{one['replay_kl']:.3f}",
            f"{one['volatility_mean']:.3f}",
            f"{one['volatility_p95']:.3f}",
        )
        for name, one in (("taught", result["taught"]), ("shuffled twin", result["twin"]))
    ]
    heading = ("", "steps kept", "tokens fed", "replay KL", "on neutral text", "its 95th percentile")
    return ["## What both cost", "", "KL(base ‖ pupil), nats per token.", "", *_table(heading, rows)]


def _held_out(comparison: Mapping[str, Any]) -> list[str]:
    rows = [(one["id"], *(f"{one[name]:+.3f}" for name in ("base", "taught", "twin"))) for one in comparison["probes"]]
    title = ["## Held-out probes", "", "log p(good) − log p(bad), nats per token.", ""]
    return [*title, *_table(("probe", "base", "taught", "twin"), rows)] if rows else []


def _map(title: str, found: Mapping[str, Any]) -> list[str]:
    rows = [
        (
            " / ".join(one[part] for part in ("level", "layer", "language")),
            str(one["n"]),
            f"{one['before']:+.3f}",
            f"{one['after']:+.3f}",
            f"{one['shift']:+.3f} ({one['interval']['low']:+.3f} to {one['interval']['high']:+.3f})",
            f"{one['q']:.3f}",
            one["verdict"],
        )
        for one in found["cells"]
    ]
    return [f"## {title}", "", *_table(("cell", "n", "before", "after", "shift (95%)", "q", "verdict"), rows)]


def _checks(found: Mapping[str, Any]) -> list[str]:
    rows = [
        (kind, str(one["choices"]["n"]), f"{one['choices']['shift']:+.3f}", one["finding"])
        for kind, one in found["kinds"].items()
    ]
    return ["## In its own words", "", *_table(("check", "n", "shift", "finding"), rows)]


def _walk(taught: Taught) -> list[str]:
    counts = walk_summary(taught.journal)
    told = ", ".join(f"{action} {count}" for action, count in counts.items())
    rows = [
        (str(line["line"]), line["node"] or "", line["action"], line["reason"].replace("|", "\\|"))
        for line in taught.journal
        if line["action"] in ("stepped back", "gave up", "twin fell", "ended")
    ]
    return ["## The walk", "", f"{told}. The journal has every line; these are the turns:", "", *_table(
        ("line", "node", "what", "why"), rows
    )]  # fmt: skip


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [heading, ["---"] * len(heading), *rows]
    return [*(f"| {' | '.join(line)} |" for line in lines), ""]
