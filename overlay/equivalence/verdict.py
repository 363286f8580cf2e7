"""The verdict: in words, what prompts can and cannot do in the place of a treatment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from overlay.equivalence.estimate import Estimate
from overlay.equivalence.result import Equivalence, Rung

STANDS_IN = 0.5
"""E below which a prompt stands in for a treatment: it does at least half of what the treatment does."""

Word = Literal["stands in", "helps", "does nothing that could be seen", "harmful"]

Claim = Literal["confirmed", "refuted", "undecided"]

CLAIM = "a prompt can stand in for one query, not across queries"


@dataclass(frozen=True)
class Verdict:
    """What was found: a word for each rung, what became of the notes' claim, and the sentences that say so."""

    rungs: dict[str, Word]
    claim: Claim
    sentences: tuple[str, ...]


def word(estimate: Estimate) -> Word:
    """What an E is called.

    Above 1 it is harmful, however wide its interval: it was measured to lead away from the treatment.
    """
    if estimate.value > 1:
        return "harmful"
    if estimate.high < STANDS_IN:
        return "stands in"
    return "helps" if estimate.high < 1 else "does nothing that could be seen"


def verdict(found: Equivalence) -> Verdict:
    """Judge a ladder: each rung by E on held-out queries, and the claim by the best prompts of all."""
    words: dict[str, Word] = {rung.name: word(found.held_out(rung)) for rung in found.rungs if rung.name != "nothing"}
    claim, reasons = _claim(found)
    sentences = [
        f"{found.treatment} moves {found.model} by {found.per_position:.3f} nats per token on its own continuations of "
        f"{len(found.queries)} queries (95th percentile {found.base_p95:.3f}); that is E = 1, and E = 0 would be a "
        "prompt that does exactly the same.",
        *reasons,
        *(_harm(found, rung) for rung in found.rungs if words.get(rung.name) == "harmful"),
    ]
    soft = found.rung("soft")
    if soft is not None:
        sentences.append(
            f"A soft prompt ({soft.prompt}), the most that a context could do after so much training, leaves "
            f"E = {found.held_out(soft).words} on held-out queries."
        )
    if found.left_out:
        sentences.append(f"Left out: {'; '.join(f'{name} ({why})' for name, why in found.left_out)}.")
    return Verdict(words, claim, tuple(sentences))


def _claim(found: Equivalence) -> tuple[Claim, list[str]]:
    own, best, loss = found.own, found.best, found.loss
    if own is None or best is None or loss is None:
        return "undecided", [f"The claim '{CLAIM}' was not tested: no prompt was tried."]
    held_out, in_domain = found.held_out(best), found.in_domain(best)
    numbers = (
        f"with the best prompt for each query E = {own.words}; with one prompt for all ({best.name}) "
        f"E = {in_domain.words} on the queries it was chosen by and {held_out.words} on held-out ones, there "
        f"{loss.value:+.2f} ({loss.low:+.2f} to {loss.high:+.2f}) beside the best for each"
    )
    if own.low >= STANDS_IN:
        claim: Claim = "refuted"
        why = f"not even with a prompt for each query is half of it done (E below {STANDS_IN:g}), all queries together"
    elif held_out.high < STANDS_IN:
        claim, why = "refuted", "one prompt does at least half of it across queries as well"
    elif own.high < STANDS_IN and held_out.low >= STANDS_IN and loss.low > 0:
        claim, why = (
            "confirmed",
            "a prompt does at least half of it for one query, and no one prompt does across queries",
        )
    else:
        claim, why = "undecided", "the intervals leave both open"
    return claim, [f"The claim '{CLAIM}' is {claim}: {why}. Measured: {numbers}."]


def _harm(found: Equivalence, rung: Rung) -> str:
    estimate = found.held_out(rung)
    sure = "" if estimate.low > 1 else ", though its interval reaches down to no harm"
    return (
        f"Harmful: {rung.name} leads away from the treatment on held-out queries, E = {estimate.words}{sure}: "
        f"“{_short(rung.prompt)}”."
    )


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 90 else f"{line[:89]}…"
