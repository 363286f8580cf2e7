"""Imported axes: from somebody else's control vector to an axis of this model, without evidence."""

from __future__ import annotations

import numpy as np

from overlay.axes.axis import Axis, Evidence
from overlay.axes.build import neutral_reading, reading_blocks
from overlay.axes.calibration import calibrate
from overlay.axes.control_vector import ControlVector
from overlay.axes.pooling import check_pool
from overlay.errors import WrongBaseModel
from overlay.model import Direction, LanguageModel, Pool, VolatilityGauge, neutral_texts
from overlay.progress import Progress

IMPORTED = "imported"
"""The method of an axis that came as numbers."""


def build_imported_axis(
    name: str,
    vector: ControlVector,
    model: LanguageModel,
    gauge: VolatilityGauge,
    *,
    pool: Pool = "ramp",
    budget: float = 0.15,
    progress: Progress | None = None,
) -> Axis:
    """Make an axis of a control vector: its directions, this model's residual norms, a dose for `budget`.

    It acts at every block that the vector names, and is read at those among them where axes are read
    (or at all of them). The vector's lengths are dropped: a dose is the same fraction of the residual
    norm at each block. It has no texts and no evidence, so it is unproven.

    Raises:
        WrongBaseModel: the vector is of another width, or names a block that the model doesn't have.
        ArgumentError: unknown pool, or the budget can't be spent.
    """
    check_pool(pool)
    if vector.width != model.width:
        raise WrongBaseModel(
            f"the control vector is of width {vector.width}, {model.name} of width {model.width}",
            "import a vector that was made for this model",
        )
    if max(vector.vectors) >= model.layers:
        raise WrongBaseModel(
            f"the control vector has a direction for block {max(vector.vectors)}, {model.name} has blocks 0 to "
            f"{model.layers - 1}",
            "import a vector that was made for this model",
        )
    vectors = np.zeros((model.layers, model.width), np.float32)
    for block, values in vector.vectors.items():
        # The largest value is taken out first: squares of tiny or huge numbers don't fit into a float.
        scaled = values / np.abs(values).max()
        vectors[block] = scaled / np.linalg.norm(scaled)
    direction = Direction(name, vectors, model.residual_norms(neutral_texts()))
    blocks = tuple(sorted(vector.vectors))
    reading = tuple(block for block in reading_blocks(model.layers) if block in vector.vectors) or blocks
    mean, deviation = neutral_reading(direction, reading, pool, model)
    return Axis(
        name=name,
        method=IMPORTED,
        direction=direction,
        writing=direction,
        blocks=blocks,
        reading_blocks=reading,
        neutral_mean=mean,
        neutral_deviation=deviation,
        model_name=model.name,
        model_digest=model.digest,
        data_digest=vector.digest,
        lexicon=(),
        evidence=Evidence(),
        calibration=calibrate(direction, blocks, gauge, budget, progress),
        pool=pool,
    )
