"""Worlds: what the agent owns and sees in a trial, what it can do there, and what happens then."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated

from pydantic import Field, model_validator

from overlay.documents import Document, MistakeAt
from overlay.errors import ExpressionError
from overlay.scenarios.expression import Expression, Value, evaluate

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
Word = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Text = Annotated[str, Field(min_length=1)]
Effects = dict[Word, bool | int | Expression]
"""What an act does: a number is added to a resource; a truth value or an expression replaces a fact.

An expression may stand for a resource, too: it says how much there is afterwards, a whole number that isn't below 0,
and the ledger keeps the difference.
"""

RESERVED = {"at", "step"}


class Reaction(Document):
    """What another agent says and does, once, when an expression first becomes true."""

    when: Expression
    says: Text
    effects: Effects = Field(default_factory=dict)


class Other(Document):
    """Another agent in the world, whose answers are written down."""

    name: Word
    place: Word | None = None
    reactions: Annotated[tuple[Reaction, ...], Field(min_length=1)]


class Action(Document):
    """An act that the world offers while `when` holds. `asked` says whether a turn asks for it."""

    id: Name
    text: Text
    when: Expression | None = None
    effects: Effects = Field(default_factory=dict)
    to: str | None = None
    moves_to: Word | None = None
    asked: bool = True


class Rule(Document):
    """What happens by itself, after any step, once `when` holds; each rule acts once."""

    name: Name
    when: Expression
    effects: Effects = Field(default_factory=dict)
    says: Text | None = None
    ends: bool = False
    """Whether the episode ends here. No message follows: what rules and others say in that step is shown to nobody."""


class World(Document):
    """A world as it is written. Items add to its resources and facts, or change where the agent starts."""

    resources: dict[Word, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    facts: dict[Word, bool | int] = Field(default_factory=dict)
    places: dict[Word, tuple[Word, ...]] = Field(default_factory=dict)
    start: Word | None = None
    others: tuple[Other, ...] = ()
    actions: tuple[Action, ...] = ()
    rules: tuple[Rule, ...] = ()

    @model_validator(mode="after")
    def _is_connected(self) -> World:
        for place, exits in self.places.items():
            if missing := [name for name in exits if name not in self.places]:
                raise MistakeAt(("places", place), f"leads to '{missing[0]}', which is no place of this world")
        if self.places and self.start not in self.places:
            raise MistakeAt(("start",), f"must be one of the places {', '.join(self.places)}")
        if twice := _repeated([action.id for action in self.actions]):
            raise MistakeAt(("actions",), f"two actions have the id '{twice}'")
        for index, other in enumerate(self.others):
            if other.place is not None and other.place not in self.places:
                raise MistakeAt(("others", index), f"'{other.name}' is at '{other.place}', which is no place")
        names = [*self.resources, *self.facts]
        if taken := [name for name in names if name in RESERVED] or ([twice] if (twice := _repeated(names)) else []):
            raise MistakeAt((), f"'{taken[0]}' can't name a resource or a fact: it is taken")
        return self

    def texts(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Every text that may enter a context, with its place in the document; names of places and others are shown."""
        for index, action in enumerate(self.actions):
            yield ("actions", index, "text"), action.text
        for place in self.places:
            yield ("places", place), place.replace("_", " ")
        for index, other in enumerate(self.others):
            yield ("others", index, "name"), other.name.replace("_", " ")
            for number, reaction in enumerate(other.reactions):
                yield ("others", index, "reactions", number, "says"), reaction.says
        for index, rule in enumerate(self.rules):
            if rule.says is not None:
                yield ("rules", index, "says"), rule.says


def _repeated(names: list[str]) -> str | None:
    return next((name for name in names if names.count(name) > 1), None)


@dataclass(frozen=True)
class Entry:
    """One change of a resource: at which step, by which act, and for whom."""

    step: int
    resource: str
    change: int
    act: str
    to: str | None = None


