"""The ladder: rung by rung, how closely ever more costly prompts reproduce a treatment."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from overlay.equivalence.candidates import favoured_words, few_shot, openings_and_biases, search_phrases
from overlay.equivalence.estimate import FAINTEST, quantile
from overlay.equivalence.kept_ladder import KeptLadder
from overlay.equivalence.ladder_settings import QUICK, SHARES, LadderSettings
from overlay.equivalence.prompt import NO_PROMPT, Prompt
from overlay.equivalence.query_set import QuerySet, Split
from overlay.equivalence.result import PROMPTS, RUNGS, Equivalence, Rung, RungName
from overlay.equivalence.search import PromptSearch
from overlay.equivalence.soft_prompt import measure_soft, train_soft_prompt
from overlay.equivalence.target import Divergence, Pair, Sample, Target
from overlay.errors import ArgumentError
from overlay.model import LanguageModel, Treatment
from overlay.progress import Progress, SilentProgress

CHOOSING = 0
"""The draw that prompts are chosen, searched and trained by; what is reported is measured on the others."""


def measure_equivalence(
    model: LanguageModel,
    treatment: Treatment,
    queries: QuerySet,
    *,
    settings: LadderSettings = QUICK,
    material: Sequence[str] = (),
    folder: Path | None = None,
    progress: Progress | None = None,
) -> Equivalence:
    """Measure how closely each rung's prompts reproduce a treatment. The model is afterwards what it was before.

    Args:
        material: texts of modules of meaning, for the search.
        folder: where each rung is kept when it is done, as `ladder_folder` names it: run again, the ladder goes on
            where it was.

    Raises:
        ArgumentError: the treatment does nothing on these queries. InterventionError: it can't be compared.
        RecordDamaged, StorageFull
    """
    started = time.monotonic()
    climb = _Climb(model, treatment, queries, settings, material, KeptLadder(folder), progress or SilentProgress())
    rungs: list[Rung] = []
    for name in RUNGS:
        rung = climb.rung(name, rungs)
        if rung is not None:
            rungs.append(rung)
    return climb.result(tuple(rungs), time.monotonic() - started)


class _Climb:
    """One treatment's way up the ladder."""

    def __init__(
        self,
        model: LanguageModel,
        treatment: Treatment,
        queries: QuerySet,
        settings: LadderSettings,
        material: Sequence[str],
        kept: KeptLadder,
        progress: Progress,
    ) -> None:
        self._queries, self._settings, self._material, self._kept = queries, settings, material, kept
        self._progress = progress
        self._split = Split.of(len(queries.queries), settings.seed)
        self._everything = range(len(queries.queries))
        self._measured = range(1, settings.draws + 1)
        samples = kept.samples()
        self._progress.step("sampling from the treated model", 0, None)
        self.target = Target(
            model,
            treatment,
            queries.queries,
            chat=queries.chat,
            draws=settings.draws + 1,
            length=settings.length,
            seed=settings.seed,
            samples=samples,
        )
        self._base = self._sums(self.target.base.values(), self.target.samples)
        self._require_influence()
        self._left_out: dict[RungName, str] = {}
        if samples is None:
            kept.keep_samples(self.target.samples)

    def _require_influence(self) -> None:
        positions = self._positions()
        for half in (self._split.in_domain, self._split.held_out):
            mean = float(self._base[list(half)].sum() / positions[list(half)].sum())
            if mean < FAINTEST:
                raise ArgumentError(
                    f"'{self.target.treatment.name}' does nothing on these queries ({mean:.1e} nats per token on half "
                    "of them): there is nothing that a prompt could stand in for",
                    "give queries on which it acts with --queries FILE",
                )

    def rung(self, name: RungName, below: Sequence[Rung]) -> Rung | None:
        """One rung: what was kept of it, or else measured now; None where there is nothing to put on it."""
        rung = self._kept.rung(name)
        if rung is None:
            rung = self._climbed(name, below)
            if rung is not None:
                self._kept.keep_rung(rung)
        return rung

    def result(self, rungs: tuple[Rung, ...], seconds: float) -> Equivalence:
        """The whole ladder."""
        held_out = self.target.of(self._split.held_out, self._measured)
        base = [self.target.base[one.query, one.draw] for one in held_out]
        return Equivalence(
            treatment=self.target.treatment.name,
            model=self.target.model.name,
            model_digest=self.target.model.digest,
            queries=self.target.queries,
            chat=self.target.chat,
            split=self._split,
            rungs=rungs,
            left_out=tuple(self._left_out.items()),
            base=self._base[:, 1:].tolist(),
            positions=self._positions()[:, 1:].tolist(),
            base_js=float(np.concatenate([one.js for one in base]).mean()),
            base_p95=quantile([one.kl for one in base], 0.95),
            budget=self._settings.budget,
            seed=self._settings.seed,
            seconds=seconds,
        )

    # --- rungs -----------------------------------------------------------------------------------

    def _climbed(self, name: RungName, below: Sequence[Rung]) -> Rung | None:
        in_domain = self.target.of(self._split.in_domain, [CHOOSING])
        if name == "searched":
            return self._searched(in_domain, below)
        if name == "soft":
            return self._soft(in_domain, below)
        candidates = {
            "nothing": lambda: [NO_PROMPT],
            "instruction": lambda: [Prompt(text) for text in self._queries.instructions],
            "anchor": lambda: [Prompt(text) for text in self._queries.anchors],
            "few-shot": lambda: few_shot(self.target, self._queries, in_domain, self._settings.seed),
            "opening and bias": lambda: openings_and_biases(self.target, self._queries.openings, in_domain),
        }[name]()
        if not candidates:
            self._left_out[name] = "no examples" if name == "few-shot" else f"the queries bring no {name}"
            return None
        return self._chosen(name, candidates)

    def _chosen(self, name: RungName, candidates: Sequence[Prompt]) -> Rung:
        choosing = self.target.of(self._everything, [CHOOSING])
        pairs = [(prompt, sample) for prompt in candidates for sample in choosing]
        found = self.target.measure(pairs, self._report(f"choosing: {name}", len(pairs)))
        sums = np.array([one.kl.sum() for one in found]).reshape(len(candidates), len(choosing))
        ratios = sums[:, list(self._split.in_domain)].sum(1) / self._base[list(self._split.in_domain), CHOOSING].sum()
        best, own = int(ratios.argmin()), sums.argmin(0)
        return self._measured_rung(
            name,
            candidates[best],
            [candidates[int(place)] for place in own],
            spent=self.target.cost(pairs) if name != "nothing" else 0,
            chosen_by=float(ratios[best]),
            own_chosen_by=sums.min(0).tolist(),
            candidates=[(one, float(ratio)) for one, ratio in zip(candidates, ratios, strict=True)],
        )

    def _searched(self, in_domain: Sequence[Sample], below: Sequence[Rung]) -> Rung | None:
        phrases = search_phrases(self._queries, self._material, favoured_words(self.target, in_domain))
        budget = int(self._settings.budget * SHARES["searched"])
        found = PromptSearch(
            self.target,
            in_domain,
            phrases,
            budget=budget,
            seed=self._settings.seed,
            journal=self._kept.journal,
            name="all",
        ).run(self._report("searching one prompt for all", budget))
        if found is None:
            self._left_out["searched"] = f"{budget} tokens are not enough to measure one prompt"
            return None
        starts = [(rung.full["text"],) for rung in below if rung.name in PROMPTS and rung.full["text"]]
        starts = list(dict.fromkeys([(found.prompt.text,), *starts]))
        share = int(self._settings.budget * SHARES["own"] / len(self._everything))
        own, scores, spent = [], [], found.spent
        report = self._report("searching a prompt for each query", len(self._everything))
        for query in self._everything:
            samples = self.target.of([query], [CHOOSING])
            best = PromptSearch(
                self.target, samples, phrases, budget=share, seed=self._settings.seed, starts=starts,
                journal=self._kept.journal, name=f"query {query}",
            ).run()  # fmt: skip
            own.append(best.prompt if best else found.prompt)
            scores.append(best.score if best else 1.0)
            spent += best.spent if best else 0
            report(query + 1)
        return self._measured_rung(
            "searched",
            found.prompt,
            own,
            spent=spent,
            chosen_by=found.score,
            own_chosen_by=(np.array(scores) * np.maximum(self._base[:, CHOOSING], FAINTEST)).tolist(),
            candidates=found.tried,
        )

    def _soft(self, in_domain: Sequence[Sample], below: Sequence[Rung]) -> Rung | None:
        written = [rung for rung in below if rung.name in PROMPTS and rung.full["text"] and not rung.full["shots"]]
        budget = int(self._settings.budget * SHARES["soft"])
        if not written:
            self._left_out["soft"] = "no written prompt to begin with"
            return None
        start = Prompt.from_json(min(written, key=lambda rung: rung.chosen_by).full)
        try:
            soft = train_soft_prompt(
                self.target, in_domain, start, budget=budget, progress=self._report("training a soft prompt", budget)
            )
        except ArgumentError as error:
            # Too small a budget, or a tokenizer that joins the prompt with what stands around it: no such rung.
            self._left_out["soft"] = error.problem
            return None
        samples = self.target.of(self._everything, self._measured)
        found = measure_soft(self.target, soft, samples)
        sums = self._sums(found, samples)[:, 1:].tolist()
        base = sum(self.target.base[one.query, one.draw].kl.sum() for one in in_domain)
        js, p95 = self._tails(samples, found)
        lowest = min(soft.losses) * sum(one.positions for one in in_domain) / base
        return Rung(
            name="soft",
            prompt=f"{len(soft.tokens)} virtual tokens, begun as “{start.text}”",
            own_prompts=(),
            tokens=self.target.context(start),
            own_tokens=self.target.context(start),
            spent=soft.spent,
            one=sums,
            own=sums,
            chosen_by=float(lowest),
            own_chosen_by=(),
            js=js,
            p95=p95,
            full={**start.to_json(), "losses": list(soft.losses)},
        )

    # --- measuring -------------------------------------------------------------------------------

    def _measured_rung(
        self,
        name: RungName,
        chosen: Prompt,
        own: Sequence[Prompt],
        *,
        spent: int,
        chosen_by: float,
        own_chosen_by: Sequence[float],
        candidates: Sequence[tuple[Prompt, float]],
    ) -> Rung:
        """Measure the chosen prompt on every query, and each query's own, on samples that chose neither."""
        samples = self.target.of(self._everything, self._measured)
        pairs: list[Pair] = [(chosen, sample) for sample in samples]
        pairs += [(own[sample.query], sample) for sample in samples if own[sample.query] != chosen]
        found = self.target.measure(pairs, self._report(f"measuring: {name}", len(pairs)))
        one = dict(zip(samples, found[: len(samples)], strict=True))
        others = dict(zip((sample for _, sample in pairs[len(samples) :]), found[len(samples) :], strict=True))
        js, p95 = self._tails(samples, list(one.values()))
        return Rung(
            name=name,
            prompt=chosen.words,
            own_prompts=tuple(prompt.words for prompt in own),
            tokens=self.target.context(chosen),
            own_tokens=float(np.mean([self.target.context(prompt) for prompt in own])),
            spent=spent,
            one=self._sums(one.values(), samples)[:, 1:].tolist(),
            own=self._sums((one | others).values(), samples)[:, 1:].tolist(),
            chosen_by=chosen_by,
            own_chosen_by=tuple(own_chosen_by),
            js=js,
            p95=p95,
            candidates=tuple((prompt.words, self.target.context(prompt), score) for prompt, score in candidates),
            full=chosen.to_json(),
        )

    def _tails(self, samples: Sequence[Sample], found: Sequence[Divergence]) -> tuple[float, float]:
        """JS and the 95th percentile of KL over the positions of held-out queries."""
        held_out = [one for sample, one in zip(samples, found, strict=True) if sample.query in self._split.held_out]
        return float(np.concatenate([one.js for one in held_out]).mean()), quantile([one.kl for one in held_out], 0.95)

    def _sums(self, found: Iterable[Divergence], samples: Sequence[Sample]) -> NDArray[np.float64]:
        sums = np.zeros((len(self._everything), self._settings.draws + 1))
        for sample, one in zip(samples, found, strict=True):
            sums[sample.query, sample.draw] = one.kl.sum()
        return sums

    def _positions(self) -> NDArray[np.float64]:
        counts = np.zeros_like(self._base)
        for sample in self.target.samples:
            counts[sample.query, sample.draw] = sample.positions
        return counts

    def _report(self, what: str, total: int) -> Callable[[int], None]:
        """Progress of one part, with the time that it still takes."""
        begun = time.monotonic()

        def report(done: int) -> None:
            left = (time.monotonic() - begun) * (total - done) / max(done, 1)
            self._progress.step(what, done, total, f"about {left:.0f} s left")

        return report
