"""The walk: teach, check, adapt, step back.

It feeds a node's example, and every few examples it measures all cells of the probes, what was passed before, and the
divergence on the replay texts. While all are within their limits the weights become the last good state. Where one
isn't, the weights go back to that state bit for bit, and the same stretch is walked again with a check behind each
example, so that the one that did it shows. That one is then fed in other ways, one after the other: under another
prompt, into other blocks, with smaller steps. An example that no way can be learned is given up, and the walk goes on
without it.

Everything that decides is measured or drawn from the seed and the number of the step, and stands in the journal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from overlay.errors import AdapterError
from overlay.probes import meets
from overlay.progress import Progress, SilentProgress
from overlay.teaching.check import lost, means, sagging, watched_cells
from overlay.teaching.curriculum import Curriculum, ExampleNode, ProbeNode
from overlay.teaching.departure import Found, departure
from overlay.teaching.graph import words
from overlay.teaching.learned_edges import LearnedEdges
from overlay.teaching.pupil import Blocks, Meal, Pupil
from overlay.teaching.questions import Questions
from overlay.teaching.standing import Good, Keeper, Standing
from overlay.teaching.ways import Way, as_written, meal_of, ways_of

if TYPE_CHECKING:
    from torch import Tensor

NOW, GOOD = "now", "good"
"""What the tensors of the present and of the last good weights are kept as."""


class Walk:
    """A walk over a curriculum with a pupil, from where its standing says.

    Args:
        keeper: where all of it is kept.
        tensors: those that go with the standing, "now" and "good".
        learned: what examples were measured to do for each other; of edges with the same predicate the better one goes
            first.
        blocks: where else an example may be learned, the best place first.
    """

    def __init__(
        self,
        pupil: Pupil,
        curriculum: Curriculum,
        questions: Questions,
        standing: Standing,
        keeper: Keeper,
        tensors: Mapping[str, Mapping[str, Tensor]],
        *,
        learned: LearnedEdges | None = None,
        blocks: Sequence[Blocks] = (),
        progress: Progress | None = None,
    ) -> None:
        self.standing = standing
        self._pupil = pupil
        self._curriculum = curriculum
        self._settings = curriculum.teaching
        self._questions = questions
        self._cells = watched_cells(questions, self._settings.least_in_cell)
        self._keeper = keeper
        self._good = dict(tensors[GOOD])
        self._learned = learned
        self._blocks = tuple(blocks)
        self._progress = progress or SilentProgress()
        pupil.restore(tensors[NOW])

    @property
    def good(self) -> Mapping[str, Tensor]:
        """The last good state, as `Pupil.restore` takes it."""
        return self._good

    def run(self) -> Standing:
        """Walk to the end. Whatever ends the process before, what was kept can be gone on from.

        Raises:
            AdapterError: weights or base aren't what they were after a step back.
            StorageFull
        """
        while (name := self.standing.node) is not None:
            node = self._curriculum[name]
            if isinstance(node, ExampleNode):
                self._teach(node)
            else:
                self._ask(node)
        return self.standing

    # --- nodes ----------------------------------------------------------------------------------

    def _ask(self, node: ProbeNode) -> None:
        (margin,) = self._pupil.margins([self._questions.asked[node.id]])
        passed, said = margin > node.least, {}
        if passed and node.expect is not None:
            text = self._pupil.says(self._questions.asked[node.id].prompt)
            said = {"said": text}
            passed = bool(meets(text, node.expect))
        outcome: Literal["passed", "failed"] = "passed" if passed else "failed"
        if passed:
            self.standing.passed[node.id] = margin
        self._say(
            "asked", node.id, f"{outcome}: margin {margin:+.3f} nats per token", margin=margin, **said, outcome=outcome
        )
        self._leave(node, Found(outcome, margin))

    def _teach(self, node: ExampleNode) -> None:
        standing, settings = self.standing, self._settings
        if self._is_spent:
            self._end(f"its {settings.steps} optimizer steps are spent")
            return
        attempt = standing.attempts.get(node.id, 0)
        # Variants cost a measurement: they are only looked for where they are needed.
        ways = ways_of(node, self._pupil, settings, self._blocks) if attempt else [as_written(node)]
        if attempt >= len(ways):
            self._give_up(node, len(ways))
            return
        standing.lesson.append(node.id)
        trouble = self._feed(node, ways[attempt])
        if not trouble and standing.replay_kl > settings.budget:
            trouble = (
                f"the replay KL is {standing.replay_kl:.3f} nats per token, and {settings.budget:g} are its budget"
            )
        if trouble:
            self._step_back(trouble)
            return
        standing.learned[node.id] = ways[attempt].prompt
        if (standing.careful or len(standing.lesson) >= settings.check_every) and not self._check():
            return
        self._leave(node, Found("passed"))

    @property
    def _is_spent(self) -> bool:
        return self.standing.fed + self._settings.feedings > self._settings.steps

    def _feed(self, node: ExampleNode, way: Way) -> str:
        """Feed an example in one way; what went wrong, in words, or nothing."""
        standing, settings = self.standing, self._settings
        losses: list[float] = []
        meals: list[Meal] = []
        trouble = ""
        for _ in range(settings.feedings):
            meal = meal_of(node, way, self._curriculum, standing.learned, standing.fed, self._pupil.groups)
            try:
                losses.append(self._pupil.eat(meal, standing.fed))
            except AdapterError as error:
                trouble = error.problem
                break
            meals.append(meal)
            standing.fed += 1
            standing.kept += 1
            self._tell(node.id, losses[-1])
        standing.replay_kl = self._pupil.replay_kl()
        self._say(
            "fed",
            node.id,
            f"{way.words}; {len(losses)} steps",
            loss=losses,
            meals=[meal.record() for meal in meals],
            tokens=sum(map(self._pupil.tokens, meals)),
        )
        return trouble

    def _give_up(self, node: ExampleNode, ways: int) -> None:
        standing = self.standing
        if node.id not in standing.given_up:
            standing.given_up.append(node.id)
        standing.attempts.pop(node.id, None)
        self._say("gave up", node.id, f"none of {ways} ways of feeding it stays within the budgets")
        standing.careful = max(0, standing.careful - 1)
        self._leave(node, Found("failed"))

    # --- edges ----------------------------------------------------------------------------------

    def _leave(self, node: ExampleNode | ProbeNode, found: Found) -> None:
        """Go on along the first edge whose predicate holds, or end where none does."""
        standing = self.standing
        edge = departure(self._curriculum, node.id, found, standing, self._learned)
        if isinstance(edge, str):
            self._end(edge)
            return
        standing.node = edge.to
        standing.visits[edge.to] = standing.visits.get(edge.to, 0) + 1
        why = f"{words(edge)}{f' ({edge.label})' if edge.label else ''}"
        self._say("went on", node.id, why, to=edge.to)
        if isinstance(node, ExampleNode):
            self._settle()

    # --- checks ---------------------------------------------------------------------------------

    def _check(self) -> bool:
        """Measure all cells. Within the limits the present weights are the last good ones; else they are taken back."""
        standing, settings, questions = self.standing, self._settings, self._questions
        margins = self._pupil.margins_by_id(questions.watched)
        found = sagging(self._cells, margins, standing.good.margins, standing.base_margins, settings.sag)
        kept = {name: margins[questions.asked[name].id] for name in standing.passed}
        found |= lost(self._curriculum, kept, standing.passed)
        reason = "; ".join(found.values()) or "every cell and the replay KL are within their limits"
        self._say(
            "checked",
            standing.lesson[-1],
            reason,
            cells=means(self._cells, margins),
            passed=kept,
            sagging=sorted(found),
        )
        if found:
            self._step_back(reason)
            return False
        self._good = self._pupil.state()
        for name in standing.lesson:
            standing.attempts.pop(name, None)
        standing.given_up = [name for name in standing.given_up if name not in standing.lesson]
        standing.good = Good(
            node=standing.node,
            digest=self._pupil.digest(),
            steps=standing.kept,
            visits=dict(standing.visits),
            learned=dict(standing.learned),
            passed=dict(standing.passed),
            margins=margins,
            replay_kl=standing.replay_kl,
        )
        standing.lesson = []
        standing.careful = max(0, standing.careful - 1)
        return True

    def _step_back(self, reason: str) -> None:
        """Back to the last good state, bit for bit; from there example by example, or the next way of feeding one.

        Raises:
            AdapterError: the weights restored, or the base, aren't what they were.
        """
        standing, good = self.standing, self.standing.good
        left = self._pupil.digest()
        self._pupil.restore(self._good)
        restored, base = self._pupil.digest(), self._pupil.base_logits()
        if restored != good.digest:
            raise AdapterError(
                f"the weights restored have the hash {restored[:16]}, and the last good ones {good.digest[:16]}",
                "begin anew with --anew",
            )
        if base != standing.base_logits:
            raise AdapterError("the base model's logits are not what they were", "load the model anew, and go on")
        standing.careful = max(len(standing.lesson), standing.careful)
        if len(standing.lesson) == 1:
            (name,) = standing.lesson
            standing.attempts[name] = standing.attempts.get(name, 0) + 1
        standing.lesson, standing.learned = [], dict(good.learned)
        standing.node, standing.visits, standing.passed = good.node, dict(good.visits), dict(good.passed)
        standing.kept, standing.replay_kl = good.steps, good.replay_kl
        self._say(
            "stepped back", good.node, reason, left=left, restored=restored, base_logits=base, base_unchanged=True
        )
        self._keep()

    def _end(self, reason: str) -> None:
        """End the walk, once what was learned since the last good state has passed its check."""
        standing = self.standing
        if standing.lesson and not self._check():
            return
        standing.node = standing.good.node = None
        self._say("ended", None, reason, cells=means(self._cells, standing.good.margins))
        self._keep()

    # --- keeping --------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Behind an example: where the weights are good, this is where a step back leads."""
        standing = self.standing
        if not standing.lesson:
            standing.good = replace(standing.good, node=standing.node, visits=dict(standing.visits))
        self._keep()

    def _keep(self) -> None:
        standing = self.standing
        now = self._pupil.state() if standing.lesson else self._good
        self._keeper.keep(standing, {NOW: now, GOOD: self._good})

    def _say(self, action: str, node: str | None, reason: str, **facts: object) -> None:
        standing = self.standing
        self._keeper.say(
            standing,
            action=action,
            node=node,
            reason=reason,
            fed=standing.fed,
            kept=standing.kept,
            replay_kl=standing.replay_kl,
            weights=self._pupil.digest(),
            **facts,
        )

    def _tell(self, node: str, loss: float) -> None:
        standing = self.standing
        total = max(standing.fed, self._settings.feedings * len(self._curriculum.examples))
        detail = f"{node}: loss {loss:.2f}, replay KL {standing.replay_kl:.3f} nats per token"
        self._progress.step("teaching", standing.fed, min(total, self._settings.steps), detail)
