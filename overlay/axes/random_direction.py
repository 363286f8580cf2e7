"""Random directions: the control of an axis, with its own structure from block to block."""

from __future__ import annotations

import numpy as np

from overlay.model import Direction


def random_direction(like: Direction, blocks: tuple[int, ...], seed: int) -> Direction:
    """A random direction that agrees with itself from block to block exactly as `like` does.

    Independent draws per block would cancel out along the residual stream, and be too weak a
    control: the cosines between the blocks of the drawn direction are those of `like`.
    """
    chosen = list(blocks)
    vectors = like.vectors[chosen].astype(np.float64)
    values, turns = np.linalg.eigh(vectors @ vectors.T)
    root = turns * np.sqrt(values.clip(min=0))
    drawn = np.random.default_rng([seed, len(chosen)]).standard_normal((like.vectors.shape[1], len(chosen)))
    basis, _ = np.linalg.qr(drawn)
    mixed = root @ basis.T
    placed = np.zeros_like(like.vectors)
    placed[chosen] = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
    return Direction(f"random-{seed}", placed, like.norms)
