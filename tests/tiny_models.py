"""Tiny models of many architectures: random weights, and a tokenizer with one token per byte."""

from __future__ import annotations

from typing import Any

TINY_ARCHITECTURES = ("llama", "qwen2", "qwen3", "gemma3_text", "mistral", "phi3", "gpt2", "gpt_neox", "opt")

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def byte_tokenizer() -> Any:
    """A tokenizer with one token per byte: any text can be encoded, any tokens decoded."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(["<pad>", "<end>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>", chat_template=CHAT_TEMPLATE
    )


def tiny_module(architecture: str, seed: int = 0, layers: int = 3, width: int = 32) -> Any:
    """A random-weight float32 model of the given architecture."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes: dict[str, Any] = {"vocab_size": 258, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 1}
    if architecture == "gpt2":
        sizes |= {"n_layer": layers, "n_embd": width, "n_head": 4, "n_positions": 512}
    else:
        sizes |= {
            "num_hidden_layers": layers,
            "hidden_size": width,
            "num_attention_heads": 4,
            "max_position_embeddings": 512,
            "intermediate_size": 64,
        }
        if architecture == "opt":
            sizes |= {"ffn_dim": 64, "word_embed_proj_dim": width}
        elif architecture != "gpt_neox":
            sizes |= {"num_key_value_heads": 2, "head_dim": width // 4}
    torch.manual_seed(seed)
    module = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **sizes)).float().eval()
    # Fresh weights are so small that every next token is about as likely: spread them out.
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.dim() > 1:
                parameter.mul_(4 if "embed" not in name and "wte" not in name else 8)
    return module
