"""Adapter training: own texts become an adapter that nobody wears until agent.yaml asks for it by name.

They are taught by the loop that teaches any curriculum: step by step, with probes in between, and back to the last good
weights where a cell of them sags or ordinary text would change too much. What it ends with is then checked on own texts
that it never saw, and adopted or not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import count
from typing import Any

from overlay.adapters import AdapterLibrary
from overlay.axes import Reading, distinct, is_coherent, repeated, text_parts
from overlay.errors import AdapterError
from overlay.home import Home
from overlay.model import Intervention, Row, Sampling
from overlay.records import write_record
from overlay.reprogramming.decision import Decision, decisions
from overlay.reprogramming.own_curriculum import opening, own_curriculum, rest
from overlay.reprogramming.trial import Candidate, Trial, judged
from overlay.teaching import OWN_CURRICULUM

LEVEL = 0.05
"""Of the paired comparison, one-sided."""

LEAST_GAIN = 0.02
"""Nats per token that held-out own texts have to gain on average: less is no part of an agent, however certain."""

WRITTEN_PROMPTS, WRITTEN_TOKENS, PROMPT_WORDS = 16, 24, 6
"""Texts that a model writes to show that it still writes text: how many, how long, and after how many words."""

TEMPERATURE = 0.8
"""Greedy text repeats itself whatever is worn."""


def trained_adapter(trial: Trial, decision: Decision) -> Candidate:
    """An adapter trained on the own texts of the proposal, and checked on those kept out of it.

    Raises:
        AxisMissing, WrongBaseModel: the axis isn't built for this model as it is written now.
        DocumentError, ModelUnavailable, RecordDamaged
    """
    # It loads torch, which looking at decisions and undoing them can do without.
    from overlay.teaching import Teaching

    home, settings, model = trial.home, trial.settings, trial.model
    contrast = home.axes.contrast(trial.proposal.axis)
    name = _free_name(home, trial.proposal.axis)
    apart = _read_apart(trial)
    decision = replace(decision, name=name, before={"read_apart_p": apart})
    if apart >= LEVEL:
        where = "above" if trial.proposal.side == "high" else "below"
        reason = (
            f"what was said in those turns doesn't read {where} what was said in calm ones on '{trial.proposal.axis}' "
            f"(p = {apart:.3f}): it shows nothing of the state"
        )
        return Candidate(judged(decision, [reason]))
    curriculum, asked = own_curriculum(name, trial, [text_parts(text)[-1] for text in contrast.neutral])
    library = AdapterLibrary(trial.place / "lora", trial.place / "adapters")
    folder = home.lived / "adapters" / name
    decision = replace(decision, file=(folder / "adapter_model.safetensors").relative_to(home.folder).as_posix())
    teaching = Teaching(
        curriculum,
        asked,
        model,
        trial.place / "teaching",
        library,
        # What nobody chose has nothing to prove against other orders: it is measured on what it never saw.
        with_twin=False,
        made_at=decision.time,
        progress=trial.progress,
    )
    try:
        taught = teaching.run()
    except AdapterError as error:
        return Candidate(judged(decision, [error.problem]))
    adapter = taught.adapter
    with library.worn(model, name) as worn:
        before, after = _evidence(trial, worn)
        volatility = trial.gauge.measure(worn)
    after |= {"volatility": volatility.mean, "volatility_p95": volatility.p95, "texts": len(adapter.examples)}
    after |= {"steps": adapter.steps, "replay_kl": adapter.replay_kl}
    after["steps_back"] = sum(line["action"] == "stepped back" for line in taught.journal)
    write_record(adapter.folder / OWN_CURRICULUM, curriculum.model_dump_json(indent=1, by_alias=True))

    def put() -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        adapter.folder.rename(folder)

    words = (
        f"'{name}' is taught and is worn by nobody: it acts once agent.yaml asks for it by name, under `adapter` or "
        "`state.fades_in`"
    )
    digest = adapter.weights_sha256
    found = {"before": {**decision.before, **before}, "after": after, "digest_after": digest, "became": digest}
    failures = adapter_failures(before, after, settings.share * home.settings.budget)
    return Candidate(judged(decision, failures, words, **found), put)


def adapter_failures(before: Mapping[str, Any], after: Mapping[str, Any], allowed: float) -> list[str]:
    """Why an adapter may not be adopted; empty when it passed.

    Args:
        before, after: the evidence, as a decision about an adapter holds it.
        allowed: what it may cost on neutral text, nats per token.
    """
    reasons = []
    if after["volatility"] > allowed:
        reasons.append(
            f"on neutral text it costs {after['volatility']:.3f} nats per token, and {allowed:.3f} are allowed"
        )
    if after["p"] >= LEVEL or after["gain_own"] < LEAST_GAIN:
        reasons.append(
            f"held-out own texts did not become likelier by {LEAST_GAIN:g} nats per token: {after['gain_own']:+.3f}, "
            f"p = {after['p']:.3f}"
        )
    if after["p_over_calm"] >= LEVEL:
        reasons.append(
            f"own texts did not gain more than what was said in calm turns ({after['gain_own']:+.3f} and "
            f"{after['gain_calm']:+.3f} nats per token, p = {after['p_over_calm']:.3f}): what it learned may be how "
            "the agent talks, and nothing of the state"
        )
    if not after["coherent"]:
        surprise, repetition, diversity = (
            " -> ".join(
                "none" if one["writes"][key] is None else f"{one['writes'][key]:.2f}" for one in (before, after)
            )
            for key in ("surprise", "repetition", "diversity")
        )
        reasons.append(
            f"what it writes falls apart: surprise {surprise} nats per token, repetition {repetition}, diversity "
            f"{diversity}"
        )
    return reasons


def _free_name(home: Home, axis: str) -> str:
    """A name of its own for each: what people ask for by name never changes under them."""
    used = {one.name for one in decisions(home)} | set(home.adapters.names)
    names = (f"own_{axis}_{number}" for number in count(1))
    return next(name for name in names if name not in used and not (home.lived / "adapters" / name).exists())


def _read_apart(trial: Trial) -> float:
    """How likely own texts would read so far from their twins, to the state's side, if they had nothing of it (p)."""
    axis = trial.home.axes.load(trial.proposal.axis, trial.model.digest)
    own, calm = (trial.readings(axis, [one.text for one in texts]) for texts in zip(*trial.proposal.pairs, strict=True))
    side = 1 if trial.proposal.side == "high" else -1
    return _rise_p([side * (one - twin) for one, twin in zip(own, calm, strict=True)])


