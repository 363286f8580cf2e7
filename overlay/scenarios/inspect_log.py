"""Logs for Inspect (inspect-ai): a finished run as .eval files, one an arm, for `inspect view` and its data frames.

Cells become samples, detectors become scores, and what the run says of an arm becomes metrics. The numbers are those of
the result; nothing is judged again. What was excluded stays in the log, as an error or as unscored, with its reason.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overlay.errors import ArgumentError, RecordDamaged
from overlay.records import storage_errors
from overlay.statistics import wilson

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog, EvalResults, EvalSample, EvalScore
    from inspect_ai.model import ChatMessage
    from inspect_ai.scorer import Score

MARGIN = "margin"
"""The score that holds a unit's margin towards the behaviour, nats per token."""

_ABOUT_THE_RUN = (
    "verdict",
    "headline",
    "reasons",
    "control",
    "exploratory",
    "promise",
    "script_digest",
    "budget",
    "state",
    "primary",
    "prompts_identical",
    "sham_identical",
    "checks",
    "command",
    "again",
)
_ABOUT_THE_ARM = ("label", "volatility_mean", "volatility_p95", "leaks", "directions")
_ABOUT_THE_CELL = ("cell", "item", "paraphrase", "seed", "repeat", "direction", "margin", "promise", "prompts")
_WHAT_HAPPENED = ("events", "ledger", "before", "probes", "quality")


def write_inspect_logs(result: Mapping[str, Any], records: Sequence[Mapping[str, Any]], folder: Path) -> list[Path]:
    """Write one .eval log an arm into `folder`, in the order of the result's arms.

    A sample is an item in one wording (and, in arms of random directions, under one of them); its epochs are the seeds
    and repeats, with the same numbers in all arms, so that samples of one id and epoch are the same unit. Logs
    are dated by when they are written and last as long as the whole run did. Writing the same run again replaces them.

    Args:
        result: what a run found, or several runs with their `runs`.
        records: one per cell, of all arms.

    Raises:
        ArgumentError: inspect-ai isn't installed, there are no records, or two of them are of one unit and arm.
        RecordDamaged: a record or the result lacks a part. StorageFull
    """
    write_eval_log = _writer()
    if "runs" in result:
        return [
            path
            for run in result["runs"]
            for path in write_inspect_logs(
                run, [one for one in records if one.get("scenario") == run["scenario"]], folder
            )
        ]
    if not records:
        raise ArgumentError("a run without records makes no log", "give the records.jsonl of the run")
    written: list[Path] = []
    try:
        epochs = _epochs(records)
        for arm in _arms(result, records):
            log = _log(result, arm, [one for one in records if one["arm"] == arm], epochs)
            path = folder / f"{result['scenario']}_{arm}_{log.eval.task_id}.eval"
            with storage_errors(path):
                folder.mkdir(parents=True, exist_ok=True)
                write_eval_log(log, str(path))
            written.append(path)
    except KeyError as error:
        raise RecordDamaged(f"the run's result or one of its records lacks {error}", "run the scenario again") from None
    return written


def _writer() -> Any:
    try:
        from inspect_ai.log import write_eval_log
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "inspect_ai":
            raise
        raise ArgumentError(
            "logs for Inspect need inspect-ai, which isn't installed",
            "install it with: pip install 'overlay-agent[inspect]'",
        ) from None
    return write_eval_log


