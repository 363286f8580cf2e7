"""Blocks are found in decoder models of any layout; a model that can't be steered is refused with a reason."""

from __future__ import annotations

from typing import Any

import pytest
from tiny_models import byte_tokenizer, tiny_module
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    T5Config,
    T5ForConditionalGeneration,
)

from overlay.errors import ModelUnavailable
from overlay.model import LanguageModel
from overlay.model.blocks import find_blocks

SMALL: dict[str, Any] = {"vocab_size": 258, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


def encoder_decoders() -> list[Any]:
    t5 = T5Config(vocab_size=258, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
    bart = BartConfig(
        vocab_size=258, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=64,
    )  # fmt: skip
    return [T5ForConditionalGeneration(t5), BartForConditionalGeneration(bart)]


@pytest.mark.parametrize("kind", [0, 1], ids=["t5", "bart"])
def test_an_encoder_decoder_is_refused_by_what_it_is(kind: int) -> None:
    with pytest.raises(ModelUnavailable, match="encoder-decoder") as caught:
        LanguageModel(encoder_decoders()[kind], byte_tokenizer(), "translator")
    assert "decoder-only" in caught.value.next_step


@pytest.mark.parametrize("build", [BertModel, BertForMaskedLM])
def test_a_model_that_does_not_generate_is_refused_by_what_it_is(build: Any) -> None:
    module = build(BertConfig(**SMALL, intermediate_size=64, max_position_embeddings=64))
    with pytest.raises(ModelUnavailable, match=r"Bert\w+ (doesn't generate text|isn't causal)") as caught:
        find_blocks(module)
    assert "causal language model" in caught.value.next_step


def test_blocks_are_all_layers_in_the_order_in_which_they_run(tiny_model: Any) -> None:
    import torch

    blocks = find_blocks(tiny_model.module)
    ran: list[int] = []
    handles = [
        block.register_forward_hook(lambda *_, index=index: ran.append(index))
        for index, block in enumerate(blocks.modules)
    ]
    try:
        with torch.inference_mode():
            tiny_model.module(input_ids=torch.tensor([[5, 6, 7]]))
    finally:
        for handle in handles:
            handle.remove()
    assert ran == list(range(tiny_model.module.config.num_hidden_layers))
    assert blocks.width == tiny_model.module.config.hidden_size


def test_a_list_that_is_as_long_as_the_model_is_deep_is_not_taken_for_its_blocks() -> None:
    """Experts and projections come in lists of any length."""
    from torch import nn

    module = tiny_module("llama")
    real = list(find_blocks(module).modules)
    module.model.layers[0].mlp.experts = nn.ModuleList([nn.Linear(2, 2) for _ in range(3)])
    assert list(find_blocks(module).modules) == real


def test_two_stacks_of_blocks_are_refused_rather_than_guessed() -> None:
    module = tiny_module("llama")
    module.draft = tiny_module("llama").model
    with pytest.raises(ModelUnavailable, match="2 lists of 3 decoder blocks"):
        find_blocks(module)
