"""Auditing what a home has lived: a session, or a scenario run, and what leaked in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overlay.agent import open_embedder
from overlay.axes import ControlVector
from overlay.emergent import has_emerged
from overlay.errors import ArgumentError, AxisMissing, ModelUnavailable, RecordDamaged
from overlay.home import Home
from overlay.inner import (
    UNKNOWN_TOKENS,
    Context,
    Examination,
    Leak,
    LivedContext,
    Segment,
    SourcedMessage,
    StateNames,
    examine,
    lived_contexts,
    source_tokens,
)
from overlay.model import resolve_model
from overlay.records import read_journal
from overlay.replay import session_journal
from overlay.session import LAST, session_names

if TYPE_CHECKING:
    from overlay.memory import Embedder
    from overlay.scenarios import Scenario


def audit_lived(home: Home, name: str, *, threshold: float | None = None) -> Examination:
    """Audit a session by its name, the newest one ("last") or its journal, or a scenario run by its folder.

    Nothing is fetched.

    What can't be looked for, such as paraphrases without an embedder, is told in `unchecked`.

    Args:
        threshold: cosine similarity from which a sentence counts as a paraphrase, instead of the measured one.

    Raises:
        ArgumentError: there is no such session or run. RecordDamaged: it can't be read.
        DocumentError: an axis that it used is written wrongly.
    """
    folder = next((one for one in (Path(name), home.runs / name) if (one / "scenario.json").is_file()), None)
    if folder is not None:
        return _audit_run(home, folder, threshold)
    if not name.endswith(".jsonl") and name not in (LAST, *(known := session_names(home.sessions))):
        raise ArgumentError(
            f"there is no session or run '{name}' in {home.lived}",
            f"newest sessions: {', '.join(known[-5:]) or 'none'}; or name '{LAST}'",
        )
    return _audit_session(home, session_journal(home, name), threshold)


def _audit_session(home: Home, journal: Path, threshold: float | None) -> Examination:
    records = read_journal(journal)
    axes = dict.fromkeys(axis for record in records for axis in record["state_after"])
    states, unknown = _state_names(home, list(axes))
    embedder, why_no_embedder = _embedder(home)
    tokenizer, why_no_tokenizer = _tokenizer(home, {str(record["model_digest"]) for record in records})
    lived = lived_contexts(records)
    found = examine(
        lived,
        states,
        embedder=embedder,
        threshold=threshold,
        tokenizer=tokenizer,
        prompts=_prompts(lived, records),
        why_no_embedder=why_no_embedder,
        why_no_tokenizer=why_no_tokenizer,
    )
    return replace(found, unchecked=(*unknown, *found.unchecked))


def _prompts(lived: Sequence[LivedContext], records: Sequence[dict[str, Any]]) -> list[str]:
    """For each context the digest of what the model got, where a journal has it: voices speak in their order."""
    digests: dict[tuple[int, int], str] = {}
    for record in records:
        turn, said = int(record["number"]), record["inner_speech"]
        voices = [one.place for one in lived if one.turn == turn and one.context.is_voices]
        if len(voices) == len(said):
            digests |= {(turn, place): str(one.get("prompt", "")) for place, one in zip(voices, said, strict=True)}
    return [digests.get((one.turn, one.place), "") for one in lived]


def _audit_run(home: Home, folder: Path, threshold: float | None) -> Examination:
    """A run keeps its script, from which all its prompts follow, and the hash of each prompt's tokens."""
    from overlay.scenarios import Scenario, script_context

    try:
        kept = _read(folder / "scenario.json")
        scenario, claimed = Scenario.model_validate(kept["scenario"]), str(kept["digest"])
        digest = _read(folder / "result.json")["model"]["digest"] if (folder / "result.json").exists() else ""
    except (KeyError, TypeError, ValueError) as error:
        raise RecordDamaged(f"{folder} holds no readable run", "run the scenario again") from error
    states, unknown = _state_names(home, scenario.axes)
    if scenario.forbidden:
        states.append(StateNames("forbidden", scenario.forbidden, ()))
    embedder, why_no_embedder = _embedder(home)
    tokenizer, why_no_tokenizer = _tokenizer(home, {digest} - {""})
    trials = _trials(scenario)
    contexts = [context for found in trials.values() for context in found]
    lived = [LivedContext(context, place=place) for place, context in enumerate(contexts, start=1)]
    lived.append(LivedContext(script_context(scenario), place=len(lived) + 1))
    found = examine(
        lived,
        states,
        embedder=embedder,
        threshold=threshold,
        tokenizer=tokenizer,
        why_no_embedder=why_no_embedder,
        why_no_tokenizer=why_no_tokenizer,
    )
    checked, unchecked, leaks = list(found.checked), [*unknown, *found.unchecked], list(found.leaks)
    if tokenizer is not None:
        cells = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((folder / "cells").glob("*.json"))]
        # Cells from before an exploratory change lie there too. The digest is the one that was claimed: one of what the
        # file says now would drop all cells of a script that was changed behind the run's back.
        same = [cell for cell in cells if cell["same_tokens"] and cell["script"] == claimed]
        leaks += _changed_prompts(same, trials, tokenizer)
        checked.append(f"the tokens of {len(same)} trials against those that were scored")
    unchecked.append("the inner dialogue of the exposure: a run doesn't keep its contexts")
    return replace(found, turns=0, leaks=tuple(leaks), checked=tuple(checked), unchecked=tuple(unchecked))


