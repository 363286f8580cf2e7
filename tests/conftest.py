"""Models for the tests: tiny random ones of many architectures for properties, the embedded real ones for claims."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers that share the cores with several threads each slow each other tenfold.
    os.environ["OMP_NUM_THREADS"] = "1"

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what runs in its background deaf to Ctrl-C, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)

import numpy as np
import pytest
from tiny_models import TINY_ARCHITECTURES, byte_tokenizer, tiny_module

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("ANONYMIZED_TELEMETRY", "False")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with a real model first: begun last, the longest would leave the other workers with nothing to do."""
    real = {item.path for item in items if item.get_closest_marker("real")}
    items.sort(key=lambda item: item.path not in real)


@pytest.fixture(scope="session", params=TINY_ARCHITECTURES)
def tiny_model(request: pytest.FixtureRequest) -> Any:
    from overlay.model import LanguageModel

    return LanguageModel(tiny_module(request.param), byte_tokenizer(), f"tiny-{request.param}")


@pytest.fixture(scope="session")
def tiny_llama() -> Any:
    from overlay.model import LanguageModel

    return LanguageModel(tiny_module("llama"), byte_tokenizer(), "tiny-llama")


@pytest.fixture(scope="session")
def random_direction() -> Any:
    """Make a random direction for a model: unit length per block, residual norms of 1."""
    from overlay.model import Direction

    def make(model: Any, seed: int = 0) -> Any:
        vectors = np.random.default_rng(seed).standard_normal((model.layers, model.width)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return Direction(f"random-{seed}", vectors, np.full(model.layers, 4.0, np.float32))

    return make


@pytest.fixture(scope="session")
def real_model() -> Any:
    from overlay.model import LanguageModel

    return LanguageModel.load("smollm2-135m", pull=True)


@pytest.fixture(scope="module")
def second_real_model() -> Any:
    """A base model of another family, without a chat template; 1.1 GB in float32, so it goes when its module is done.

    Float32, so that what is claimed to be the same token for token can be compared.
    """
    from overlay.model import LanguageModel

    return LanguageModel.load("gemma3-270m", dtype="float32", pull=True)


@pytest.fixture(scope="session")
def embedder_folder() -> Path:
    from overlay.model import resolve_embedder

    source = resolve_embedder("minilm-l6-v2", pull=True)
    assert source.path is not None
    return source.path


@pytest.fixture(scope="session")
def built_home(tmp_path_factory: pytest.TempPathFactory, embedder_folder: Path, tiny_llama: Any) -> Path:
    """A toy home with its axis built and its notes read: made once, and copied by each test that lives in it."""
    from toy_home import create_toy_home

    from overlay.agent import Agent

    home = create_toy_home(tmp_path_factory.mktemp("toy") / "home", embedder_folder)
    Agent.open(home, model=tiny_llama).close()
    return home.folder
