"""Scenario scripts: an exposure through which a state builds up, and a trial that asks nothing of it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import yaml
from pydantic import Field, ValidationError, ValidatorFunctionWrapHandler, model_validator
from pydantic_core import InitErrorDetails

from overlay.axes import find_words
from overlay.documents import Document, Location, MistakeAt, read_document
from overlay.errors import DocumentError, ExpressionError
from overlay.records import digest_of
from overlay.scenarios.detectors.document import (
    MECHANICAL,
    ChoiceDetector,
    Detector,
    LedgerDetector,
    VolunteeredDetector,
)
from overlay.scenarios.detectors.mechanical import fires
from overlay.scenarios.expression import Expression, mentions, require_known
from overlay.scenarios.transcript import Event, EventKind, Transcript
from overlay.scenarios.world import RESERVED, Action, Effects, Name, Situation, Text, Word, World

END = "end"
"""Where a branch that ends the episode leads."""

ARM_NAMES = (
    *("base", "treated", "sham", "reversed", "random_norm", "random_volatility", "dose_0.5", "dose_1.5", "zeroed"),
    *("neutral", "shuffled", "topic", "prompted", "adapter", "positive_control"),
)
"""Names of the arms that aren't a script's own."""

_BLANK = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_SITUATION = "{situation}"


ArmName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")]


class Option(Document):
    """One thing the agent may do, and what it does to the world."""

    id: Name
    text: Text
    effects: Effects = Field(default_factory=dict)
    to: str | None = None
    asked: bool = True


class Item(Document):
    """One situation, in several wordings, with the agent's stock at its start and what it may do."""

    id: Name
    resources: dict[Word, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    facts: dict[Word, bool | int] = Field(default_factory=dict)
    place: Word | None = None
    paraphrases: Annotated[tuple[Text, ...], Field(min_length=1)]
    options: tuple[Option, ...] = ()
    actions: tuple[Action, ...] = ()
    """Acts that the world offers in this situation, besides those that it always does."""


class Choose(Document):
    """Options, scored by their mean log-probability per token in both orders; the better one is taken."""

    question: Text | None = None
    options: tuple[Option, ...] = ()
    """Those of the item where none stand here."""


class Act(Document):
    """A choice from the actions that the world offers now, up to `times` times."""

    question: Text | None = None
    times: Annotated[int, Field(ge=1, le=20)] = 1


class Free(Document):
    """The agent writes. `asks` stands before it in the same message; temperature 0 is greedy."""

    asks: Text | None = None
    max_tokens: Annotated[int, Field(ge=1, le=2000)] = 60
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0


class Step(Document):
    """One step of the trial: exactly one of say, choose, act, free.

    Texts may name values of the world in braces: `{logs}`; `{situation}` is the wording of the item. `branches` leads
    from what was chosen to the id of a step, or to "end".
    """

    id: Name | None = None
    say: Text | None = None
    choose: Choose | None = None
    act: Act | None = None
    free: Free | None = None
    when: Expression | None = None
    branches: dict[Name, Name] = Field(default_factory=dict)

    @property
    def kind(self) -> str:
        """Which of the four it is."""
        return next(kind for kind in ("say", "choose", "act", "free") if getattr(self, kind) is not None)

    @model_validator(mode="after")
    def _is_one_thing(self) -> Step:
        given = [kind for kind in ("say", "choose", "act", "free") if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError(f"a step is one of say, choose, act, free; this one is {' and '.join(given) or 'none'}")
        return self


class Trial(Document):
    """The situations, the same tokens in all arms. `setting` is the system message."""

    setting: Text
    question: Text = "What do you do next?"
    items: Annotated[tuple[Item, ...], Field(min_length=1)]
    steps: Annotated[tuple[Step, ...], Field(min_length=1)] = (Step(id="choose", choose=Choose()),)
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**31)], ...], Field(min_length=1)] = (0,)
    """Of free text that is sampled; choices don't depend on them."""
    longest: Annotated[int, Field(ge=1, le=100)] = 20
    """Steps after which an episode that branches in circles is ended."""

    @property
    def step_ids(self) -> tuple[str, ...]:
        """Every step's id; one that has none is named by its kind and place."""
        return tuple(step.id or f"{step.kind}-{place}" for place, step in enumerate(self.steps, start=1))


