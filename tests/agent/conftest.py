"""What the tests of agents share: a toy home of their own for each, and an agent that lives in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from overlay import Agent


@pytest.fixture
def home(built_home: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built_home, tmp_path / "home"))


@pytest.fixture
def agent(home: Path, tiny_llama: Any) -> Iterator[Agent]:
    with Agent.open(home, model=tiny_llama) as opened:
        yield opened
