"""Embedders: texts to unit vectors."""

from __future__ import annotations

import functools
import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from overlay.errors import ModelUnavailable
from overlay.model import resolve_embedder
from overlay.progress import Progress

_BATCH = 32  # texts a forward pass; more gains nothing on a CPU
_REMEMBERED = 4096  # vectors of single texts; six megabytes of a usual embedder


Role = Literal["document", "query"]


class Remembered:
    """What was computed last, by what it rests on; the oldest goes first. Usable from several threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._vectors: OrderedDict[tuple[str, Role, str], NDArray[np.float32]] = OrderedDict()
        self._guard = threading.Lock()

    def get(self, key: tuple[str, Role, str], compute: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32]:
        with self._guard:
            if key in self._vectors:
                self._vectors.move_to_end(key)
                return self._vectors[key].copy()
        vectors = compute()
        with self._guard:
            self._vectors[key] = vectors.copy()
            self._vectors.move_to_end(key)
            while len(self._vectors) > self._most:
                self._vectors.popitem(last=False)
        return vectors


_SINGLES = Remembered(_REMEMBERED)
"""Of all embedders of this process: equal digests give equal vectors."""


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
        """Vectors of unit length of what is to be found, shape (texts, dimension)."""
        ...

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """The vector of unit length of what is asked, shape (dimension,)."""
        ...


class SentenceEmbedder:
    """A sentence-transformers model in a local folder; no network is ever used.

    Some models want to be told whether a text is asked or is to be found ("query: ", "passage: "):
    they carry these prompts, and get them here. The weights are loaded at the first text, so that
    opening a memory stays quick. Usable from several threads.

    Raises:
        ModelUnavailable: the folder doesn't hold such a model.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = Path(folder)
        self._weights = sorted(self._folder.rglob("*.safetensors")) if self._folder.is_dir() else []
        if not self._weights:
            raise ModelUnavailable(
                f"no embedder in {self._folder}: model.safetensors is missing",
                "fetch the embedder again, or name another folder",
            )
        self.name = name
        self.dimension = self._read_dimension()
        # Tokenizers can't be used by two threads at once.
        self._guard = threading.Lock()

    @classmethod
    def named(cls, name: str, *, pull: bool = False, progress: Progress | None = None) -> SentenceEmbedder:
        """The embedder that a name stands for: a known one, a local folder, or a hub's "org/name" that was fetched.

        Raises:
            ModelUnavailable: there is no such embedder, or it isn't on this machine.
        """
        source = resolve_embedder(name, pull=pull, progress=progress)
        if source.path is None:
            raise ModelUnavailable(
                f"the embedder '{name}' isn't on this machine",
                f"fetch it once (hf download {name}), or name a folder",
            )
        return cls(source.path, name)

    @functools.cached_property
    def digest(self) -> str:
        """The SHA-256 of the weights, and of the prompts where there are some, in hexadecimal digits."""
        weights = hashlib.sha256()
        for path in self._weights:
            with open(path, "rb") as file:
                while part := file.read(1 << 20):
                    weights.update(part)
        prompts = self._prompts()
        if not prompts:
            return weights.hexdigest()
        return hashlib.sha256(f"{weights.hexdigest()} {json.dumps(prompts, sort_keys=True)}".encode()).hexdigest()

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of unit length of what is to be found, shape (texts, dimension)."""
        if not texts:
            return np.zeros((0, self.dimension), dtype=np.float32)
        return self._encode("document", texts)

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """The vector of unit length of what is asked, shape (dimension,)."""
        vector: NDArray[np.float32] = self._encode("query", [text])[0]
        return vector

    def _encode(self, role: Role, texts: Sequence[str]) -> NDArray[np.float32]:
        """A text alone is remembered; among others its vector differs in its last digits, and isn't."""
        if len(texts) != 1:
            return self._compute(role, texts)
        return _SINGLES.get((self.digest, role, texts[0]), lambda: self._compute(role, texts))

    def _compute(self, role: Role, texts: Sequence[str]) -> NDArray[np.float32]:
        with self._guard:
            encode = self._model.encode_document if role == "document" else self._model.encode_query
            vectors = encode(
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

    def _prompts(self) -> dict[str, str]:
        """What the model puts before texts, by what they are; empty prompts left out."""
        try:
            settings = json.loads((self._folder / "config_sentence_transformers.json").read_text(encoding="utf-8"))
            prompts = settings.get("prompts") or {}
            chosen = settings.get("default_prompt_name")
            return {
                **{str(name): str(prompt) for name, prompt in prompts.items() if prompt},
                **({"default": str(chosen)} if chosen else {}),
            }
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError) as error:
            raise ModelUnavailable(
                f"the embedder in {self._folder} has no readable configuration: {error}", "fetch the embedder again"
            ) from error

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
