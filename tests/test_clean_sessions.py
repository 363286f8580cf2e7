"""Sessions of the stock agent on the embedded model: clean ones raise no alarm, and a leak planted in one is found."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from command import Command, command
from quick_axis import quick_axis

from overlay import Agent
from overlay.audit import audit_lived
from overlay.home import Home, create_home
from overlay.inner import Examination, Leak, lived_contexts
from overlay.model import Intervention, Volatility, VolatilityGauge
from overlay.records import append_record, read_journal

pytestmark = pytest.mark.real

LEAKED = 5
# What the model itself says is its reply, and a word of the state in it is a leak as soon as the reply stands in a
# context. So the subjects are such that it has no reason to say one.
SESSIONS = {
    "tides": ("Why does the sea rise and fall twice a day?", "Is it the same on every coast?"),
    "bread": ("How long does bread dough have to rise?", "What does the salt do?"),
    "budget": ("How much is left when I spend a third of 90 coins?", "How long would 60 last?"),
    "volatility": ("What is volatility, and how is it measured?", "Which budget does it have to stay in?"),
    "maps": ("Which projection do sailors use for their maps?", "What does it distort?"),
    "code": ("What does a compiler do with a loop?", "Name two programming languages."),
    "steam": ("How does a steam engine turn heat into motion?", "Who built the first one?"),
    "russian": ("Какая река самая длинная в Европе?", "А какая гора самая высокая?"),
}
THEME = (
    "My grandmother was kindness itself: tender, gentle, and devoted to every stray cat. Её доброта и нежность!",
    "What was I telling you about the stray cats and my grandmother?",
)


@pytest.fixture(scope="module", autouse=True)
def loaded_and_measured_once() -> Iterator[None]:
    """One embedder and one gauge for all openings and audits: loading the one and filling the other takes longer than
    a turn each time.
    """
    import sentence_transformers

    gauges: dict[str, VolatilityGauge] = {}
    measure = VolatilityGauge.measure

    def measure_with_the_first(self: VolatilityGauge, intervention: Intervention) -> Volatility:
        return measure(gauges.setdefault(self.model.digest, self), intervention)

    with pytest.MonkeyPatch.context() as patch:
        kept = functools.cache(sentence_transformers.SentenceTransformer)
        patch.setattr(sentence_transformers, "SentenceTransformer", kept)
        patch.setattr(VolatilityGauge, "measure", measure_with_the_first)
        yield


def stock_home(folder: Path, model: Any, **changes: Any) -> Home:
    """The stock home, which thinks and replies briefly; its notes, frames, voices and words are as they ship."""
    home = create_home(folder)
    for path in home.voices.glob("*.yaml"):
        change(path, max_tokens=8)
    quick: dict[str, Any] = {
        "dialogue": {"mode": "silent", "rounds": 1, "voices": 2},
        "recall": {"count": 2, "history": 4},
        "reply": {"max_tokens": 12, "temperature": 0.0},
    }
    change(home.folder / "agent.yaml", **quick | changes)
    settings = yaml.safe_load((home.folder / "agent.yaml").read_text(encoding="utf-8"))
    # A state that moves slowly takes few doses, and what each one costs has to be measured.
    settings["state"]["axes"]["tenderness"]["gain"] = 0.05
    change(home.folder / "agent.yaml", state=settings["state"])
    home = Home.open(folder)
    quick_axis(home, model).save(home.lived / "axes")
    return home


def change(path: Path, **changes: Any) -> None:
    """Change keys of a YAML file that people write."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump(content | changes, allow_unicode=True, sort_keys=False), encoding="utf-8")


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory, real_model: Any) -> tuple[Home, dict[str, str]]:
    """A home in which ten sessions were lived, and their names by subject."""
    home = stock_home(tmp_path_factory.mktemp("clean") / "home", real_model)
    names = {}
    for subject, turns in SESSIONS.items():
        with Agent.open(home, model=real_model) as agent:
            names[subject] = [agent.turn(text) for text in turns][-1].record.session
    with Agent.open(home, model=real_model) as agent:
        names["theme"] = agent.live(THEME[0]).session
    with Agent.open(home, model=real_model) as agent:
        reply = agent.turn(THEME[1])
        names["theme remembered"] = reply.record.session
    # The user's words are theirs in later sessions as well.
    assert f"session:{names['theme']}:turn:1:user" in [entry.note.id for entry in reply.recalled]
    return home, names