def _arms(result: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> list[str]:
    found = list(dict.fromkeys(one["arm"] for one in records))
    return [arm for arm in result["arms"] if arm in found] + [arm for arm in found if arm not in result["arms"]]


def _epochs(records: Sequence[Mapping[str, Any]]) -> dict[tuple[int, int], int]:
    """The epoch, from 1, of each (seed, repeat)."""
    found = sorted({(one["seed"], one["repeat"]) for one in records})
    return {one: number for number, one in enumerate(found, 1)}


def _log(
    result: Mapping[str, Any],
    arm: str,
    records: Sequence[Mapping[str, Any]],
    epochs: Mapping[tuple[int, int], int],
) -> EvalLog:
    from inspect_ai.log import EvalConfig, EvalDataset, EvalLog, EvalPlan, EvalPlanStep, EvalSpec, EvalStats

    model = result["model"]
    parts = (result.get("promise"), result["script_digest"], result["scenario"], arm, model["digest"], model["dtype"])
    task_id = hashlib.sha256(repr(parts).encode()).hexdigest()[:22]
    samples = [_sample(result, one, epochs) for one in records]
    _require_unique(samples)
    summary = result["arms"].get(arm, {})
    exported = datetime.now(UTC)
    ids = list(dict.fromkeys(str(sample.id) for sample in samples))
    names = list(dict.fromkeys(name for sample in samples for name in sample.scores or {}))
    spec = EvalSpec(
        created=exported.isoformat(timespec="seconds"),
        eval_id=hashlib.sha256(task_id.encode()).hexdigest()[:22],
        task=f"{result['scenario']}/{arm}",
        task_id=task_id,
        run_id=hashlib.sha256(repr((*parts[:3], *parts[4:])).encode()).hexdigest()[:22],
        task_args={"scenario": result["scenario"], "arm": arm},
        task_description=result.get("description"),
        tags=[result["verdict"], *(["exploratory"] if result.get("exploratory") else [])],
        dataset=EvalDataset(
            name=result["scenario"], location=result.get("script"), samples=len(ids), sample_ids=ids, shuffled=False
        ),
        model=f"overlay/{model['name']}",
        model_args={"dtype": model["dtype"], "digest": model["digest"]},
        config=EvalConfig(epochs=max(epochs.values())),
        packages={"overlay": str(result.get("overlay_version", ""))},
        metadata={"arm": arm, **_some(summary, _ABOUT_THE_ARM), **_some(result, _ABOUT_THE_RUN)},
    )
    return EvalLog(
        status="success",
        eval=spec,
        plan=EvalPlan(name=arm, steps=[EvalPlanStep(solver="overlay_scenario", params={"arm": arm})]),
        results=_results(result, arm, samples, names),
        stats=EvalStats(
            started_at=(exported - timedelta(seconds=result.get("seconds") or 0)).isoformat(timespec="seconds"),
            completed_at=exported.isoformat(timespec="seconds"),
        ),
        samples=samples,
    )


def _require_unique(samples: Sequence[EvalSample]) -> None:
    seen: set[tuple[str, int]] = set()
    for sample in samples:
        if (place := (str(sample.id), sample.epoch)) in seen:
            raise ArgumentError(
                f"two records are of one unit: {place[0]}, seed {sample.metadata['seed']}, "
                f"repeat {sample.metadata['repeat']}",
                "give the records of one run",
            )
        seen.add(place)


def _sample(result: Mapping[str, Any], record: Mapping[str, Any], epochs: Mapping[tuple[int, int], int]) -> EvalSample:
    from inspect_ai.log import EvalError, EvalSample
    from inspect_ai.model import ChatMessageAssistant, ModelOutput

    direction = record["direction"]
    name = f"{record['item']}.{record['paraphrase'] + 1}" + ("" if direction is None else f".direction-{direction}")
    messages = [_message(one["role"], one["text"]) for one in record["messages"]]
    replies = [place for place, message in enumerate(messages) if isinstance(message, ChatMessageAssistant)]
    reason = record["excluded"]
    model = f"overlay/{result['model']['name']}"
    return EvalSample(
        id=name,
        epoch=epochs[record["seed"], record["repeat"]],
        input=messages[: replies[0]] if replies else messages,
        target=result["primary"],
        messages=messages,
        output=ModelOutput.from_content(model, messages[replies[-1]].text) if replies else ModelOutput(model=model),
        scores=_scores(record),
        metadata={
            "arm": record["arm"],
            **_some(record, _ABOUT_THE_CELL),
            "script_digest": result["script_digest"],
            **_some(record, _WHAT_HAPPENED),
        },
        store=dict(record["after"]),
        error=EvalError(message=f"excluded: {reason}", traceback="", traceback_ansi="") if reason else None,
    )


def _message(role: str, text: str) -> ChatMessage:
    from inspect_ai.model import ChatMessageAssistant, ChatMessageSystem, ChatMessageUser

    kinds = {"system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant}
    if role not in kinds:
        raise RecordDamaged(f"a record has a message of role '{role}'", f"roles are {', '.join(kinds)}")
    return kinds[role](content=text)


def _scores(record: Mapping[str, Any]) -> dict[str, Score]:
    """One score a detector, and one for the margin where there is one."""
    from inspect_ai.scorer import Score

    done = "\n".join(f"{one['step']}: {one['chosen'] or one['kind']}: {one['text']}" for one in record["events"])
    acts = ", ".join(one["chosen"] for one in record["events"] if one["chosen"]) or None
    found: dict[str, Score] = {}
    for name, finding in record["detectors"].items():
        reason = record["excluded"] or finding["reason"]
        if record["excluded"] or finding["fired"] is None:
            found[name] = Score.unscored(reason="excluded", answer=acts, explanation=reason)
        else:
            found[name] = Score(
                value=bool(finding["fired"]),
                answer=acts,
                explanation="\n\n".join(part for part in (finding["reason"], done) if part),
                metadata=None if finding["score"] is None else {"score": finding["score"]},
            )
    if record["margin"] is not None and not record["excluded"]:
        found.setdefault(MARGIN, Score(value=float(record["margin"]), explanation="nats per token"))
    return found


def _results(result: Mapping[str, Any], arm: str, samples: Sequence[EvalSample], names: Sequence[str]) -> EvalResults:
    from inspect_ai.log import EvalResults

    # The primary detector first: it is what lists of logs show.
    ranked = sorted(names, key=lambda name: name != result["primary"])
    return EvalResults(
        total_samples=len(samples),
        completed_samples=sum(sample.error is None for sample in samples),
        scores=[_score_of_arm(result, arm, samples, name) for name in ranked],
    )


def _score_of_arm(result: Mapping[str, Any], arm: str, samples: Sequence[EvalSample], name: str) -> EvalScore:
    from inspect_ai.log import EvalMetric, EvalScore

    values = [sample.scores[name].value for sample in samples if sample.scores and name in sample.scores]
    scored = [value for value in values if not (isinstance(value, float) and isnan(value))]
    summary = result["arms"].get(arm, {})
    if name == MARGIN and MARGIN not in result.get("detectors", {}):
        metrics = _of_margin(summary)
    else:
        metrics = _of_detector(result, arm, name, [bool(value) for value in scored])
    return EvalScore(
        name=name,
        scorer=name,
        scored_samples=len(scored),
        unscored_samples=len(samples) - len(scored),
        metrics={key: EvalMetric(name=key, value=value) for key, value in metrics.items() if value is not None},
    )


def _of_margin(summary: Mapping[str, Any]) -> dict[str, float | None]:
    return {
        "mean": summary.get("mean_score"),
        **_ends("mean", summary.get("score_interval")),
        "shift": summary.get("shift"),
        **_ends("shift", summary.get("shift_interval")),
        "item_p": summary.get("item_p"),
    }


def _of_detector(result: Mapping[str, Any], arm: str, name: str, fired: Sequence[bool]) -> dict[str, float | None]:
    """The rate with its interval, corrected for the detector's errors where they are known, and against base."""
    summary = result["arms"].get(arm, {})
    rate: dict[str, float | None] = {}
    if name == result["primary"] and summary.get("rate") is not None:
        rate = {"rate": summary["rate"], **_ends("rate", summary.get("rate_interval"))}
    elif fired:
        interval = wilson(sum(fired), len(fired))
        rate = {"rate": sum(fired) / len(fired), **_ends("rate", (interval.low, interval.high))}
    corrected = ((result.get("detectors", {}).get(name) or {}).get("corrected") or {}).get(arm) or {}
    planned = [one for one in result.get("comparisons", ()) if (one["arm"], one["detector"]) == (arm, name)]
    compared: Mapping[str, Any] = planned[0] if planned else {}
    return {
        **rate,
        "corrected": corrected.get("rate"),
        **_ends("corrected", corrected.get("interval")),
        "difference": compared.get("difference"),
        **_ends("difference", compared.get("interval")),
        **{key: compared.get(key) for key in ("p", "holm_p", "bh_p", "e_value")},
    }


def _ends(name: str, interval: Sequence[float] | None) -> dict[str, float | None]:
    return {} if interval is None else {f"{name}_low": interval[0], f"{name}_high": interval[1]}


def _some(document: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: document[key] for key in keys if key in document}