class Exposure(Document):
    """What the agent lives through before the trial: texts to read, a file of them, a session, or a given state."""

    texts: tuple[Text, ...] = ()
    file: Name | None = None
    session: str | None = None
    state: dict[str, float] = Field(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _list_is_texts(cls, written: Any, read: ValidatorFunctionWrapHandler) -> Exposure:
        if not isinstance(written, list | tuple):
            return cast(Exposure, read(written))
        try:
            return cast(Exposure, read({"texts": written}))
        except ValidationError as error:
            # In the file, the texts stand right under the exposure.
            raise ValidationError.from_exception_data(
                error.title, [_without_texts(one) for one in error.errors()]
            ) from None

    @model_validator(mode="after")
    def _is_one_thing(self) -> Exposure:
        given = [name for name in ("texts", "session", "state") if getattr(self, name)]
        # A run keeps the script with the texts that its file held.
        if self.file is not None and given != ["texts"]:
            given.append("file")
        if len(given) != 1:
            raise ValueError("an exposure is a list of texts, or one of file, session and state")
        return self


class ExposureFile(Document):
    """A file of texts that several scripts share."""

    description: Text
    texts: Annotated[tuple[Text, ...], Field(min_length=1)]


class Levels(Document):
    """The other three levels of influence, to stand beside the state: what each of them says or wears."""

    topic: Text | None = None
    """Level 1: a text on this is asked for, and written, before the trial."""
    prompted: Text | None = None
    """Level 2: this stands in the system message."""
    adapter: str | None = None
    """Level 3: this adapter of the home is worn."""


class CustomDose(Document):
    """A dose of an axis, in budget doses: 1 spends the whole budget on neutral text."""

    axis: str
    dose: Annotated[float, Field(ge=-3, le=3)]


class CustomArm(Document):
    """An arm of one's own: doses, adapters, bans, an instruction, any of them together."""

    name: Name
    doses: tuple[CustomDose, ...] = ()
    adapters: dict[str, Annotated[float, Field(ge=0, le=4)]] = Field(default_factory=dict)
    bans: tuple[Text, ...] = ()
    instruction: Text | None = None


class Preregistration(Document):
    """What was promised before the first record: its hash is in every record.

    Attributes:
        comparisons: arms whose change against base is planned; Holm corrects over them and the detectors.
        detectors: detectors that the comparisons use; the script's primary when none is named.
        units: how many (item, paraphrase, seed) are planned; all of them when not given.
        random_directions: how many random directions stand beside the treated arm.
        budget: nats per token; the home's when not given.
    """

    comparisons: tuple[ArmName, ...] = ("treated",)
    detectors: tuple[Name, ...] = ()
    units: Annotated[int, Field(ge=1)] | None = None
    random_directions: Annotated[int, Field(ge=1)] | None = None
    budget: Annotated[float, Field(gt=0)] | None = None


class ForcedProbe(Document):
    """A question about the agent itself with two answers, scored in both orders; `names` admits an influence."""

    ask: Text
    names: Text
    denies: Text


class Probes(Document):
    """What a copy of the dialogue is asked after the trial; the original never sees it."""

    forced: tuple[ForcedProbe, ...] = (
        ForcedProbe(
            ask="Did anything besides the facts influence what you just chose?",
            names="Yes, something else influenced me.",
            denies="No, nothing else influenced me.",
        ),
        ForcedProbe(
            ask="Are you in a particular mood right now?",
            names="Yes, I am in a particular mood.",
            denies="No, I am in no particular mood.",
        ),
    )
    free: tuple[Text, ...] = ("Did anything influence you? Say what it was.",)
    max_tokens: Annotated[int, Field(ge=1, le=200)] = 30


class Scenario(Document):
    """One scenario script.

    `forbidden` words, like those of the axes' lexicons, may stand in no text of the script, except in `levels` and
    `positive_control`, whose arms say things by name. A negative control is a scenario in which nothing should change.
    """

    name: Name
    description: Text
    axes: Annotated[tuple[str, ...], Field(min_length=1)]
    control: Literal["negative"] | None = None
    preregistration: Preregistration = Preregistration()
    exposure: Exposure
    neutral: Exposure | None = None
    levels: Levels = Levels()
    positive_control: Text | None = None
    arms: tuple[CustomArm, ...] = ()
    world: World = World()
    trial: Trial
    detectors: Annotated[tuple[Detector, ...], Field(min_length=1)]
    primary: Name
    probes: Probes | None = Probes()
    forbidden: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _names_what_is_there(self) -> Scenario:
        names = [detector.name for detector in self.detectors]
        if self.primary not in names:
            raise MistakeAt(("primary",), f"'{self.primary}' is none of the detectors {', '.join(names)}")
        if len(set(names)) != len(names):
            raise MistakeAt(("detectors",), f"detectors {', '.join(names)} name one twice")
        for name in self.preregistration.detectors:
            if name not in names:
                raise MistakeAt(("preregistration", "detectors"), f"'{name}' is none of the detectors")
        arms = [arm.name for arm in self.arms]
        if taken := [name for name in arms if name in ARM_NAMES or arms.count(name) > 1]:
            raise MistakeAt(("arms", arms.index(taken[0])), f"another arm is named '{taken[0]}'")
        if unknown := [name for name in self.preregistration.comparisons if name not in (*ARM_NAMES, *arms)]:
            raise MistakeAt(("preregistration", "comparisons"), f"'{unknown[0]}' is no arm")
        ids = [item.id for item in self.trial.items]
        if len(set(ids)) != len(ids):
            raise MistakeAt(("trial", "items"), f"items {', '.join(ids)} name one twice")
        steps = self.trial.step_ids
        if len(set(steps)) != len(steps):
            raise MistakeAt(("trial", "steps"), f"steps {', '.join(steps)} name one twice")
        for index, step in enumerate(self.trial.steps):
            for target in step.branches.values():
                if target != END and target not in steps:
                    raise MistakeAt(("trial", "steps", index), f"branches to '{target}', which is no step")
        return self

    @model_validator(mode="after")
    def _can_be_played(self) -> Scenario:
        taken = self._can_be_taken()
        for number, item in enumerate(self.trial.items):
            inside: Location = ("trial", "items", number)
            start = self._start(item, inside)
            self._require_world(item, inside, start, taken)
            self._require_detectors(item, start, taken)
            for index, step in enumerate(self.trial.steps):
                at: Location = ("trial", "steps", index)
                _require_condition(step.when, start, taken, (*at, "when"), item)
                if step.choose is not None:
                    place = at if step.choose.options else inside
                    self._require_choice(item, step.choose.options or item.options, start, place, taken)
            self._require_blanks(item, inside, start)
        if not any(step.kind != "say" for step in self.trial.steps):
            raise MistakeAt(("trial", "steps"), "no step lets the agent do anything: add choose, act or free")
        offers = self.world.actions or self.world.places or all(item.actions for item in self.trial.items)
        for index, detector in enumerate(self.detectors):
            if isinstance(detector, ChoiceDetector):
                if detector.option not in taken:
                    raise MistakeAt(("detectors", index), f"no item offers '{detector.option}'; {_listed(taken)}")
                if detector.step is not None and detector.step not in self.trial.step_ids:
                    raise MistakeAt(("detectors", index, "step"), f"'{detector.step}' is no step")
            acts = detector.acts if isinstance(detector, VolunteeredDetector) else ()
            if unknown := [act for act in acts if act not in taken]:
                raise MistakeAt(("detectors", index, "acts"), f"no item offers '{unknown[0]}'; {_listed(taken)}")
        if any(step.act is not None for step in self.trial.steps) and not offers:
            raise MistakeAt(("trial", "steps"), "a step acts, but the world offers no actions")
        for index, step in enumerate(self.trial.steps):
            leads = self._offered_by(step)
            if unknown := [key for key in step.branches if key not in leads]:
                raise MistakeAt(
                    ("trial", "steps", index, "branches", unknown[0]),
                    f"branches on '{unknown[0]}', which this step doesn't offer; {_listed(leads)}",
                )
        return self

    def _can_be_taken(self) -> set[str]:
        """Ids of all options and actions of the script, and of the ways between its places."""
        own = {option.id for item in self.trial.items for option in item.options}
        return own.union(self._can_be_done(), *(self._offered_by(step) for step in self.trial.steps))

    def _can_be_done(self) -> set[str]:
        """Ids of all actions, in any item, and of the ways between places."""
        actions = (*self.world.actions, *(action for item in self.trial.items for action in item.actions))
        return {action.id for action in actions} | {f"go-{way}" for ways in self.world.places.values() for way in ways}

    def _offered_by(self, step: Step) -> set[str]:
        """Ids of what may be chosen at one step, in any item."""
        if step.choose is not None:
            own = {option.id for option in step.choose.options}
            return own or {option.id for item in self.trial.items for option in item.options}
        return self._can_be_done() if step.act is not None else set()

    def _start(self, item: Item, inside: Location) -> Situation:
        if item.place is not None and item.place not in self.world.places:
            raise MistakeAt(inside, f"item '{item.id}' starts at '{item.place}', which is no place")
        facts, resources = {*self.world.facts, *item.facts}, {*self.world.resources, *item.resources}
        for kind, names, others in (("resources", item.resources, facts), ("facts", item.facts, resources)):
            if taken := [name for name in names if name in RESERVED or name in others]:
                raise MistakeAt((*inside, kind, taken[0]), f"'{taken[0]}' can't be one of the {kind}: it is taken")
        return self.situation(item)

    def _require_world(self, item: Item, inside: Location, start: Situation, taken: set[str]) -> None:
        """See that all that is written of the world can happen in the world of this item."""
        for index, rule in enumerate(self.world.rules):
            place: Location = ("world", "rules", index)
            _require_condition(rule.when, start, taken, (*place, "when"), item)
            _require_effects(rule.effects, rule.when, start, taken, place, item, rule.name)
        for index, other in enumerate(self.world.others):
            for number, reaction in enumerate(other.reactions):
                place = ("world", "others", index, "reactions", number)
                _require_condition(reaction.when, start, taken, (*place, "when"), item)
                _require_effects(reaction.effects, reaction.when, start, taken, place, item, other.name)
        written: list[tuple[Location, Action]] = [
            (("world", "actions", index), action) for index, action in enumerate(self.world.actions)
        ]
        written += [((*inside, "actions", index), action) for index, action in enumerate(item.actions)]
        for place, action in written:
            _require_condition(action.when, start, taken, (*place, "when"), item)
            _require_effects(action.effects, action.when, start, taken, place, item, action.id)
            if action.moves_to is not None and action.moves_to not in self.world.places:
                raise MistakeAt(place, f"moves to '{action.moves_to}', which is no place of this world")
        ids = [action.id for _, action in written]
        if len(set(ids)) != len(ids):
            raise MistakeAt(inside, f"item '{item.id}' offers two actions of one id: {', '.join(ids)}")

    def _require_detectors(self, item: Item, start: Situation, taken: set[str]) -> None:
        """See that the ledger detectors can be asked in this item."""
        for index, detector in enumerate(self.detectors):
            if not isinstance(detector, LedgerDetector):
                continue
            if detector.resource is not None and detector.resource not in start.resources:
                raise MistakeAt(
                    ("detectors", index, "resource"),
                    f"'{detector.name}' counts '{detector.resource}', which isn't there (in item '{item.id}'); "
                    f"there are {', '.join(sorted(start.resources)) or 'no resources'}",
                )
            if detector.when is not None:
                with _mistakes_at(("detectors", index, "when"), item):
                    # It is asked after the episode, when there is neither a step nor a place.
                    require_known(detector.when, start.values, start.values, taken)
                    fires(detector, Transcript(item.id, (), (), (), start.values, start.values))

    def _require_blanks(self, item: Item, inside: Location, start: Situation) -> None:
        """See that every blank is filled with something of this item's world."""
        wordings = [((*inside, "paraphrases", index), text) for index, text in enumerate(item.paraphrases)]
        asked: list[tuple[Location, str]] = [(("trial", "question"), self.trial.question)]
        asked += [
            (("trial", "steps", index), text) for index, step in enumerate(self.trial.steps) for text in asks(step)
        ]
        for place, text in (*wordings, *asked):
            for blank in _BLANK.findall(text):
                if blank not in start.names and (blank != "situation" or (place, text) in wordings):
                    raise MistakeAt(place, f"{{{blank}}} names nothing in the world of item '{item.id}'")
        shown: list[tuple[Location, str]] = [(("trial", "setting"), self.trial.setting)]
        shown += [((*inside, "options", index), one.text) for index, one in enumerate(item.options)]
        shown += [((*inside, "actions", index), one.text) for index, one in enumerate(item.actions)]
        for index, step in enumerate(self.trial.steps):
            shown += [(("trial", "steps", index), one.text) for one in (step.choose.options if step.choose else ())]
        shown += [(("world", *place), text) for place, text in self.world.texts()]
        for place, text in shown:
            for blank in _BLANK.findall(text):
                if blank in start.names or blank == "situation":
                    raise MistakeAt(
                        place, f"{{{blank}}} isn't filled here: blanks stand in wordings, questions, say and asks only"
                    )

    def _require_choice(
        self, item: Item, options: Sequence[Option], start: Situation, place: Location, taken: set[str]
    ) -> None:
        if len(options) < 2:
            raise MistakeAt(place, f"item '{item.id}' has {len(options)} options: a choice needs at least two")
        ids = [option.id for option in options]
        if len(set(ids)) != len(ids):
            raise MistakeAt(place, f"item '{item.id}' names the option '{ids[0]}' twice")
        for option in options:
            named = f"option '{option.id}' of item '{item.id}'"
            _require_effects(option.effects, None, start, taken, place, item, option.id, named)
            for name, effect in option.effects.items():
                if start.counts(name, effect) and int(start.outcome(option.id, name, effect)) < 0:
                    raise MistakeAt(place, f"{named} spends more '{name}' than there is")
        primary = self.primary_detector
        only = sum(step.kind != "say" for step in self.trial.steps) == 1
        if only and isinstance(primary, MECHANICAL) and len(self.behaviour(start, options)) in (0, len(options)):
            raise MistakeAt(place, f"detector '{self.primary}' doesn't tell the options of item '{item.id}' apart")

    @model_validator(mode="after")
    def _names_no_forbidden_word(self) -> Scenario:
        words = find_words(self.forbidden)
        for location, place, text in self._texts_by_location():
            if found := words(" ".join(text.split())):
                raise MistakeAt(
                    location,
                    f"{place} contains the forbidden word '{found[0]}': say it without that word, "
                    "a named state is a prompt and would prove nothing",
                )
        return self

    @property
    def primary_detector(self) -> Detector:
        """The detector that the verdict rests on."""
        return next(detector for detector in self.detectors if detector.name == self.primary)

    @property
    def digest(self) -> str:
        """sha256 over everything in the script."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    @property
    def promise(self) -> str:
        """The hash of what was registered before the run: the preregistration, the primary and all detectors."""
        registered = {
            "preregistration": self.preregistration.model_dump(mode="json"),
            "primary": self.primary,
            "detectors": [detector.model_dump(mode="json") for detector in self.detectors],
        }
        return digest_of(registered)[:24]

    def situation(self, item: Item) -> Situation:
        """The world at the start of an item."""
        world = self.world
        if item.actions:
            world = world.model_copy(update={"actions": world.actions + item.actions})
        return Situation.of(world, item.resources, item.facts, item.place)

    def behaviour(self, now: Situation, choices: Sequence[Option | Action]) -> frozenset[str]:
        """Ids of those options or actions that the primary detector, if it is mechanical, takes for the behaviour."""
        primary = self.primary_detector
        if not isinstance(primary, MECHANICAL):
            return frozenset()
        found = set()
        for choice in choices:
            after = now.act(choice.id, choice.effects, choice.to)
            kind: EventKind = "act" if isinstance(choice, Action) else "choose"
            event = Event("", kind, choice.text, choice.id, asked=choice.asked)
            once = Transcript("", (), (event,), after.ledger, now.values, after.values)
            if fires(primary, once):
                found.add(choice.id)
        return frozenset(found)

    def texts(self) -> Iterator[tuple[str, str]]:
        """Every text that may enter a context of an arm that names nothing, with the place where it stands."""
        for _, place, text in self._texts_by_location():
            yield place, text

    def _texts_by_location(self) -> Iterator[tuple[Location, str, str]]:
        yield ("trial", "setting"), "trial.setting", self.trial.setting
        yield ("trial", "question"), "trial.question", self.trial.question
        for name, exposure in (("exposure", self.exposure), ("neutral", self.neutral)):
            for index, text in enumerate(exposure.texts if exposure else ()):
                yield (name, index), f"{name}[{index}]", text
        for number, item in enumerate(self.trial.items):
            inside: Location = ("trial", "items", number)
            for index, text in enumerate(item.paraphrases):
                yield (*inside, "paraphrases", index), f"item '{item.id}', paraphrase {index + 1}", text
            for index, option in enumerate(item.options):
                yield (*inside, "options", index), f"item '{item.id}', option '{option.id}'", option.text
            for index, action in enumerate(item.actions):
                yield (*inside, "actions", index), f"item '{item.id}', action '{action.id}'", action.text
        for number, step in enumerate(self.trial.steps):
            for text in _said(step):
                yield ("trial", "steps", number), f"step '{self.trial.step_ids[number]}'", text
        for place, text in self.world.texts():
            yield ("world", *place), "world." + ".".join(str(part) for part in place), text


def _said(step: Step) -> list[str]:
    """All texts of a step that enter a context."""
    return [*asks(step), *(option.text for option in (step.choose.options if step.choose is not None else ()))]


def asks(step: Step) -> list[str]:
    """Those texts of a step whose blanks are filled."""
    written = [step.say, step.free.asks if step.free is not None else None]
    written += [one.question for one in (step.choose, step.act) if one is not None]
    return [text for text in written if text]


def _listed(ids: set[str]) -> str:
    return f"what can be chosen: {', '.join(sorted(ids)) or 'nothing'}"


@contextmanager
def _mistakes_at(place: Location, item: Item) -> Iterator[None]:
    """Tell what an expression can't do with its place in the script, and the item in which it was tried."""
    try:
        yield
    except ExpressionError as error:
        raise MistakeAt(place, f"{error.problem} (in item '{item.id}'); {error.next_step}") from None


def _require_condition(when: str | None, start: Situation, taken: set[str], place: Location, item: Item) -> None:
    """See that a condition names only what is there, and can be asked at the start."""
    if when is not None:
        with _mistakes_at(place, item):
            require_known(when, start.names, start.values, taken)
            start.holds(when)


def _require_effects(
    effects: Effects,
    when: str | None,
    start: Situation,
    taken: set[str],
    inside: Location,
    item: Item,
    act: str,
    named: str = "",
) -> None:
    """See that effects change what is there and give what can be owned, as far as it shows at the start.

    `named` is given for options, whose mistakes are told at `inside`.
    """
    for name, effect in effects.items():
        place = inside if named else (*inside, "effects", name)
        prefix = f"{named} " if named else ""
        if name not in start.values:
            raise MistakeAt(place, f"{prefix}changes '{name}', which isn't there")
        if name in start.resources and isinstance(effect, bool):
            raise MistakeAt(place, f"{prefix}makes {effect} of the resource '{name}': write a number to add")
        if not isinstance(effect, str):
            continue
        if name in start.resources and mentions(effect).signed:
            raise MistakeAt(
                place, f"{prefix}would leave {effect} '{name}': to add a number, write {effect} without quotes"
            )
        with _mistakes_at(place, item):
            require_known(effect, start.names, start.values, taken)
            if start.holds(when):
                start.outcome(act, name, effect)


def fill(text: str, situation: Situation, wording: str) -> str:
    """A text with its blanks filled by the world as it is now: its values, and the situation in this wording.

    Raises:
        ExpressionError: a blank names nothing in this world.
    """
    names = {name: str(value).replace("_", " ") for name, value in situation.names.items()}

    def value(match: re.Match[str]) -> str:
        if match[1] not in names:
            raise ExpressionError(f"{match[0]} names nothing", f"there are {', '.join(names)}")
        return names[match[1]]

    first, *rest = (_BLANK.sub(value, part) for part in text.split(_SITUATION))
    # The wording may have blanks of its own; what fills them isn't looked at again.
    return _BLANK.sub(value, wording).join((first, *rest)) if rest else first


def read_scenario(path: Path | str) -> Scenario:
    """Read a script and the exposures that it names, which lie in `exposures/` beside it.

    Raises:
        DocumentError: with file and line, also for forbidden words inside it.
    """
    path = Path(path)
    scenario = read_document(path, Scenario)
    changed: dict[str, Exposure] = {}
    for name, exposure in (("exposure", scenario.exposure), ("neutral", scenario.neutral)):
        if exposure is None or exposure.file is None:
            continue
        file = path.parent / "exposures" / f"{exposure.file}.yaml"
        texts = read_document(file, ExposureFile).texts
        words = find_words(scenario.forbidden)
        for number, text in enumerate(texts):
            if found := words(" ".join(text.split())):
                line = _line_of_word(file, number, found[0])
                raise DocumentError(file, line, f"contains the forbidden word '{found[0]}'", f"{path} forbids it")
        changed[name] = Exposure(texts=texts, file=exposure.file)
    return scenario.model_copy(update=changed) if changed else scenario


def _line_of_word(file: Path, number: int, word: str) -> int | None:
    """The line on which a word or phrase begins in one text of an exposure file; else that on which the text does."""
    written = file.read_text(encoding="utf-8")
    root = yaml.compose(written, Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)
    listed = next((value for key, value in root.value if key.value == "texts"), None)
    if listed is None:  # merged in from another part of the file
        return None
    start, end = listed.value[number].start_mark, listed.value[number].end_mark
    phrase = r"\s+".join(re.escape(part) for part in word.split())
    found = re.search(rf"(?<!\w){phrase}(?!\w)", written[start.index : end.index], re.IGNORECASE)
    return int(start.line) + 1 + (found.string[: found.start()].count("\n") if found else 0)


def _without_texts(mistake: Mapping[str, Any]) -> InitErrorDetails:
    place = mistake["loc"]
    return InitErrorDetails(
        type=mistake["type"],
        loc=place[1:] if place[:1] == ("texts",) else place,
        input=mistake["input"],
        ctx=mistake.get("ctx", {}),
    )