def _trials(scenario: Scenario) -> dict[tuple[str, int], tuple[Context, ...]]:
    """What the model is first asked in each wording of each item, in every order, by (item, paraphrase)."""
    from overlay.scenarios import Unit, first_prompts

    return {
        (item.id, paraphrase): tuple(
            Context(
                "trial",
                tuple(SourcedMessage(one.role, (Segment(f"script:{item.id}", one.text),)) for one in row.messages),
            )
            for row in first_prompts(scenario, Unit(item.id, paraphrase))
        )
        for item in scenario.trial.items
        for paraphrase in range(len(item.paraphrases))
    }


def _changed_prompts(
    cells: Sequence[dict[str, Any]], trials: dict[tuple[str, int], tuple[Context, ...]], tokenizer: Any
) -> list[Leak]:
    """Trials whose tokens aren't those of the script's contexts."""
    expected = {
        unit: hashlib.sha256(repr([source_tokens(one, tokenizer).tokens for one in found]).encode()).hexdigest()[:24]
        for unit, found in trials.items()
        if found
    }
    changed = dict.fromkeys(
        (str(cell["item"]), int(cell["paraphrase"]))
        for cell in cells
        if cell["prompts"] != expected.get((cell["item"], cell["paraphrase"]), "")
    )
    return [
        Leak(UNKNOWN_TOKENS, f"paraphrase {paraphrase + 1}", f"script:{item}", "trial", "other tokens were scored")
        for item, paraphrase in changed
    ]


def _state_names(home: Home, axes: Sequence[str]) -> tuple[list[StateNames], list[str]]:
    """What names the states of these axes, and why some have no names, in words."""
    states: list[StateNames] = []
    unknown: list[str] = []
    for axis in axes:
        try:
            source = home.axes.source(axis)
        except AxisMissing:
            why = "it emerged, and nobody named it" if has_emerged(home, axis) else None
            unknown.append(f"words of '{axis}': {why or 'the home has no contrast set of this name'}")
            continue
        if isinstance(source, ControlVector):
            unknown.append(f"words of '{axis}': it was imported, and nothing says what it means")
        else:
            states.append(StateNames.of(source))
    return states, unknown


def _embedder(home: Home) -> tuple[Embedder | None, str]:
    try:
        return open_embedder(home, pull=False), ""
    except ModelUnavailable as error:
        return None, error.problem


def _tokenizer(home: Home, digests: set[str]) -> tuple[Any, str]:
    """The tokenizer of the home's model, if that is the model that was used, or why there is none."""
    try:
        source = resolve_model(home.settings.model, convert=False)
    except ModelUnavailable as error:
        return None, error.problem
    if source.path is None or source.kind == "gguf":
        return None, f"'{source.name}' isn't on this machine as a folder"
    if digests != {source.digest}:
        return None, f"another model than '{source.name}' was used, or not only that"
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(source.path), trust_remote_code=False), ""
    except (OSError, ValueError) as error:
        return None, f"the tokenizer of '{source.name}' can't be read: {str(error).splitlines()[0]}"


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
