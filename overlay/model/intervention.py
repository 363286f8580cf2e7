"""Interventions as values: everything that skews one generation, comparable, hashable and storable."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, get_args

from overlay.errors import InterventionError, RecordDamaged
from overlay.model.ban import Ban
from overlay.model.direction import Direction
from overlay.model.focus import Focus
from overlay.model.span import Positions, Span, When, require_stretch
from overlay.records import digest_of

Operator = Literal["add", "project out", "clamp"]
"""What a dose does to the residual stream h along the unit vector v of a block with median norm n.

add: h + coefficient·n·v. clamp: h + coefficient·(target·n - h·v)·v, so that a coefficient of 1 sets the
component along v to the target. project out: a clamp to 0.
"""

FORMAT = "overlay-intervention-1"


@dataclass(frozen=True)
class Dose:
    """A coefficient on a direction: a fraction of each block's median residual norm, or how firmly it is clamped.

    Attributes:
        target: where `clamp` holds the component, as a fraction of the block's median residual norm.
    """

    direction: Direction
    coefficient: float
    blocks: tuple[int, ...]
    span: Span = "all"
    operator: Operator = "add"
    target: float = 0.0

    def __post_init__(self) -> None:
        name = self.direction.name
        if not (math.isfinite(self.coefficient) and math.isfinite(self.target)):
            raise InterventionError(
                f"the dose of '{name}' is {self.coefficient} (target {self.target})", "give a finite number"
            )
        if self.operator not in get_args(Operator):
            raise InterventionError(f"'{self.operator}' is not an operator", f"use {', '.join(get_args(Operator))}")
        if self.operator != "add" and not 0 <= self.coefficient <= 1:
            raise InterventionError(
                f"'{name}' is to be held by {self.coefficient}", "give a share from 0 (not at all) to 1 (wholly)"
            )
        if self.operator != "clamp" and self.target:
            raise InterventionError(f"a target means nothing to '{self.operator}'", "use the operator 'clamp'")
        if not isinstance(self.span, Positions | When):
            require_stretch(self.span)
        layers = len(self.direction.norms)
        if not self.blocks or not all(0 <= block < layers for block in self.blocks):
            raise InterventionError(
                f"blocks {self.blocks} of direction '{name}'", f"give blocks from 0 to {layers - 1}"
            )


@dataclass(frozen=True)
class AdapterUse:
    """An attached adapter and how strongly it acts (1 is as trained)."""

    name: str
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.scale):
            raise InterventionError(f"the scale of adapter '{self.name}' is {self.scale}", "give a finite number")


@dataclass(frozen=True)
class LogitBias:
    """Nats added to the logit of a token; of a sequence, to its last token wherever the ones before it were written.

    Attributes:
        target: token ids, or a text, which is taken as the tokens it has when it stands alone (mind the leading space).
    """

    target: str | tuple[int, ...]
    nats: float

    def __post_init__(self) -> None:
        if not self.target:
            raise InterventionError("a logit bias on nothing", "give a text or token ids")
        if not isinstance(self.target, str) and min(self.target) < 0:
            raise InterventionError(f"token ids {self.target}", "token ids count from 0")
        if not math.isfinite(self.nats):
            raise InterventionError(f"a logit bias of {self.nats}", "give a finite number; to forbid, use a Ban")


@dataclass(frozen=True)
class Intervention:
    """All that skews one row. `a + b` joins, `a * 0.5` scales everything that has a strength; bans have none."""

    doses: tuple[Dose, ...] = ()
    adapters: tuple[AdapterUse, ...] = ()
    biases: tuple[LogitBias, ...] = ()
    bans: tuple[Ban, ...] = ()
    focus: tuple[Focus, ...] = ()

    def __post_init__(self) -> None:
        names = [use.name for use in self.adapters]
        if len(set(names)) != len(names):
            raise InterventionError(f"adapters {names} name one twice", "name each adapter once, with one scale")

    def __add__(self, other: Intervention) -> Intervention:
        return Intervention(
            self.doses + other.doses,
            self.adapters + other.adapters,
            self.biases + other.biases,
            self.bans + tuple(ban for ban in other.bans if ban not in self.bans),
            self.focus + other.focus,
        )

    def __mul__(self, factor: float) -> Intervention:
        return Intervention(
            tuple(replace(dose, coefficient=dose.coefficient * factor) for dose in self.doses),
            tuple(replace(use, scale=use.scale * factor) for use in self.adapters),
            tuple(replace(bias, nats=bias.nats * factor) for bias in self.biases),
            self.bans,
            tuple(replace(focus, weight=focus.weight * factor) for focus in self.focus),
        )

    __rmul__ = __mul__

    @cached_property
    def digest(self) -> str:
        """sha256 of what it does: equal digests act equally on equal tokens."""
        return digest_of(self._described)

    @property
    def _described(self) -> dict[str, Any]:
        return {
            "doses": [
                {
                    "direction": dose.direction.digest,
                    "coefficient": _plain(dose.coefficient),
                    "blocks": [int(block) for block in dose.blocks],
                    "span": _span_record(dose.span),
                    "operator": dose.operator,
                    "target": _plain(dose.target),
                }
                for dose in self.doses
            ],
            "adapters": [{"name": use.name, "scale": _plain(use.scale)} for use in self.adapters],
            "biases": [{"target": _places(bias.target), "nats": _plain(bias.nats)} for bias in self.biases],
            "bans": [ban.text for ban in self.bans],
            "focus": [
                {
                    "keys": focus.keys if isinstance(focus.keys, str) else {"positions": _places(focus.keys.indices)},
                    "weight": _plain(focus.weight),
                    "blocks": _places(focus.blocks),
                    "heads": _places(focus.heads),
                    "span": focus.span,
                }
                for focus in self.focus
            ],
        }

    def to_bytes(self) -> bytes:
        """The whole intervention, its directions included, as one safetensors document."""
        from safetensors.numpy import save

        tensors, names = {}, {}
        for dose in self.doses:
            digest = dose.direction.digest
            names[digest] = dose.direction.name
            tensors[f"{digest}.vectors"] = dose.direction.vectors
            tensors[f"{digest}.norms"] = dose.direction.norms
        content = json.dumps({**self._described, "names": names})
        metadata = {"format": FORMAT, "intervention": content, "sha256": self.digest}
        return bytes(save(tensors, metadata=metadata))

    @classmethod
    def from_bytes(cls, data: bytes) -> Intervention:
        """Read what `to_bytes` wrote. Raises RecordDamaged."""
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            length = int.from_bytes(data[:8], "little")
            metadata = json.loads(data[8 : 8 + length]).get("__metadata__", {})
            if metadata.get("format") != FORMAT:
                raise ValueError(f"its format is {metadata.get('format', 'unknown')}, not {FORMAT}")
            content = json.loads(metadata["intervention"])
            tensors = load(data)
            directions = {
                digest: Direction(name, tensors[f"{digest}.vectors"], tensors[f"{digest}.norms"])
                for digest, name in content["names"].items()
            }
            found = cls._from_record(content, directions)
            if found.digest != metadata["sha256"]:
                raise ValueError("its sha256 differs from what was stored")
            return found
        except (
            SafetensorError,
            ArithmeticError,
            AttributeError,
            LookupError,
            RecursionError,
            TypeError,
            ValueError,
        ) as error:
            raise RecordDamaged(f"this isn't a stored intervention ({error})", "store it anew") from error

    @classmethod
    def _from_record(cls, content: Mapping[str, Any], directions: Mapping[str, Direction]) -> Intervention:
        return cls(
            tuple(
                Dose(
                    directions[dose["direction"]],
                    dose["coefficient"],
                    tuple(dose["blocks"]),
                    _read_span(dose["span"]),
                    dose["operator"],
                    dose["target"],
                )
                for dose in content["doses"]
            ),
            tuple(AdapterUse(**use) for use in content["adapters"]),
            tuple(LogitBias(_tuple_or_text(bias["target"]), bias["nats"]) for bias in content["biases"]),
            tuple(Ban(text) for text in content["bans"]),
            tuple(
                Focus(
                    focus["keys"] if isinstance(focus["keys"], str) else Positions(tuple(focus["keys"]["positions"])),
                    focus["weight"],
                    _tuple_or_none(focus["blocks"]),
                    _tuple_or_none(focus["heads"]),
                    focus["span"],
                )
                for focus in content["focus"]
            ),
        )


def _plain(number: float) -> float:
    """Equal numbers are written alike: 1 as 1.0, -0.0 as 0.0, a NumPy number as Python's."""
    return float(number) + 0.0


def _places(value: str | tuple[int, ...] | None) -> Any:
    return value if value is None or isinstance(value, str) else [int(place) for place in value]


def _span_record(span: Span) -> Any:
    if isinstance(span, Positions):
        return {"positions": _places(span.indices)}
    if isinstance(span, When):
        # JSON has no infinity: an open bound is None.
        bounds = [_plain(bound) if math.isfinite(bound) else None for bound in (span.above, span.below)]
        return {"when": bounds, "within": span.within}
    return span


def _read_span(record: Any) -> Span:
    if isinstance(record, str):
        return record  # type: ignore[return-value]  # Dose checks it
    if "positions" in record:
        return Positions(tuple(record["positions"]))
    above, below = record["when"]
    return When(-math.inf if above is None else above, math.inf if below is None else below, record["within"])


def _tuple_or_text(value: Any) -> Any:
    return value if isinstance(value, str) else tuple(value)


def _tuple_or_none(value: Any) -> tuple[int, ...] | None:
    return None if value is None else tuple(value)


NOTHING = Intervention()
