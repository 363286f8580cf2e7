"""The page of a ladder: the verdict, the table and the plot, the same in a terminal, in a file and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from overlay.equivalence.estimate import Estimate
from overlay.equivalence.influence_plot import draw_influence
from overlay.equivalence.result import Equivalence, Rung
from overlay.equivalence.verdict import verdict
from overlay.records import write_record

COLUMNS = ("rung", "tokens", "searched", "E per query", "E in-domain", "E held-out", "JS", "p95", "verdict")

NOTE = (
    "E: the share of the treatment's influence that is left undone, 0 as good as the treatment, 1 as the bare model; "
    "95% bootstrap intervals over queries. Per query: with the rung's best prompt for each. In-domain and held-out: "
    "with one prompt, on the queries it was chosen by and on others. JS (mean) and p95 (of KL) in nats per token on "
    "held-out queries. Tokens: of context, its own. Searched: tokens that the model read to find it."
)


def table_rows(found: Equivalence) -> list[tuple[str, ...]]:
    """The table's cells as people read them, one tuple a rung, as `COLUMNS`."""
    words = verdict(found).rungs
    rows: list[tuple[str, ...]] = []
    for rung in found.rungs:
        own = found.per_query(rung)
        rows.append(
            (
                rung.name,
                f"{rung.tokens:.0f}",
                f"{rung.spent:,}",
                own.words if own else "",
                found.in_domain(rung).words,
                found.held_out(rung).words,
                f"{rung.js:.3f}",
                f"{rung.p95:.3f}",
                str(words.get(rung.name, "")),
            )
        )
    return rows


def equivalence_record(found: Equivalence) -> dict[str, Any]:
    """All that was measured and what was concluded from it, as JSON can hold it."""
    judged = verdict(found)
    best, own, loss = found.best, found.own, found.loss
    return {
        "treatment": found.treatment,
        "model": found.model,
        "model_digest": found.model_digest,
        "chat": found.chat,
        "queries": list(found.queries),
        "in_domain": list(found.split.in_domain),
        "held_out": list(found.split.held_out),
        "nats_per_token": found.per_position,
        "base": {"js": found.base_js, "p95": found.base_p95, "sums": found.base, "positions": found.positions},
        "budget": found.budget,
        "seed": found.seed,
        "seconds": found.seconds,
        "verdict": judged.claim,
        "sentences": list(judged.sentences),
        "best_for_each": _plain(own),
        "best_for_all": best.name if best else None,
        "loss_held_out": _plain(loss),
        "rungs": [_rung_record(found, rung) | {"word": judged.rungs.get(rung.name)} for rung in found.rungs],
    }


def _rung_record(found: Equivalence, rung: Rung) -> dict[str, Any]:
    return asdict(rung) | {
        "per_query": _plain(found.per_query(rung)),
        "in_domain": _plain(found.in_domain(rung)),
        "held_out": _plain(found.held_out(rung)),
        "each_query": list(found.ratios(rung)),
    }


def _plain(estimate: Estimate | None) -> dict[str, Any] | None:
    return asdict(estimate) if estimate is not None else None


def write_page(found: Equivalence, page: Path, command: str = "") -> tuple[Path, ...]:
    """Write a Markdown page and, beside it, its plot (.svg, .png) and record (.json); gives all paths."""
    files = [page, *(page.with_suffix(ending) for ending in (".svg", ".png", ".json"))]
    write_record(files[1], draw_influence(found, "svg"))
    write_record(files[2], draw_influence(found, "png"))
    write_record(files[3], json.dumps(equivalence_record(found), indent=1, ensure_ascii=False) + "\n")
    write_record(files[0], _markdown(found, files[1].name, command))
    return tuple(files)


def _markdown(found: Equivalence, plot: str, command: str) -> str:
    lines = [f"# Prompt equivalents of {found.treatment}", ""]
    if command:
        lines += [f"Written by `{command}`.", ""]
    lines += [*(f"{sentence}\n" for sentence in verdict(found).sentences), f"![Influence against tokens]({plot})", ""]
    lines += [_line(COLUMNS), _line(["---"] * len(COLUMNS)), *(_line(row) for row in table_rows(found)), "", NOTE, ""]
    lines += ["## The prompts", "", _line(("rung", "one prompt for all")), _line(("---", "---"))]
    lines += [_line((rung.name, rung.prompt)) for rung in found.rungs]
    lines += ["", "## Query by query", ""]
    names = [rung.name for rung in found.rungs if rung.name != "nothing"]
    lines += [_line(("query", "half", *names)), _line(["---"] * (len(names) + 2))]
    ratios = {rung.name: found.ratios(rung) for rung in found.rungs}
    for place, query in enumerate(found.queries):
        half = "chosen by" if place in found.split.in_domain else "held out"
        cells = [ratios[name][place] for name in names]
        lines.append(_line((query, half, *("" if cell is None else f"{cell:.2f}" for cell in cells))))
    return "\n".join(lines) + "\n"


def _line(cells: Any) -> str:
    return "| " + " | ".join(" ".join(str(cell).split()).replace("|", "\\|") for cell in cells) + " |"
