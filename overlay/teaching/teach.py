"""Teaching: a curriculum becomes an adapter, and its shuffled twin says what the order and the checks were worth."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overlay.adapters import Adapter, AdapterLibrary, Fitting, check_adapter
from overlay.errors import AdapterError, OverlayError
from overlay.memory import WriterLock
from overlay.model import UNTREATED, Volatility, VolatilityGauge
from overlay.probes import Likeness, check_generations, require_checkable, semantic_map
from overlay.progress import Progress, SilentProgress
from overlay.records import digest_of, storage_errors, write_record
from overlay.teaching.check import means, watched_cells
from overlay.teaching.curriculum import Curriculum
from overlay.teaching.learned_edges import LearnedEdges
from overlay.teaching.pupil import Blocks, Meal, Pupil
from overlay.teaching.questions import Questions, bank_of, is_measured, taught_of
from overlay.teaching.standing import ANEW, RESULT, Good, Identity, Keeper, Standing
from overlay.teaching.taught_adapter import require_learned, require_place, save_taught
from overlay.teaching.twin import fed_meals, feed_twin, shuffled
from overlay.teaching.verdict import Pupils, Verdict, compare
from overlay.teaching.walk import GOOD, NOW, Walk

if TYPE_CHECKING:
    from torch import Tensor

    from overlay.model import LanguageModel


@dataclass(frozen=True)
class Taught:
    """What came of a teaching.

    Attributes:
        result: the verdict as it is kept, with everything that it rests on; without a twin, nothing but the identity.
        journal: every line that was written, saying why.
        was_done: whether all of it was there already.
    """

    adapter: Adapter
    result: Mapping[str, Any]
    journal: tuple[Mapping[str, Any], ...]
    was_done: bool = False


class Teaching:
    """One teaching: a curriculum, a model, and the folder in which it is kept until it is done.

    Args:
        folder: of this teaching alone. library: where the adapter goes, under `name`.
        learned: what examples were measured to do for each other. blocks: where else they may be learned.
        with_twin: whether the shuffled twin is fed as well; without it there is no verdict.
        embedder: what answers to the checks are compared by that must be like a text.

    Raises:
        ArgumentError: a kind has only one check, or answers must be like a text and there is no embedder.
    """

    def __init__(
        self,
        curriculum: Curriculum,
        questions: Questions,
        model: LanguageModel,
        folder: Path,
        library: AdapterLibrary,
        *,
        name: str = "",
        learned: LearnedEdges | None = None,
        blocks: Sequence[Blocks] = (),
        with_twin: bool = True,
        embedder: Likeness | None = None,
        made_at: float | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._curriculum = curriculum
        self._questions = questions
        self._model = model
        self._library = library
        self._name = name or curriculum.name
        self._learned = learned
        self._blocks = tuple(blocks)
        self._with_twin = with_twin
        self._embedder = embedder
        self._made_at = time.time() if made_at is None else made_at
        self._progress = progress or SilentProgress()
        if with_twin and questions.checks:
            require_checkable(questions.checks, embedder)
        self._keeper = Keeper(folder)
        asked = [[probe.model_dump(mode="json") for probe in group] for group in _groups(questions)]
        beside = [self._name, self._blocks, with_twin, asdict(learned) if learned else None]
        self._identity = Identity(
            curriculum.digest, digest_of([asked, list(questions.asked)]), digest_of(beside), model.digest, model.dtype
        )

    def run(self, *, anew: bool = False) -> Taught:
        """Teach, or go on from where it was cut off; what is done already is only told.

        Everything that decides is kept, so that what was cut off at any moment ends with the same bits.

        Raises:
            AdapterError: nothing could be learned within the budgets, or another teaching is under way here, or the
                model has no such blocks, or the name is that of an adapter that was not taught.
            HomeLocked: another process is at it. RecordDamaged: what was kept can't be read. StorageFull
        """
        folder = self._keeper.folder
        require_place(self._library, self._name)
        self._require_unmeasured()
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        lock = WriterLock(folder / "lock")
        try:
            if anew:
                self._keeper.drop()
            elif (done := self._done()) is not None:
                return done
            return self._run(self._begun())
        finally:
            lock.release()

    # --- the course of it -----------------------------------------------------------------------

    def _run(self, standing: Standing | None) -> Taught:
        settings, keeper = self._curriculum.teaching, self._keeper
        fitting = Fitting(
            self._model,
            settings.where,
            rank=settings.rank,
            alpha=settings.alpha,
            learning_rate=settings.learning_rate,
            seed=settings.seed,
            replay=self._curriculum.replay,
            name="teaching",
        )
        with fitting:
            pupil = Pupil(self._model, fitting, self._curriculum)
            start = pupil.state()
            if standing is None:
                standing = self._begin(pupil, start)
            else:
                keeper.cut(standing.lines)
            tensors: Mapping[str, Mapping[str, Tensor]] = keeper.tensors()
            if standing.phase == "walk":
                tensors = self._walk(pupil, standing, tensors, start)
            if standing.phase == "twin":
                meals = shuffled(fed_meals(keeper.journal), settings.seed)
                feed_twin(pupil, meals, standing, keeper, tensors[GOOD], tensors[NOW], self._progress)
                standing.phase = "measure"
                tensors = {GOOD: tensors[GOOD], NOW: pupil.state()}
                keeper.keep(standing, tensors)
            adapter, result = self._measure(pupil, standing, tensors)
        written = json.dumps(result, ensure_ascii=False)
        write_record(keeper.folder / RESULT, written)
        journal = tuple(keeper.journal)
        keeper.forget_tensors()
        # As it will be read back: whoever asks again gets the same.
        return Taught(adapter, json.loads(written), journal)

    def _begin(self, pupil: Pupil, start: Mapping[str, Tensor]) -> Standing:
        questions, keeper = self._questions, self._keeper
        self._progress.step("asking the base model", None, None)
        margins = pupil.margins_by_id(questions.watched, base=True)
        cells = means(watched_cells(questions, self._curriculum.teaching.least_in_cell), margins)
        first = self._curriculum.start
        standing = Standing(
            identity=self._identity,
            good=Good(first, pupil.digest(), visits={first: 1}, margins=margins),
            base_margins=margins,
            base_logits=pupil.base_logits(),
            node=first,
            made_at=self._made_at,
            visits={first: 1},
        )
        keeper.drop()
        keeper.say(
            standing,
            action="began",
            node=first,
            reason=f"the base as it is; {len(cells)} cells of {len(questions.watched)} probes are watched",
            cells=cells,
            weights=standing.good.digest,
            base_logits=standing.base_logits,
        )
        keeper.keep(standing, {NOW: start, GOOD: start})
        return standing

    def _walk(
        self,
        pupil: Pupil,
        standing: Standing,
        tensors: Mapping[str, Mapping[str, Tensor]],
        start: Mapping[str, Tensor],
    ) -> dict[str, Mapping[str, Tensor]]:
        walk = Walk(
            pupil,
            self._curriculum,
            self._questions,
            standing,
            self._keeper,
            tensors,
            learned=self._learned,
            blocks=self._blocks,
            progress=self._progress,
        )
        walk.run()
        require_learned(self._curriculum, standing)
        standing.phase = "twin" if self._with_twin else "measure"
        found = {GOOD: walk.good, NOW: start if self._with_twin else walk.good}
        self._keeper.keep(standing, found)
        return found

    def _measure(
        self, pupil: Pupil, standing: Standing, tensors: Mapping[str, Mapping[str, Tensor]]
    ) -> tuple[Adapter, dict[str, Any]]:
        """Measure both pupils and save the one that was taught."""
        progress, questions, seed = self._progress, self._questions, self._curriculum.teaching.seed
        gauge = VolatilityGauge(self._model)
        progress.step("measuring what was taught", None, None)
        pupil.restore(tensors[GOOD])
        base = pupil.margins(questions.held_out, base=True)
        taught = pupil.margins(questions.held_out)
        cost = gauge.measure(pupil.intervention)
        adapter = save_taught(pupil, self._curriculum, standing, self._library, self._name, (base, taught), cost)
        result: dict[str, Any] = {"identity": asdict(self._identity), "given_up": standing.given_up}
        if not self._with_twin:
            return adapter, result
        map_, checks = self._map(pupil, "taught"), None
        if questions.checks:
            checks = check_generations(
                self._model,
                questions.checks,
                UNTREATED,
                pupil.treatment,
                embedder=self._embedder,
                seed=seed,
                progress=progress,
            )
        progress.step("measuring the shuffled twin", None, None)
        pupil.restore(tensors[NOW])
        twin = pupil.margins(questions.held_out)
        journal = self._keeper.journal
        walked = fed_meals(journal)
        verdict = Verdict(
            comparison=compare(questions.held_out, base, taught, twin, seed),
            taught=_pupils(pupil, standing.good.replay_kl, cost, standing.good.steps, walked, standing.fed),
            twin=_pupils(
                pupil,
                pupil.replay_kl(),
                gauge.measure(pupil.intervention),
                standing.twin,
                shuffled(walked, seed),
                standing.twin,
            ),
            map=map_,
            twin_map=self._map(pupil, "twin"),
            checks=checks,
        )
        return adapter, result | verdict.to_json()

    def _map(self, pupil: Pupil, name: str) -> Any:
        questions = self._questions
        try:
            bank = bank_of(self._curriculum.name, (*questions.watched, *questions.held_out))
        except OverlayError:
            return None
        self._model.prefixes.clear()
        return semantic_map(
            self._model,
            bank,
            UNTREATED,
            pupil.treated(name),
            seed=self._curriculum.teaching.seed,
            progress=self._progress,
        )

    # --- what is there already ------------------------------------------------------------------

    def _begun(self) -> Standing | None:
        standing = self._keeper.find()
        if standing is None or standing.identity == self._identity:
            return standing
        own, other = asdict(self._identity), asdict(standing.identity)
        words = {
            "curriculum": "another curriculum, or other settings",
            "questions": "other probes",
            "beside": "another name, map or learned edges",
            "model": "another model",
            "dtype": "another number format",
        }
        differing = ", ".join(words[key] for key in own if own[key] != other[key])
        raise AdapterError(
            f"the teaching under way in {self._keeper.folder} was begun with {differing}",
            f"give what it was begun with, or {ANEW}",
        )

    def _done(self) -> Taught | None:
        path = self._keeper.folder / RESULT
        if not path.is_file() or (self._keeper.find() is not None):
            return None
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
            adapter = check_adapter(self._library.built / self._name, self._model.digest)
        except (ValueError, OverlayError):
            return None
        if result.get("identity") != asdict(self._identity) or adapter.curriculum_digest != self._curriculum.digest:
            return None
        return Taught(adapter, result, tuple(self._keeper.journal), was_done=True)

    def _require_unmeasured(self) -> None:
        """Raise AdapterError where something is trained on by which it is measured."""
        for text in self._curriculum.replay:
            if is_measured(text):
                raise AdapterError(f"{text!r} is replayed, and volatility is measured on it", "replace it")
        for probe in self._questions.held_out:
            if said := taught_of(self._curriculum, probe):
                raise AdapterError(f"{said!r} is held out and taught as well", "ask it in other words")


def _pupils(pupil: Pupil, replay_kl: float, cost: Volatility, steps: int, meals: Sequence[Meal], fed: int) -> Pupils:
    return Pupils(replay_kl, cost.mean, cost.p95, steps, fed, sum(map(pupil.tokens, meals[:fed])))


def _groups(questions: Questions) -> tuple[Sequence[Any], ...]:
    return tuple(questions.asked.values()), questions.watched, questions.held_out, questions.checks
