"""Embedders: texts to unit vectors."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from overlay.errors import ModelUnavailable

_BATCH = 32  # texts a forward pass; more gains nothing on a CPU


class Embedder(Protocol):
    """Gives vectors for texts; `name`, `digest` and `dimension` say which vectors they are."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    @property
    def digest(self) -> str:
        """A hash of what computes the vectors: equal digests give equal vectors."""
        ...

    @property
    def dimension(self) -> int:
        """The width of its vectors."""
        ...

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of unit length, shape (texts, dimension)."""
        ...


class SentenceEmbedder:
    """A sentence-transformers model in a local folder; no network is ever used.

    The weights are loaded at the first `embed`, so that opening a memory stays quick.

    Raises:
        ModelUnavailable: the folder doesn't hold such a model.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = Path(folder)
        self._weights = self._folder / "model.safetensors"
        if not self._weights.is_file():
            raise ModelUnavailable(
                f"no embedder in {self._folder}: model.safetensors is missing",
                "fetch the embedder again, or name another folder",
            )
        self.name = name
        self.dimension = self._read_dimension()

    @functools.cached_property
    def digest(self) -> str:
        """The SHA-256 of the weights, in hexadecimal digits."""
        with open(self._weights, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of unit length, shape (texts, dimension)."""
        if not texts:
            return np.zeros((0, self.dimension), dtype=np.float32)
        vectors = self._model.encode(
            list(texts),
            batch_size=_BATCH,
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        return np.asarray(vectors, dtype=np.float32)

    @functools.cached_property
    def _model(self) -> Any:
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging

        # The loader draws a bar on the terminal, which would tear a full-screen face apart.
        had_bar = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            return SentenceTransformer(str(self._folder), device="cpu", local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise ModelUnavailable(
                f"the embedder in {self._folder} can't be loaded: {error}", "fetch the embedder again"
            ) from error
        finally:
            if had_bar:
                logging.enable_progress_bar()

    def _read_dimension(self) -> int:
        """The width of the last module that states one; read from the configuration, without the weights."""
        try:
            modules = json.loads((self._folder / "modules.json").read_text(encoding="utf-8"))
            for module in reversed(modules):
                path = self._folder / module["path"] / "config.json"
                if not path.is_file():
                    continue
                config = json.loads(path.read_text(encoding="utf-8"))
                for key in ("out_features", "embedding_dimension", "word_embedding_dimension", "hidden_size"):
                    if key in config:
                        return int(config[key])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelUnavailable(
                f"the embedder in {self._folder} has no readable configuration: {error}", "fetch the embedder again"
            ) from error
        raise ModelUnavailable(f"the embedder in {self._folder} states no dimension", "fetch the embedder again")
