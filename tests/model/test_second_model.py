"""A base model of another family keeps what the embedded one keeps, though its layout, norms and tokens differ.

Gemma 3 270M: 18 blocks, tied head, scaled embeddings, norms with an offset of one, sliding windows with rotary
positions of their own, 262,144 tokens, no chat template. Its GGUF file is a trap for whoever converts it wrongly.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from overlay.model import (
    NOTHING,
    Direction,
    Dose,
    Intervention,
    Message,
    Row,
    Sampling,
    neutral_texts,
    resolve_model,
)

pytestmark = pytest.mark.real

# Few texts: at 262,144 tokens a position's logits take a megabyte.
FEW = 4
FRENCH = (
    "Le bateau part ce soir avec les pêcheurs du village.",
    "Nous avons mangé du pain et du fromage dans le jardin.",
    "Elle regarde la pluie tomber sur les toits de la ville.",
    "Les enfants jouent devant l'école jusqu'à la nuit.",
)
ENGLISH = (
    "The boat leaves tonight with the fishermen of the village.",
    "We ate bread and cheese in the garden.",
    "She watches the rain fall on the roofs of the town.",
    "The children play in front of the school until night.",
)
BLOCKS = tuple(range(8, 13))


@pytest.fixture(scope="module")
def norms(second_real_model: Any) -> Any:
    return second_real_model.residual_norms(neutral_texts()[:FEW])


@pytest.fixture(scope="module")
def french(second_real_model: Any, norms: Any) -> Direction:
    """From English to French: the difference of mean activations."""

    def mean(texts: tuple[str, ...]) -> Any:
        seen = second_real_model.observe([Row(text=text) for text in texts], pool="mean")
        return np.mean([one.activations for one in seen], axis=0)

    vectors = mean(FRENCH) - mean(ENGLISH)
    return Direction("french", (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), norms)


def dosed(direction: Direction, coefficient: float) -> Intervention:
    return Intervention((Dose(direction, coefficient, BLOCKS),))


def test_it_is_the_model_that_its_file_describes(second_real_model: Any) -> None:
    """What the file's metadata says, and what its converter left to the reader (window pattern, local rotary base)."""
    config = second_real_model.module.config
    assert (second_real_model.layers, second_real_model.width) == (18, 640)
    assert (config.head_dim, config.query_pre_attn_scalar, config.vocab_size) == (256, 256, 262_144)
    assert config.rms_norm_eps == pytest.approx(1e-6)
    assert (config.sliding_window, config.max_position_embeddings) == (512, 32_768)
    assert [kind == "full_attention" for kind in config.layer_types] == ([False] * 5 + [True]) * 3
    bases = {kind: rope["rope_theta"] for kind, rope in config.rope_parameters.items()}
    assert bases == {"full_attention": 1_000_000, "sliding_attention": 10_000}
    assert config.final_logit_softcapping is None and config.attn_logit_softcapping is None
    assert second_real_model.module.get_output_embeddings().weight is second_real_model.module.model.embed_tokens.weight


def test_it_predicts_english_and_continues_it_fluently(second_real_model: Any) -> None:
    """A norm, an embedding scale or a token that is off by little costs bits on plain prose long before it is seen."""
    texts = neutral_texts()[:FEW]
    scored = second_real_model.score([Row(text="", options=(text,)) for text in texts])
    nats = -sum(score.total[0] for score in scored)
    # 0.902 is right (the embedded model of half its size needs 1.13); an offset of one in the query norms gives 1.09.
    assert nats / math.log(2) / sum(map(len, texts)) < 0.95
    starts = ("Monday, Tuesday, Wednesday, Thursday,", "One, two, three, four, five,", "The sun rises in the")
    rows = [Row(text=start, sampling=Sampling(max_tokens=2)) for start in starts]
    said = [completion.text for completion in second_real_model.generate(rows)]
    assert [words.strip(" ,.").split()[0] for words in said] == ["Friday", "six", "east"]


