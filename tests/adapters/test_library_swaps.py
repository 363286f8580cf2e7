"""A hundred swaps that fail in every way leave the base bit for bit as it was, and no cache remembers an adapter."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

from overlay.model import NOTHING, Intervention, Message, Row, Sampling

pytest_plugins = ["tiny_home"]

# A fault may strike where Python can only tell of it: in a generator that is being thrown away.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

BENCH = Path(__file__).parents[2] / "benchmarks" / "swaps.py"

HISTORY = (
    Message("user", "The boats leave from the old harbour at ten, at noon and at four."),
    Message("assistant", "Then we will take the one at noon, and be back by five."),
    Message("user", "And if it rains?"),
)


def test_a_hundred_failing_swaps_leave_the_base_as_it_was(trained_home: Any, tmp_path: Path) -> None:
    bench = runpy.run_path(str(BENCH))
    model = trained_home.load_model()
    found = bench["survive"](model, bench["random_library"](model, tmp_path), 100)
    assert found["base_unchanged"] == found["swaps_with_faults"] == 100, found
    assert found["faults_reached"] > 80, "the planted faults were never reached"


def test_failing_swaps_leave_other_resident_adapters_as_they_were(trained_home: Any, tmp_path: Path) -> None:
    bench = runpy.run_path(str(BENCH))
    model = trained_home.load_model()
    library = bench["random_library"](model, tmp_path)
    with trained_home.library.worn(model, "ends_in_z") as worn:
        before = scores(model, worn)
        found = bench["survive"](model, library, 36)
        assert found["base_unchanged"] == 36, found
        assert scores(model, worn) == before


def scores(model: Any, worn: Intervention) -> Any:
    row = Row(HISTORY, intervention=worn, options=(" Then we stay.", " Then we go."), sampling=Sampling(max_tokens=6))
    return model.score([row])[0].total, model.generate([row])[0].tokens


@pytest.mark.parametrize("order", [("z", "base", "k", "z"), ("base", "half", "z", "base"), ("k", "z", "half", "k")])
def test_prefix_caches_never_cross_adapters(trained_home: Any, order: tuple[str, ...]) -> None:
    """The same history under one adapter after the other: each finds what a fresh model computes."""
    model, library = trained_home.load_model(), trained_home.library
    for name in order:
        fresh = trained_home.load_model()
        found = []
        for one in (model, fresh):
            if name == "base":
                found.append(scores(one, NOTHING))
                continue
            adapter = {"z": "ends_in_z", "k": "ends_in_k", "half": "ends_in_z"}[name]
            with library.worn(one, adapter, 0.5 if name == "half" else 1.0) as worn:
                found.append(scores(one, worn))
        assert found[0][0] == pytest.approx(found[1][0], abs=1e-3)
        assert found[0][1] == found[1][1]
    assert model.prefixes.tokens_reused > 0


def test_a_cache_does_not_outlive_the_weights_it_was_made_with(home: Any) -> None:
    """Trained anew under the same name, an adapter finds nothing of what the old weights encoded."""
    library, model = home.library, home.load_model()
    found = []
    for letter in ("z", "k"):
        home.write("ends_in_z", letter=letter)
        library.train("ends_in_z", str(home.model_folder), dtype="float32")
        with library.worn(model, "ends_in_z") as worn:
            found.append(scores(model, worn))
    fresh = home.load_model()
    with library.worn(fresh, "ends_in_z") as worn:
        expected = scores(fresh, worn)
    assert found[1][0] == pytest.approx(expected[0], abs=1e-3)
    assert found[1][1] == expected[1]
    assert not torch.allclose(torch.tensor(found[0][0]), torch.tensor(found[1][0]), atol=1e-2)