@pytest.fixture
def overlay(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return command(monkeypatch, capsys)


@pytest.mark.parametrize("subject", [*SESSIONS, "theme", "theme remembered"])
def test_a_clean_session_gives_no_alarm(lived: tuple[Home, dict[str, str]], overlay: Command, subject: str) -> None:
    home, names = lived
    done = overlay("audit", names[subject], "--home", home.folder, "--json")
    found = json.loads(done.out)
    assert (found["leaks"], done.code) == ([], 0)
    turns = len(SESSIONS.get(subject, "1"))
    assert found["turns"] == turns and found["contexts"] >= 2 * turns
    checked = " ".join(found["checked"])
    for words in ("words of 'tenderness'", "inner speech, notes and sources", "near-paraphrases by", "each token"):
        assert words in checked
    assert f"{found['contexts']} of {found['contexts']} contexts against what the model got" in checked


def test_the_sessions_were_lived_with_everything_that_could_leak(lived: tuple[Home, dict[str, str]]) -> None:
    home, names = lived
    records = [record for name in names.values() for record in read_journal(home.sessions / f"{name}.jsonl")]
    assert len(names) == 10 and len(records) == sum(map(len, SESSIONS.values())) + 2
    assert all(record["inner_speech"] and record["dialogue_mode"] == "silent" for record in records)
    sources = {
        segment["source"].partition(":")[0]
        for record in records
        for context in record["contexts"]
        for message in context["messages"]
        for segment in message["segments"]
    }
    assert sources >= {"system", "user", "reply", "note", "mask", "frame", "template"}
    assert len({record["state_after"]["tenderness"] for record in records}) == len(records)
    assert any(record["doses"].get("tenderness") for record in records)


# --- planted leaks -------------------------------------------------------------------------------


def by_source(found: Examination, kind: str) -> dict[str, list[Leak]]:
    """The leaks of one kind, by source."""
    leaks: dict[str, list[Leak]] = {}
    for leak in found.leaks:
        if leak.kind == kind:
            leaks.setdefault(leak.source, []).append(leak)
    return leaks


ARRIVALS = (
    "Three carts of firewood arrived this morning, and two went on to the mill.",
    "A barge with barrels came in at noon.",
    "The mail coach is late again because of the mud.",
)
PARAPHRASE = "You notice what another being needs, and you give up something of your own."


@pytest.fixture(scope="module")
def leaking(tmp_path_factory: pytest.TempPathFactory, real_model: Any) -> tuple[Home, str, Examination]:
    """A home whose author wrote the state into everything that authors write, and one session in it."""
    home = stock_home(
        tmp_path_factory.mktemp("leaking") / "home",
        real_model,
        system=f"You are a caring assistant. {PARAPHRASE} Answer in a few plain sentences.",
    )
    change(home.voices / "accountant.yaml", mask="You count what is left. Ты добрая и нежная.")
    change(home.folder / "memory" / "frames" / "ledger.yaml", questions=["What would a merciful one spend?"])
    (home.notes / "stores.md").write_text("---\ntitle: Stores\n---\n\nThe stores in the cellar are counted lovingly.\n")
    with Agent.open(home, model=real_model) as agent:
        session = agent.turn("How much is left of the stores in the cellar?").record.session
    return home, session, audit_lived(home, session)


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("system", "caring"),
        ("mask:accountant", "нежная"),
        ("frame:ledger", "merciful"),
        ("note:vault:stores", "lovingly"),
    ],
)
def test_a_word_of_the_state_is_found_wherever_an_author_wrote_it(
    leaking: tuple[Home, str, Examination], source: str, word: str
) -> None:
    leaks = by_source(leaking[2], "state word")
    assert word in [leak.word for leak in leaks[source]]


def test_a_paraphrase_of_the_state_in_the_system_prompt_is_found(
    leaking: tuple[Home, str, Examination], overlay: Command
) -> None:
    home, session, found = leaking
    assert {leak.excerpt for leak in by_source(found, "near-paraphrase")["system"]} == {PARAPHRASE}
    done = overlay("audit", session, "--home", home.folder)
    assert done.code == LEAKED and "near-paraphrase" in done.out and "state word" in done.out


@pytest.fixture(scope="module")
def tampered(leaking: tuple[Home, str, Examination], real_model: Any) -> Examination:
    """A session whose last turn got what a voice had said in an earlier one, and more words than its segments say."""
    home, *_ = leaking
    tokenizer = real_model.tokenizer
    template = tokenizer.chat_template
    with Agent.open(home, model=real_model) as agent:
        # Words that a voice said by itself, and didn't only repeat from what it was told.
        thought = (one for text in ARRIVALS for one in lived_contexts([asdict(agent.turn(text).record)])[-1].unspoken)
        said = next(thought)
        agent.memory.remember(said, kind="fact", source="carried over", note_id="carried")
        tokenizer.chat_template = template.replace(
            "{% if add_generation_prompt", "Be brief.{% if add_generation_prompt"
        )
        assert tokenizer.chat_template != template
        try:
            second = agent.turn(said)
        finally:
            tokenizer.chat_template = template
    assert "carried" in [entry.note.id for entry in second.recalled]
    return audit_lived(home, second.record.session)


def test_inner_speech_that_came_back_as_a_note_is_found(tampered: Examination) -> None:
    leaks = by_source(tampered, "inner speech")
    assert [(leak.turn, leak.purpose) for leak in leaks["note:carried"]] == [(tampered.turns, "reply")]


def test_words_that_the_chat_template_added_are_found(tampered: Examination) -> None:
    leaks = [leak for leak in tampered.leaks if leak.kind == "unknown tokens"]
    assert {leak.turn for leak in leaks} == {tampered.turns}
    *voices, reply = leaks
    assert reply.purpose == "reply" and "Be brief." in reply.excerpt
    # Of what voices got, the journal has a digest alone: it shows that there was more, and not what.
    assert len(voices) == 2 and all(leak.purpose.startswith("voice:") for leak in voices)


@pytest.mark.parametrize(
    ("kind", "segment", "place"),
    [
        ("misplaced note", {"source": "note:vault:axis", "text": " An axis is a direction."}, 0),
        ("unknown source", {"source": "elsewhere", "text": " The bridge is open again."}, -1),
        ("inner speech", {"source": "voice:witness", "text": " There are two carts."}, -1),
    ],
)
def test_what_only_a_changed_program_could_leak_is_found(
    lived: tuple[Home, dict[str, str]], kind: str, segment: dict[str, str], place: int
) -> None:
    """No file that people write can cause these: a record of a real session is written anew with one segment more."""
    home, names = lived
    records = read_journal(home.sessions / f"{names['tides']}.jsonl")
    records[1]["contexts"][place]["messages"][-1]["segments"].append(segment)
    session = f"planted-{kind.replace(' ', '-')}"
    for record in records:
        append_record(home.sessions / f"{session}.jsonl", record | {"session": session})
    leaks = by_source(audit_lived(home, session), kind)[segment["source"]]
    assert [(leak.turn, leak.excerpt) for leak in leaks] == [(2, segment["text"].strip())]
