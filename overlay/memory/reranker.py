"""The reranker: a cross-encoder that reads question and note together; slower than vectors, and more exact."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from typing import Any

from overlay.errors import ModelUnavailable

# Notes that are read once more: a cross-encoder takes some 10 ms for each.
RERANKED = 30


class Reranker:
    """A sentence-transformers cross-encoder, in a local folder or the local hub cache; loaded at its first use.

    Raises (at its first use):
        ModelUnavailable: there is no such model on this machine.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._guard = threading.Lock()

    def shares(self, query: str, texts: Sequence[str]) -> list[float]:
        """How well each text answers the query, in [0, 1]."""
        if not texts:
            return []
        import torch

        with self._guard:
            values = self._model.predict(
                [(query, text) for text in texts], activation_fn=torch.nn.Sigmoid(), show_progress_bar=False
            )
        return [float(value) for value in values]

    @functools.cached_property
    def _model(self) -> Any:
        from sentence_transformers import CrossEncoder

        try:
            model = CrossEncoder(self.name, device="cpu", local_files_only=True, num_labels=1)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise ModelUnavailable(
                f"the reranker '{self.name}' can't be loaded: {str(error).splitlines()[0]}",
                "name the folder of a cross-encoder, fetch it once, or take `reranker` out of agent.yaml",
            ) from error
        return model
