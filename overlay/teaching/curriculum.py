"""The curriculum: examples and probes as nodes of a graph, and edges that say when to go where.

One YAML file, or one JSON object a line (.jsonl):

    name: causes_and_rules          # the file's own name, and that of the adapter which comes out
    about: the customs of an invented village, and what follows from them
    source: own texts               # or title and licence
    start: lamp_red                 # where the walk begins
    banks: [causality]              # whose probes are meant by `probe: ID`; of two alike, BANK/ID
    watch: [causality]              # banks (or ids) that are measured at each check beside the nodes' own probes
    teaching: {feedings: 2}         # settings, all of them with defaults: see `TeachingSettings`
    replay:                         # ordinary texts on which the model stays what it was, at least four
      - "The ferry leaves at nine and comes back in the afternoon."
    nodes:
      - id: lamp_red
        kind: example               # the model reads the prompt and learns to go on with the target
        prompt: "In Tellow a red lamp in the window means that"
        target: " visitors are welcome."
        variants: ["In the village of Tellow a red lamp means that"]   # other prompts before the same target
      - id: check_red
        kind: probe                 # `probe: ID` of a bank, or a probe of its own with its level and layer
        level: definition
        layer: lexical
        prompt: "Tellow lights red lamps in order to say:"
        good: " come in, guests."
        bad: " keep out, guests."
        expect: {contains: [guest|visitor]}   # optional: what the model writes itself must look like, to pass
    edges:                          # a node is left by the first of its edges, in this order, whose predicate holds
      - {from: lamp_red, to: check_red, when: always}
      - {from: check_red, to: lamp_red, when: failed}
      - {from: check_red, to: lamp_white, when: {margin_above: 0.2}, label: it is sure of it}
    held_out:                       # probes that no step of the walk sees; the verdict is about them, so give twelve
      - {probe: rain_street}
      - {level: generalisation, layer: logical, prompt: "...", good: " ...", bad: " ..."}

Predicates: `always`; `passed` and `failed` (a probe: whether its margin is above its node's `least`, 0 if not given;
an example: whether it could be learned within the budgets); `margin_above: nats per token`, of a probe alone;
`volatility_above: nats per token` on the replay texts. The walk ends where no predicate holds, and at nodes without
edges. Of edges with the same predicate the one comes first that helps more, where that was measured. In JSON lines
the first line holds everything that isn't a node or an edge, and each other line is one node or one edge.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator

from overlay.adapters import Example, SafeZone, Where
from overlay.documents import Document, MistakeAt
from overlay.errors import ArgumentError
from overlay.probes import Expectation, Layer, Level, Probe
from overlay.records import digest_of

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Text = Annotated[str, Field(min_length=1)]


class TeachingSettings(Document):
    """How a curriculum is fed and when the walk steps back.

    Attributes:
        where, rank, alpha: which part of the model learns, and the width and scale of its LoRA matrices.
        learning_rate: of AdamW; anchor: weight of KL(base ‖ tuned) on the replay texts.
        safe_zone: which tokens of the targets may be learned from, as in a recipe; "none" for all of them.
        exempt: what is learned however surprising it is: the examples' "spans", or the "targets" as a whole.
        feedings: optimizer steps of one visit to an example.
        rehearse: earlier examples that come along in each of these steps, so that they aren't forgotten.
        check_every: examples between two checks of all cells; after a step back each one is checked by itself.
        budget: KL on the replay texts, nats per token, beyond which the walk steps back.
        sag: nats per token that the mean margin of a cell may fall below the last good state's, and below the base's;
            and a probe that was passed, where it would fail now.
        least_in_cell: a cell of fewer probes is too small to be watched.
        variants: other forms of an example that are tried when it can't be learned as it is written.
        smaller: by what the learning rate is multiplied when even they can't, once and once more.
        visits: how often the walk may come to the same node.
        steps: optimizer steps of the walk, at the most.
        seed: of the first weights, of what is rehearsed, and of the twin's shuffling.
    """

    where: Where = Where()
    rank: Annotated[int, Field(ge=1, le=256)] = 8
    alpha: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 16.0
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 5e-4
    anchor: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    safe_zone: SafeZone | None = SafeZone()
    exempt: Literal["spans", "targets"] = "targets"
    feedings: Annotated[int, Field(ge=1, le=100)] = 2
    rehearse: Annotated[int, Field(ge=0, le=64)] = 3
    check_every: Annotated[int, Field(ge=1, le=1000)] = 4
    budget: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.15
    sag: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.1
    least_in_cell: Annotated[int, Field(ge=2, le=1000)] = 4
    variants: Annotated[int, Field(ge=0, le=8)] = 2
    smaller: Annotated[float, Field(gt=0, lt=1)] = 0.5
    visits: Annotated[int, Field(ge=1, le=100)] = 3
    steps: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0

    @field_validator("safe_zone", mode="before")
    @classmethod
    def _is_a_zone(cls, zone: object) -> object:
        return None if zone == "none" else zone


class ExampleNode(Document):
    """What is learned: after `prompt` (which may be empty), `target`; after its `variants`, the same.

    Attributes:
        spans: the characters of the target that carry what is to be learned, as in a recipe.
    """

    id: Name
    kind: Literal["example"]
    prompt: str = ""
    target: Text
    spans: tuple[tuple[int, int], ...] = ()
    variants: tuple[Text, ...] = ()
    topic: tuple[Text, ...] = ()

    @field_validator("spans")
    @classmethod
    def _lie_in_the_target(cls, spans: tuple[tuple[int, int], ...], info: ValidationInfo) -> tuple[Any, ...]:
        # An example checks them, and says what is wrong.
        return Example(target=info.data.get("target", " "), spans=spans).spans if "target" in info.data else spans

    @field_validator("variants")
    @classmethod
    def _differ(cls, variants: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if len({*variants, info.data.get("prompt", "")}) <= len(variants):
            raise ValueError("a variant says the same as the prompt or as another one")
        return variants

    def example(self) -> Example:
        """The example as it is written."""
        return Example(prompt=self.prompt, target=self.target, spans=self.spans)


class Asked(Document):
    """A probe of a curriculum: one of a bank, by its id, or one of its own, written as in a bank but for the id."""

    probe: Annotated[str, Field(pattern=r"^([a-z][a-z0-9_]*/)?[a-z][a-z0-9_]*$")] | None = None
    level: Level | None = None
    layer: Layer | None = None
    language: str = "en"
    topic: tuple[Text, ...] = ()
    prompt: Text | None = None
    good: Text | None = None
    bad: Text | None = None

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        own = {name: getattr(self, name) for name in ("level", "layer", "prompt", "good", "bad")}
        written = [name for name, value in own.items() if value is not None]
        missing = [name for name, value in own.items() if value is None]
        if self.probe is not None and written:
            raise MistakeAt((written[0],), "a probe of a bank has all of this already: leave this out, or `probe`")
        if self.probe is None and missing:
            raise ValueError(f"a probe of its own needs {', '.join(missing)}; one of a bank is named by `probe: ID`")
        if self.probe is None:
            self.own("probe")
        return self

    def own(self, name: str) -> Probe:
        """The probe that is written here, under this id. Raises ValueError where it is none."""
        content = {key: getattr(self, key) for key in ("level", "layer", "language", "topic", "prompt", "good", "bad")}
        try:
            return Probe(id=name, **content)
        except ValidationError as error:
            mistake = error.errors(include_url=False)[0]
            cause = mistake.get("ctx", {}).get("error")
            place = (*mistake["loc"], *(cause.place if isinstance(cause, MistakeAt) else ()))
            raise MistakeAt(place, str(mistake["msg"]).removeprefix("Value error, ")) from None


class ProbeNode(Asked):
    """Where the walk asks. It passes where log p(good) - log p(bad), nats per token, is above `least`.

    Attributes:
        expect: what the model's own words after the prompt must look like as well, if it is to pass.
    """

    id: Name
    kind: Literal["probe"]
    least: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    expect: Expectation | None = None

    @field_validator("expect")
    @classmethod
    def _needs_no_embedder(cls, expect: Expectation | None) -> Expectation | None:
        if expect is not None and expect.like:
            raise MistakeAt(("like",), "a walk asks for words alone: write contains or lacks")
        return expect


class MarginAbove(Document):
    """Holds after a probe whose margin is above this, nats per token."""

    margin_above: Annotated[float, Field(allow_inf_nan=False)]


class VolatilityAbove(Document):
    """Holds where the KL on the replay texts is above this, nats per token."""

    volatility_above: Annotated[float, Field(ge=0, allow_inf_nan=False)]


Predicate = Literal["always", "passed", "failed"] | MarginAbove | VolatilityAbove


class Edge(Document):
    """A way from one node to another, taken when its predicate holds; `label` says in words what for."""

    source: Name = Field(alias="from")
    to: Name
    when: Predicate = "always"
    label: str = ""

    @field_validator("when", mode="before")
    @classmethod
    def _is_a_predicate(cls, when: object) -> object:
        known = ("margin_above", "volatility_above")
        if isinstance(when, dict) and len(when) == 1 and next(iter(when)) in known:
            return (MarginAbove if "margin_above" in when else VolatilityAbove).model_validate(when)
        if when in ("always", "passed", "failed") or isinstance(when, MarginAbove | VolatilityAbove):
            return when
        raise ValueError(
            f"write always, passed, failed, {{margin_above: NATS}} or {{volatility_above: NATS}}, not {when!r}"
        )


Node = Annotated[ExampleNode | ProbeNode, Field(discriminator="kind")]


class Header(Document):
    """A curriculum without its nodes and edges."""

    name: Name
    about: Text
    source: str = ""
    start: Name
    banks: tuple[Name, ...] = ()
    watch: tuple[Text, ...] = ()
    teaching: TeachingSettings = TeachingSettings()
    replay: tuple[Text, ...]
    held_out: tuple[Asked, ...] = ()

    @field_validator("replay")
    @classmethod
    def _are_enough(cls, replay: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(replay)) < LEAST_REPLAY:
            raise ValueError(f"{len(set(replay))} different texts: give at least {LEAST_REPLAY} ordinary ones")
        return replay


LEAST_REPLAY = 4
"""Texts: with fewer the anchor holds the model at these alone."""


class Curriculum(Header):
    """The whole of it, in the order in which it was written. `graph.mistakes` says whether it can be walked."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...] = ()

    def __getitem__(self, name: str) -> ExampleNode | ProbeNode:
        """The node of this id. Raises KeyError."""
        for node in self.nodes:
            if node.id == name:
                return node
        raise KeyError(name)

    def with_settings(self, changes: Mapping[str, Any]) -> Self:
        """The same with other settings under `teaching`. Raises ArgumentError where one can't be."""
        try:
            teaching = TeachingSettings.model_validate(self.teaching.model_dump() | dict(changes))
        except ValidationError as error:
            mistake = error.errors(include_url=False)[0]
            raise ArgumentError(f"{mistake['loc'][-1]}: {mistake['msg']}", "give another value") from None
        return self.model_copy(update={"teaching": teaching})

    @property
    def digest(self) -> str:
        """sha256 over all that the walk and its verdict depend on: all but what is only said about it."""
        content = self.model_dump(mode="json", by_alias=True, exclude={"about", "source"})
        return digest_of(content)

    @property
    def examples(self) -> tuple[ExampleNode, ...]:
        """The nodes that teach."""
        return tuple(node for node in self.nodes if isinstance(node, ExampleNode))

    @property
    def probes(self) -> tuple[ProbeNode, ...]:
        """The nodes that ask."""
        return tuple(node for node in self.nodes if isinstance(node, ProbeNode))