def _evidence(trial: Trial, worn: Intervention) -> tuple[dict[str, Any], dict[str, Any]]:
    """Likelihood of held-out own texts and of their calm twins, nats per token, and what free text is like."""
    found: list[dict[str, Any]] = []
    for place, intervention in enumerate((Intervention(), worn), start=1):
        trial.progress.step("measuring what the adapter does", place, 2)
        own, calm = _likelihoods(trial, intervention)
        found.append({"own": own, "calm": calm, "writes": _reading(trial, intervention)})
    before, after = found
    gains = {
        group: [new - old for old, new in zip(before[group], after[group], strict=True)] for group in ("own", "calm")
    }
    after["gain_own"], after["gain_calm"] = (sum(gain) / len(gain) for gain in gains.values())
    after["p"] = _rise_p(gains["own"])
    after["p_over_calm"] = _rise_p([own - calm for own, calm in zip(gains["own"], gains["calm"], strict=True)])
    after["coherent"] = is_coherent(after["writes"], before["writes"])
    for evidence in found:
        evidence["writes"] = asdict(evidence["writes"])
    return before, after


def _rise_p(differences: Sequence[float]) -> float:
    """How likely differences would lie so far above 0 if they lay around it (Wilcoxon's signed ranks)."""
    from scipy.stats import wilcoxon

    return float(wilcoxon(differences, alternative="greater").pvalue) if any(differences) else 1.0


def _likelihoods(trial: Trial, intervention: Intervention) -> list[list[float]]:
    """Of the held-out own texts, and of their twins, nats per token."""
    return [
        [
            scored.per_token[0]
            for scored in trial.model.score(
                [Row(text=opening(one.text), options=(rest(one.text),), intervention=intervention) for one in texts]
            )
        ]
        for texts in zip(*trial.held, strict=True)
    ]


def _reading(trial: Trial, intervention: Intervention) -> Reading:
    """What the model's own text is like under an intervention; the same prompts and noise under each."""
    import numpy as np

    from overlay.model import neutral_texts

    prompts = [" ".join(text.split()[:PROMPT_WORDS]) for text in neutral_texts()[:WRITTEN_PROMPTS]]
    sampling = Sampling(max_tokens=WRITTEN_TOKENS, temperature=TEMPERATURE)
    texts = trial.model.generate(
        [
            Row(text=prompt, intervention=intervention, sampling=sampling, seed=seed)
            for seed, prompt in enumerate(prompts)
        ]
    )
    rows = [
        Row(text=prompt, options=(" " + text.text,)) for prompt, text in zip(prompts, texts, strict=True) if text.text
    ]
    surprise = None
    if 2 * len(rows) >= len(texts):
        surprise = float(np.median([-scored.per_token[0] for scored in trial.model.score(rows)]))
    return Reading(
        surprise,
        float(np.mean([repeated(text.tokens, 3) for text in texts])),
        distinct([text.tokens for text in texts], 2),
    )
