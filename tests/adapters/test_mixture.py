"""A mixture is exactly the weighted sum of its adapters, worn row by row or written as one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from test_exchange import made_by_peft

from overlay.adapters import AdapterLibrary
from overlay.adapters.exchange import import_adapter
from overlay.adapters.mixture import mix, mixture
from overlay.errors import AdapterError, ArgumentError
from overlay.model import Intervention, Row

pytest_plugins = ["tiny_home"]

TEXTS = ("The ferry leaves at ten.", "one two")


@pytest.fixture(scope="module")
def model(trained_home: Any) -> Any:
    return trained_home.load_model()


@pytest.fixture
def library(trained_home: Any, tmp_path: Path) -> AdapterLibrary:
    shutil.copytree(trained_home.built, tmp_path / "built")
    return AdapterLibrary(trained_home.written, tmp_path / "built")


def logits(model: Any, worn: Intervention) -> torch.Tensor:
    rows = [Row(text=text, intervention=worn) for text in TEXTS]
    return torch.cat([found for _, found in sorted(model.logits([model.encode(row).tokens for row in rows], rows))])


def mixed_and_summed(library: AdapterLibrary, model: Any, parts: dict[str, float]) -> tuple[torch.Tensor, torch.Tensor]:
    mix(library, model, parts, "both")
    with library.worn(model, "both") as worn:
        mixed = logits(model, worn)
    first, second = parts
    with library.worn(model, first), library.worn(model, second):
        return mixed, logits(model, mixture(parts))


@pytest.mark.parametrize("weights", [(0.5, 0.5), (1.0, -0.7), (0.013, 1.9)])
def test_a_mixture_is_the_sum_of_its_scaled_adapters(
    library: AdapterLibrary, model: Any, weights: tuple[float, float]
) -> None:
    parts = dict(zip(("ends_in_z", "ends_in_k"), weights, strict=True))
    mixed, summed = mixed_and_summed(library, model, parts)
    assert torch.allclose(mixed, summed, atol=2e-4, rtol=1e-5)
    assert not torch.allclose(mixed, logits(model, Intervention()), atol=1e-2)


def test_adapters_of_other_ranks_scalings_and_layers_mix_as_exactly(
    library: AdapterLibrary, model: Any, tmp_path: Path
) -> None:
    odd = {
        "target_modules": ["q_proj", "lm_head", "embed_tokens"],
        "rank_pattern": {"layers.1.self_attn.q_proj": 7},
        "alpha_pattern": {"lm_head": 2},
        "use_rslora": True,
    }
    import_adapter(str(made_by_peft(tmp_path / "odd", model.name, **odd)), library, model)
    import_adapter(str(made_by_peft(tmp_path / "other", model.name, target_modules=["embed_tokens"])), library, model)
    mixed, summed = mixed_and_summed(library, model, {"odd": 0.3, "ends_in_k": 0.8})
    assert torch.allclose(mixed, summed, atol=5e-4, rtol=1e-4)
    again = mix(library, model, {"both": 0.5, "other": 1.0}, "again")
    with library.worn(model, "both"), library.worn(model, "other"):
        summed = logits(model, mixture({"both": 0.5, "other": 1.0}))
    with library.worn(model, "again") as worn:
        assert torch.allclose(logits(model, worn), summed, atol=5e-4, rtol=1e-4)
    assert again.parts == {"both": 0.5, "other": 1.0}


def test_the_scale_of_a_mixture_scales_all_its_parts(library: AdapterLibrary, model: Any) -> None:
    mix(library, model, {"ends_in_z": 0.4, "ends_in_k": 1.0}, "both")
    with library.worn(model, "both", 0.5) as worn:
        half = logits(model, worn)
    with library.worn(model, "ends_in_z"), library.worn(model, "ends_in_k"):
        assert torch.allclose(half, logits(model, mixture({"ends_in_z": 0.2, "ends_in_k": 0.5})), atol=2e-4)


def test_a_mixture_says_what_it_is_made_of_and_what_it_costs(library: AdapterLibrary, model: Any) -> None:
    adapter = mix(library, model, {"ends_in_z": 0.4, "ends_in_k": 1.0}, "both")
    assert library.load("both", model.digest) == adapter
    assert (adapter.origin, adapter.parts) == ("mixed", {"ends_in_z": 0.4, "ends_in_k": 1.0})
    oldest = min(library.load(name).made_at for name in adapter.parts)
    assert adapter.made_at == oldest
    assert adapter.volatility_mean > 0
    assert model.adapters == {}


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"ends_in_z": 1.0}, "fewer than two"),
        ({"ends_in_z": 1.0, "ends_in_k": 0.0}, "weight of 'ends_in_k' is 0"),
        ({"ends_in_z": float("nan"), "ends_in_k": 1.0}, "weight of 'ends_in_z' is nan"),
    ],
)
def test_what_is_no_mixture_is_refused(library: AdapterLibrary, model: Any, parts: dict[str, float], says: str) -> None:
    with pytest.raises(ArgumentError, match=says):
        mix(library, model, parts, "both")
    assert "both" not in library.names


def test_token_rows_are_refused_because_they_have_no_half(library: AdapterLibrary, model: Any, tmp_path: Path) -> None:
    folder = made_by_peft(tmp_path / "rows", model.name, trainable_token_indices=[66, 70])
    import_adapter(str(folder), library, model)
    with pytest.raises(AdapterError, match="replaces token rows"):
        mix(library, model, {"rows": 0.5, "ends_in_z": 0.5}, "both")
    with pytest.raises(AdapterError, match="already"):
        mix(library, model, {"ends_in_k": 0.5, "ends_in_z": 0.5}, "rows")