@dataclass(frozen=True)
class Situation:
    """A world at one moment of an episode. Acting gives the next one; nothing is changed in place."""

    world: World
    start: Mapping[str, Value]
    values: Mapping[str, Value]
    place: str | None = None
    step: int = 0
    ledger: tuple[Entry, ...] = ()
    done: tuple[str, ...] = ()
    happened: frozenset[str] = field(default_factory=frozenset)
    ended: bool = False
    resources: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def of(
        cls, world: World, resources: Mapping[str, int], facts: Mapping[str, bool | int], place: str | None
    ) -> Situation:
        """A world at its start, with what an item adds to it."""
        values: dict[str, Value] = {**world.resources, **resources, **world.facts, **facts}
        owned = frozenset((*world.resources, *resources))
        return cls(world, dict(values), values, place or world.start, resources=owned)

    @property
    def names(self) -> dict[str, Value]:
        """What expressions may name."""
        return {**self.values, "at": self.place or "", "step": self.step}

    def holds(self, expression: str | None) -> bool:
        """Whether an expression is true here; one that isn't given is. Raises ExpressionError."""
        return expression is None or bool(evaluate(expression, self.names, self._answers))

    @property
    def _answers(self) -> dict[str, Callable[..., Value]]:
        return {"spent": self.spent, "did": self.did}

    def spent(self, resource: str) -> int:
        """How much less there is of a resource than at the start; never below 0."""
        if resource not in self.start:
            raise ExpressionError(f"spent('{resource}') names no resource", f"there are {', '.join(self.start)}")
        return max(0, int(self.start[resource]) - int(self.values[resource]))

    def did(self, act: str) -> bool:
        """Whether an option or action of this id was taken."""
        return act in self.done

    def offers(self) -> tuple[Action, ...]:
        """The actions that the world allows now, and a way to every neighbouring place. Raises ExpressionError."""
        found = [action for action in self.world.actions if self.holds(action.when) and self._affordable(action)]
        ways = self.world.places.get(self.place or "", ())
        moved = {action.moves_to for action in found}
        found += [
            Action(id=f"go-{way}", text=f"I go to the {way.replace('_', ' ')}.", moves_to=way)
            for way in ways
            if way not in moved
        ]
        return tuple(found)

    def _affordable(self, action: Action) -> bool:
        return all(
            int(self.outcome(action.id, name, effect)) >= 0
            for name, effect in action.effects.items()
            if self.counts(name, effect)
        )

    def counts(self, name: str, effect: bool | int | str) -> bool:
        """Whether the ledger keeps an effect: any on a resource, and a number that is added to a fact."""
        return name in self.resources or (isinstance(effect, int) and not isinstance(effect, bool))

    def outcome(self, act: str, name: str, effect: bool | int | str) -> Value:
        """What one effect of an act makes of a resource or a fact; below 0 where it costs more than there is.

        Raises:
            ExpressionError: it can't be evaluated here, or would make something else than a whole number of a resource,
                or a text of a fact.
        """
        if isinstance(effect, int) and not isinstance(effect, bool):
            return int(self.values.get(name, 0)) + effect
        found = evaluate(effect, self.names, self._answers) if isinstance(effect, str) else effect
        if name in self.resources and (isinstance(found, bool) or not isinstance(found, int)):
            raise ExpressionError(
                f"'{act}' makes {found!r} of the resource '{name}'", "only whole numbers can be owned: use // or round"
            )
        if isinstance(found, str):
            # A text could be shown through a blank, and nothing has searched it for words that name the state.
            raise ExpressionError(f"'{act}' makes a text of the fact '{name}'", "let it be a number or a truth value")
        return found

    def act(self, act: str, effects: Effects, to: str | None = None, moves_to: str | None = None) -> Situation:
        """After one act. Raises ExpressionError."""
        after = self._changed(act, effects, to)
        return replace(after, place=moves_to or after.place, done=(*after.done, act))

    def passes(self) -> tuple[Situation, tuple[str, ...]]:
        """After a step: rules act and others answer; what is said then, oldest first. Raises ExpressionError."""
        now, said = replace(self, step=self.step + 1), list[str]()
        for rule in self.world.rules:
            if f"rule:{rule.name}" not in now.happened and now.holds(rule.when):
                now = replace(
                    now._changed(rule.name, rule.effects, None),
                    happened=now.happened | {f"rule:{rule.name}"},
                    ended=now.ended or rule.ends,
                )
                said += [rule.says] if rule.says else []
        for other in self.world.others:
            for number, reaction in enumerate(other.reactions):
                key = f"other:{other.name}:{number}"
                near = other.place is None or other.place == now.place
                if near and key not in now.happened and now.holds(reaction.when):
                    now = replace(now._changed(other.name, reaction.effects, None), happened=now.happened | {key})
                    said.append(f"{other.name.replace('_', ' ').capitalize()}: {reaction.says}")
        return now, tuple(said)

    def _changed(self, act: str, effects: Effects, to: str | None) -> Situation:
        values = dict(self.values)
        ledger = list(self.ledger)
        for name, effect in effects.items():
            found = self.outcome(act, name, effect)
            if self.counts(name, effect):
                if int(found) < 0:
                    raise ExpressionError(f"'{act}' spends more '{name}' than there is", "guard it with `when`")
                ledger.append(Entry(self.step, name, int(found) - int(values.get(name, 0)), act, to))
            values[name] = found
        return replace(self, values=values, ledger=tuple(ledger))
