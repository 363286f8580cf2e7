"""An adapter turns stale when a note that it learned from is superseded, retired or forgotten, and says why."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from overlay.adapters import AdapterLibrary, Example
from overlay.adapters.adapter import check_adapter, example_digest, stale
from overlay.adapters.library import StaleAdapterWarning
from overlay.adapters.mixture import mix
from overlay.memory import Memory

pytest_plugins = ["tiny_home"]

READ_AT = 2_000.0


class SameForAll:
    """An embedder to which all texts are alike: nothing is looked for here."""

    name, dimension, digest = "same", 4, "same"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.tile(np.float32([1, 0, 0, 0]), (len(texts), 1))

    def embed_query(self, text: str) -> NDArray[np.float32]:
        return self.embed([text])[0]


class Clock:
    now = READ_AT - 1_000

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def memory(tmp_path: Path, clock: Clock) -> Iterator[Memory]:
    """Three notes, and then the adapter learned from them, and then it is later."""
    with Memory.open(tmp_path / "memory", SameForAll(), clock=clock) as opened:
        for name in ("boats", "harbour", "tides"):
            opened.remember(f"What is known of {name}.", kind="fact", source="test", note_id=name)
        clock.now = READ_AT + 1_000
        yield opened


@pytest.fixture
def library(trained_home: Any, tmp_path: Path) -> AdapterLibrary:
    """The trained adapters, of which one learned from two notes."""
    shutil.copytree(trained_home.built, tmp_path / "built")
    path = tmp_path / "built" / "ends_in_z" / "manifest.json"
    facts = json.loads(path.read_text()) | {"notes": ["boats", "harbour"], "made_at": READ_AT}
    path.write_text(json.dumps(facts))
    return AdapterLibrary(trained_home.written, tmp_path / "built")


def reasons(library: AdapterLibrary, memory: Memory) -> tuple[str, ...]:
    return stale(library.load("ends_in_z"), memory)


def test_it_is_fresh_while_its_notes_stand_whatever_becomes_of_others(library: AdapterLibrary, memory: Memory) -> None:
    memory.forget("tides")
    memory.pin("boats")
    memory.remember("Something new.", kind="fact", source="test")
    assert reasons(library, memory) == ()


def test_each_note_that_no_longer_stands_is_a_reason(library: AdapterLibrary, memory: Memory) -> None:
    memory.supersede("boats", "Boats are known better now.", source="test")
    assert reasons(library, memory) == ("note 'boats' was superseded",)
    memory.retire("harbour")
    assert reasons(library, memory) == ("note 'boats' was superseded", "note 'harbour' was retired")
    memory.forget("boats")
    assert reasons(library, memory) == ("note 'boats' was forgotten", "note 'harbour' was retired")


def test_a_note_that_was_superseded_before_it_was_read_is_no_reason(
    library: AdapterLibrary, memory: Memory, clock: Clock
) -> None:
    clock.now = READ_AT - 500
    memory.supersede("boats", "Boats are known better now.", source="test")
    clock.now = READ_AT + 1_000
    assert reasons(library, memory) == ()


def test_status_shows_it_and_wearing_it_warns_but_works(
    library: AdapterLibrary, memory: Memory, trained_home: Any
) -> None:
    model = trained_home.load_model()
    with warnings.catch_warnings():
        warnings.simplefilter("error", StaleAdapterWarning)
        with library.worn(model, "ends_in_z", memory=memory):
            pass
    memory.forget("boats")
    found = {status.name: status for status in library.status(memory)}
    assert found["ends_in_z"].stale == ("note 'boats' was forgotten",)
    assert found["ends_in_z"].problem == ""
    assert found["ends_in_k"].stale == ()
    assert all(status.stale == () for status in library.status())
    with (
        pytest.warns(StaleAdapterWarning, match="note 'boats' was forgotten"),
        library.worn(model, "ends_in_z", memory=memory),
    ):
        assert "ends_in_z" in model.adapters


def test_a_mixture_is_stale_when_one_of_its_parts_is(
    library: AdapterLibrary, memory: Memory, trained_home: Any
) -> None:
    mixed = mix(library, trained_home.load_model(), {"ends_in_z": 0.5, "ends_in_k": 0.5}, "both")
    assert stale(mixed, memory) == ()
    memory.supersede("harbour", "The harbour is closed.", source="test")
    assert stale(check_adapter(mixed.folder), memory) == ("note 'harbour' was superseded",)


def test_the_digest_of_an_example_tells_what_is_shown_from_what_is_not() -> None:
    one = Example(prompt="ab", target="cd")
    assert example_digest(one) == example_digest(Example(prompt="ab", target="cd", spans=((0, 1),)))
    assert (
        len({example_digest(Example(prompt=a, target=b)) for a, b in (("ab", "cd"), ("abc", "d"), ("", "abcd"))}) == 3
    )
