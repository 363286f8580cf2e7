"""Embedders and rerankers: what they are told, how a memory changes its embedder, and what a reranker adds."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from overlay.errors import ModelUnavailable, NoteError
from overlay.memory import Memory, NewNote, SentenceEmbedder
from overlay.memory.embedder import Remembered

Opener = Callable[..., Memory]

WORDS = ["tea", "cat", "train", "piano", "garden", "bread", "key", "roof", "river", "clock"]


def make_tokenizer(folder: Path) -> None:
    from transformers import BertTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "query", "passage", ":", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)


def bert_settings() -> Any:
    from transformers import BertConfig

    return BertConfig(
        vocab_size=18, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_labels=1
    )


@pytest.fixture
def cross_encoder(tmp_path: Path) -> Path:
    import torch
    from transformers import BertForSequenceClassification

    torch.manual_seed(0)
    folder = tmp_path / "cross"
    make_tokenizer(folder)
    BertForSequenceClassification(bert_settings()).save_pretrained(folder)
    return folder


@pytest.fixture
def prompted(tmp_path: Path) -> Callable[[dict[str, str]], Path]:
    """Makes an embedder that carries these prompts."""

    def make(prompts: dict[str, str]) -> Path:
        import torch
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.models import Pooling, Transformer
        from transformers import BertModel

        torch.manual_seed(0)
        folder = tmp_path / f"embedder-{len(list(tmp_path.iterdir()))}"
        make_tokenizer(folder / "bert")
        BertModel(bert_settings()).save_pretrained(folder / "bert")
        body = Transformer(str(folder / "bert"))
        model = SentenceTransformer(modules=[body, Pooling(16)], prompts=prompts, device="cpu")
        model.save(str(folder / "whole"))
        return folder / "whole"

    return make


def test_a_question_and_a_text_get_the_prompts_that_the_model_carries(
    prompted: Callable[[dict[str, str]], Path],
) -> None:
    plain = SentenceEmbedder(prompted({}), "plain")
    told = SentenceEmbedder(prompted({"query": "query: ", "document": "passage: "}), "told")
    assert np.allclose(told.embed(["tea"])[0], plain.embed(["passage: tea"])[0], atol=1e-6)
    assert np.allclose(told.embed_query("tea"), plain.embed_query("query: tea"), atol=1e-6)
    assert not np.allclose(told.embed_query("tea"), told.embed(["tea"])[0], atol=1e-3)
    assert told.digest != plain.digest
    assert told.dimension == plain.dimension == 16


def test_a_text_that_comes_again_alone_is_not_computed_again(prompted: Callable[[dict[str, str]], Path]) -> None:
    folder = prompted({"query": "query: ", "document": "passage: "})
    one, other = SentenceEmbedder(folder, "one"), SentenceEmbedder(folder, "other")
    found, asked = one.embed(["tea cat"]), one.embed_query("tea cat")
    kept = found.copy()
    assert not np.array_equal(found[0], asked)
    # Who got a vector may change it, and nobody else sees that.
    found[:] = 0
    other.__dict__["_model"] = None
    np.testing.assert_array_equal(other.embed(["tea cat"]), kept)
    np.testing.assert_array_equal(other.embed_query("tea cat"), asked)
    with pytest.raises(AttributeError):
        other.embed(["tea cat", "train"])


def test_what_was_asked_for_longest_ago_is_forgotten_first() -> None:
    computed: list[str] = []
    remembered = Remembered(2)

    def get(text: str) -> None:
        def compute() -> NDArray[np.float32]:
            computed.append(text)
            return np.zeros((1, 2), np.float32)

        remembered.get(("digest", "document", text), compute)

    for text in ("tea", "cat", "tea", "key", "tea", "cat"):
        get(text)
    assert computed == ["tea", "cat", "key", "cat"]


def test_an_embedder_is_found_by_the_name_of_its_folder(prompted: Callable[[dict[str, str]], Path]) -> None:
    folder = prompted({})
    assert SentenceEmbedder.named(str(folder)).digest == SentenceEmbedder(folder, "x").digest
    with pytest.raises(ModelUnavailable):
        SentenceEmbedder.named("no-such-embedder")


def test_another_name_for_the_same_weights_is_no_other_embedder(open_memory: Opener, embedder: Any) -> None:
    class Renamed(type(embedder)):  # type: ignore[misc]
        digest = embedder.digest

    open_memory().close()
    assert open_memory(embedder=Renamed(name="another name")).check().is_whole


class Stopped(Exception):
    """What stands for a killed process."""


class Tired:
    """An embedder that stops after some texts."""

    def __init__(self, embedder: Any, after: int) -> None:
        self._embedder, self._left = embedder, after
        self.name, self.digest, self.dimension = embedder.name, embedder.digest, embedder.dimension

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if self._left <= 0:
            raise Stopped
        self._left -= len(texts)
        return np.asarray(self._embedder.embed(texts))

    def embed_query(self, text: str) -> NDArray[np.float32]:
        return np.asarray(self._embedder.embed_query(text))


def test_embedding_again_goes_on_where_it_was_and_the_old_vectors_serve_until_it_is_done(
    open_memory: Opener, tmp_path: Path, embedder: Any
) -> None:
    memory = open_memory(exact_below=0)
    memory.remember_many(NewNote(f"note about topic{row}", "fact", "s", note_id=f"n{row}") for row in range(1_300))
    reader = open_memory(read_only=True)
    memory.close()
    other = type(embedder)(name="other", dimension=32)
    with pytest.raises(Stopped):
        Memory.reembed(tmp_path / "home", Tired(other, after=600))
    assert reader.recall("topic7")[0].note.id == "n7"
    memory = open_memory(exact_below=0)
    assert memory.recall("topic7")[0].note.id == "n7"
    memory.remember("note about a zebra", kind="fact", source="s", note_id="zebra")
    memory.remember("note about topic1", kind="fact", source="s", note_id="n1", title="First")
    memory.forget("n2")
    assert memory.check().is_whole
    memory.close()
    done = len(other.embedded)
    assert done >= 512
    assert Memory.reembed(tmp_path / "home", other) == 1_300
    assert len(other.embedded) - done <= 1_300 - 512 + 2
    with pytest.raises(NoteError, match="overlay memory reembed"):
        reader.recall("topic7")
    memory = open_memory(embedder=other, exact_below=0)
    assert memory.check().is_whole
    for query, note_id in [("topic7", "n7"), ("zebra", "zebra"), ("First", "n1")]:
        assert memory.recall(query)[0].note.id == note_id


def test_half_done_work_of_a_third_embedder_is_thrown_away(open_memory: Opener, tmp_path: Path, embedder: Any) -> None:
    memory = open_memory()
    memory.remember_many(NewNote(f"note about topic{row}", "fact", "s", note_id=f"n{row}") for row in range(600))
    memory.close()
    with pytest.raises(Stopped):
        Memory.reembed(tmp_path / "home", Tired(type(embedder)(name="third"), after=1))
    other = type(embedder)(name="other")
    assert Memory.reembed(tmp_path / "home", other) == 600
    assert len(other.embedded) == 600
    assert open_memory(embedder=other).check().is_whole


def test_a_reranker_s_share_is_a_term_of_the_score(open_memory: Opener, cross_encoder: Path) -> None:
    memory = open_memory(reranker=str(cross_encoder), reranker_weight=3.0, minimum_score=0.0)
    memory.remember_many(NewNote(f"{word} and river", "fact", "s", note_id=word) for word in WORDS)
    weights = memory.settings.weights
    found = memory.recall("tea river", 10)
    assert len(found) == len(WORDS)
    shares = {one.note.id: one.terms["reranked"] for one in found}
    assert len(set(shares.values())) > 1
    for one in found:
        assert 0 < one.terms["reranked"] < 1
        others = {name: value for name, value in one.terms.items() if name != "reranked"}
        assert one.score == pytest.approx(weights.total(others) + 3.0 * one.terms["reranked"])
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    memory.close()
    plain = open_memory(minimum_score=0.0).recall("tea river", 10)
    assert all("reranked" not in one.terms for one in plain)


def test_a_reranker_that_is_not_there_is_named(open_memory: Opener, tmp_path: Path) -> None:
    memory = open_memory(reranker=str(tmp_path / "nothing"))
    memory.remember("tea", kind="fact", source="s")
    with pytest.raises(ModelUnavailable, match="nothing"):
        memory.recall("tea")


def test_the_folder_of_an_embedder_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="no embedder"):
        SentenceEmbedder(tmp_path, "x")
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "modules.json").write_text(json.dumps([{"path": ""}]))
    with pytest.raises(ModelUnavailable, match="states no dimension"):
        SentenceEmbedder(tmp_path, "x")
