"""Matching: the levels of a subject made ready, those that have a strength scaled to one volatility."""

from __future__ import annotations

from overlay.errors import ScenarioError
from overlay.inner import MeasuredMixes, Mind, State
from overlay.levels.level import CLEARED, LIVED, RANDOM, Level
from overlay.levels.subject import Subject
from overlay.model import AdapterUse, Intervention, Message, Sampling, Treatment, Volatility
from overlay.progress import Progress
from overlay.scenarios import drawn, match

TOPIC_TOKENS = 80
"""How long the text on the topic may become."""

LEAST_COST = 1e-3
"""Nats per token; what costs less does nothing that could be scaled up or down."""

READ = "Read this.\n\n{texts}"
HAS_READ = "I have read it."
"""The turn by which an exposure stands in a context."""


def make_levels(
    subject: Subject, mind: Mind, state: State, directions: int, matched: MeasuredMixes, progress: Progress
) -> list[Level]:
    """All levels with their controls, in the order of asking.

    Adapter, state and random directions are scaled down to the volatility of whichever of adapter (as trained) and
    state (as it built up) costs less: nothing is scaled beyond what it was made or found coherent at. The adapter must
    be resident.

    Raises:
        ScenarioError: the exposure left no state, or the adapter does nothing.
    """
    progress.step("measuring what adapter and state cost", None, None)
    acting = mind.influence.of(state)
    worn = Intervention(adapters=(AdapterUse(subject.adapter),))
    costs = {"the state after the exposure": acting.volatility, subject.adapter: mind.influence.gauge.measure(worn)}
    for name, cost in costs.items():
        if cost.mean < LEAST_COST:
            raise ScenarioError(
                f"{name} changes nothing: {cost.mean:.4f} nats per token on neutral text",
                "give an exposure that moves the axis, or train the adapter for longer",
            )
    target = min(costs.values(), key=lambda cost: cost.mean)
    adapter_scale, adapter_cost = _scaled(worn, costs[subject.adapter], target, mind, matched)
    state_scale, state_cost = _scaled(acting.intervention, acting.volatility, target, mind, matched)
    steered = acting.intervention * state_scale
    exposure = "\n\n".join(subject.exposure.texts)
    read = (Message("user", READ.format(texts=exposure)), Message("assistant", HAS_READ)) if exposure else ()
    kept = frozenset(("texts", "choices"))
    levels = [
        Level("base", is_probed=True),
        Level("topic", history=_written(subject, mind), is_probed=True),
        Level(CLEARED["topic"], measures=kept),
        Level("instruction", instruction=subject.instruction, is_probed=True),
        Level(CLEARED["instruction"], measures=kept),
        Level("adapter", worn * adapter_scale, scale=adapter_scale, cost=adapter_cost, is_probed=True),
        Level("state", steered, scale=state_scale, cost=state_cost, is_probed=True),
        Level("sham", steered * 0.0, measures=frozenset(("texts", "likelihoods"))),
    ]
    if read:
        levels.append(Level(LIVED, steered, history=read, cost=state_cost, measures=kept))
    for number in range(directions):
        progress.step("matching random directions", number, directions)
        direction = drawn(acting.intervention, number)
        scale, cost = match(direction, target, mind, matched)
        levels.append(Level(f"{RANDOM}{number + 1}", direction * scale, scale=scale, cost=cost, is_probed=True))
    return levels


def _scaled(
    intervention: Intervention, cost: Volatility, target: Volatility, mind: Mind, matched: MeasuredMixes
) -> tuple[float, Volatility]:
    """By how much an intervention is scaled down to cost as much as the target, and what it costs then."""
    return (1.0, cost) if cost == target else match(intervention, target, mind, matched)


def _written(subject: Subject, mind: Mind) -> tuple[Message, ...]:
    """The topic asked for, and the text that the unchanged model wrote on it."""
    mind.model.prefixes.clear()
    asker = Treatment("topic", before=(Message("system", mind.system),))
    row = asker.row(subject.topic, chat=True, sampling=Sampling(max_tokens=TOPIC_TOKENS))
    (written,) = mind.model.generate([row])
    return (Message("user", subject.topic), Message("assistant", written.text))