def test_its_blocks_are_those_of_the_module_itself(second_real_model: Any) -> None:
    found, own = second_real_model.blocks.modules, second_real_model.module.model.layers
    assert len(found) == 18 and all(block is layer for block, layer in zip(found, own, strict=True))


def test_residual_norms_rise_through_the_blocks_and_leave_the_sink_out(second_real_model: Any, norms: Any) -> None:
    assert norms.shape == (18,) and np.isfinite(norms).all() and (norms > 0).all()
    assert norms[-1] > 100 * norms[0] and (np.diff(norms) > 0).all()
    ids = torch.tensor([second_real_model.encode(Row(text=neutral_texts()[0])).tokens])
    with torch.inference_mode():
        middle = second_real_model.module.model(ids, output_hidden_states=True).hidden_states[9]
    # With the sink in it, a mean would be several times what a usual token has.
    assert float(middle[0, 0].norm()) > 5 * norms[8]


def test_dose_zero_is_bit_identical_to_a_model_without_hooks(second_real_model: Any, french: Direction) -> None:
    from transformers import AutoModelForCausalLM

    text = "The ferry leaves at noon."
    tokens = second_real_model.encode(Row(text=text)).tokens

    def logits(intervention: Intervention) -> torch.Tensor:
        ((_, found),) = second_real_model.logits([tokens], [Row(text=text, intervention=intervention)])
        return found

    place = resolve_model("gemma3-270m").path
    bare = AutoModelForCausalLM.from_pretrained(str(place), dtype=torch.float32).eval()
    with torch.inference_mode():
        untouched = bare(input_ids=torch.tensor([tokens])).logits[0]
    assert torch.equal(logits(NOTHING), untouched)
    assert torch.equal(logits(dosed(french, 0.0)), untouched)
    assert not torch.equal(logits(dosed(french, 0.02)), untouched)


def test_a_dose_steers_and_its_reverse_steers_the_other_way(second_real_model: Any, french: Direction) -> None:
    options = (" we eat with our friends in the evening", " nous mangeons avec nos amis le soir")

    def leaning(coefficient: float) -> float:
        """How much likelier the French continuation is than the English one, nats per token."""
        row = Row(text="My brother works in the kitchen and", intervention=dosed(french, coefficient), options=options)
        english, french_ = second_real_model.score([row])[0].per_token
        return float(french_ - english)

    reversed_, plain, treated = leaning(-0.01), leaning(0.0), leaning(0.01)
    assert reversed_ < plain - 1 and treated > plain + 1


def test_a_row_in_a_batch_gives_what_it_gives_alone(second_real_model: Any, french: Direction) -> None:
    rows = [
        Row(text="The ferry", sampling=Sampling(max_tokens=6)),
        Row(text="My brother works in the kitchen and", intervention=dosed(french, 0.03), sampling=Sampling(8)),
        Row((Message("system", "Be brief."), Message("user", "What grows in a garden?")), sampling=Sampling(6)),
    ]
    together = second_real_model.generate(rows)
    alone = [second_real_model.generate([row])[0] for row in rows]
    assert [completion.tokens for completion in together] == [completion.tokens for completion in alone]


def test_without_a_chat_template_messages_become_lines_with_their_roles(second_real_model: Any) -> None:
    messages = (
        Message("system", "You work."),
        Message("user", "Hello"),
        Message("assistant", "Да, привет."),
        Message("user", "Go on."),
    )
    assert not getattr(second_real_model.tokenizer, "chat_template", None)
    encoded = second_real_model.encode(Row(messages))
    lines = "System: You work.\nUser: Hello\nAssistant: Да, привет.\n"
    assert second_real_model.decode(encoded.tokens) == lines + "User: Go on.\nAssistant:"
    bos = second_real_model.tokenizer.bos_token_id
    assert encoded.tokens[0] == bos and encoded.tokens.count(bos) == 1
    assert second_real_model.decode(encoded.tokens[: encoded.turn_start]) == lines
