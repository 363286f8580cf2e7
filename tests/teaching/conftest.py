"""Teachings of toy curricula on a tiny model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from toy_curriculum import Make, bad_branch, make_in, toy_curriculum

from overlay.teaching import Taught


@pytest.fixture
def teaching(tmp_path: Path, tiny_llama: Any) -> Make:
    return make_in(tmp_path, tiny_llama)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Any) -> Path:
    """A folder in which a good curriculum and one with a bad branch were taught, as "good" and "bad"."""
    root = tmp_path_factory.mktemp("done")
    make = make_in(root, tiny_llama)
    make(toy_curriculum(), "good").run()
    make(bad_branch(), "bad").run()
    return root


@pytest.fixture
def good(done: Path, tiny_llama: Any) -> Taught:
    return make_in(done, tiny_llama)(toy_curriculum(), "good").run()


@pytest.fixture
def bad(done: Path, tiny_llama: Any) -> Taught:
    return make_in(done, tiny_llama)(bad_branch(), "bad").run()
