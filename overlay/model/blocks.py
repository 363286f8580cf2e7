"""Decoder blocks: where the residual stream can be read and bent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from overlay.errors import ModelUnavailable

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Blocks:
    """The decoder blocks of one model, first to last, the module (`body`) that runs them, and their attention."""

    body: nn.Module
    modules: tuple[nn.Module, ...]
    attention: tuple[nn.Module, ...]
    width: int
    heads: int

    def __len__(self) -> int:
        return len(self.modules)


def find_blocks(module: Any) -> Blocks:
    """Find the decoder blocks by identity: the one ModuleList as long as the configuration says.

    A path such as `model.layers` differs by architecture and changes when an adapter wraps the
    model; the list itself does not.

    Raises:
        ModelUnavailable: the model is an encoder-decoder, isn't causal, or its blocks are ambiguous.
    """
    from torch import nn

    name = type(module).__name__
    config = module.config
    if getattr(config, "is_encoder_decoder", False):
        raise ModelUnavailable(f"{name} is an encoder-decoder model", "choose a decoder-only (causal) language model")
    if not hasattr(module, "generate") or module.get_output_embeddings() is None:
        raise ModelUnavailable(f"{name} doesn't generate text", "choose a causal language model")
    text = config.get_text_config(decoder=True)
    count, width = int(text.num_hidden_layers), int(text.hidden_size)
    found: dict[int, tuple[nn.Module, nn.ModuleList]] = {}
    for parent in module.modules():
        for child in parent.children():
            if isinstance(child, nn.ModuleList) and len(child) == count and _hold_attention(child):
                found[id(child)] = (parent, child)
    if len(found) != 1:
        raise ModelUnavailable(
            f"{name} has {len(found)} lists of {count} decoder blocks where one was expected",
            "this layout isn't supported; choose a model of the Llama, Qwen, Gemma, Mistral, Phi, GPT-2, GPT-NeoX or "
            "OPT family",
        )
    ((body, blocks),) = found.values()
    attention = tuple(part for block in blocks for part in _attention_of(block))
    return Blocks(body, tuple(blocks), attention, width, int(text.num_attention_heads))


def _hold_attention(blocks: Any) -> bool:
    """Whether each entry is a whole block: experts and per-layer projections come in lists as well."""
    return all(len(_attention_of(block)) == 1 for block in blocks)


def _attention_of(block: Any) -> list[nn.Module]:
    """The attention of a block; its norms and dropouts have "attention" in their names as well, but not at the end."""
    return [part for name, part in block.named_children() if name.endswith(("attn", "attention"))]
