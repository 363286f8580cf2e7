"""Importing chats from the data exports of other programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from overlay.errors import DocumentError
from overlay.memory import ImportReport, Memory, import_path


def node(
    name: str, parent: str | None, role: str, *parts: Any, at: float | None = None, **message: Any
) -> dict[str, Any]:
    content = {"content_type": "text", "parts": list(parts)}
    return {
        "id": name,
        "parent": parent,
        "children": [],
        "message": {"id": name, "author": {"role": role}, "create_time": at, "content": content, **message},
    }


def chatgpt() -> dict[str, Any]:
    nodes = [
        {"id": "root", "parent": None, "children": ["sys"], "message": None},
        node("sys", "root", "system", "You are helpful.", metadata={"is_visually_hidden_from_conversation": True}),
        node("q1", "sys", "user", "Где ключ?", at=100.0),
        node("other", "q1", "assistant", "An answer that was thrown away.", at=101.0),
        node("tool", "q1", "assistant", "search('key')", at=102.0, recipient="browser"),
        node("result", "tool", "tool", "the page", at=103.0),
        node("thought", "result", "assistant", at=103.5, content={"content_type": "thoughts", "thoughts": []}),
        node(
            "a1",
            "thought",
            "assistant",
            {"content_type": "image_asset_pointer", "asset_pointer": "file-1"},
            "Under the stone.",
            {"content_type": "audio_transcription", "text": "The third one."},
            at=104.0,
        ),
        node("q2", "a1", "user", "Thanks!", at=105.0),
    ]
    nodes[-2]["message"]["content"]["content_type"] = "multimodal_text"
    return {
        "conversation_id": "c-1",
        "title": "The key",
        "mapping": {one["id"]: one for one in nodes},
        "current_node": "q2",
    }


CLAUDE = {
    "uuid": "k-1",
    "name": "Чай",
    "chat_messages": [
        {"uuid": "m1", "sender": "human", "text": "Which tea?", "created_at": "1970-01-01T00:03:20Z", "content": []},
        {
            "uuid": "m2",
            "sender": "assistant",
            "text": "This block is not supported. Green tea.",
            "created_at": "1970-01-01T00:03:21.500000+00:00",
            "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Green tea."}],
        },
        {
            "uuid": "m3",
            "sender": "human",
            "text": "",
            "created_at": "bad",
            "content": [{"type": "text", "text": "Why?"}],
        },
        {"uuid": "m4", "sender": "assistant", "text": " ", "content": []},
    ],
}


def write(path: Path, data: Any) -> Path:
    path.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
    return path


def test_the_open_branch_of_a_chatgpt_chat_becomes_notes(memory: Memory, tmp_path: Path) -> None:
    report = import_path(memory, write(tmp_path / "conversations.json", [chatgpt()]))
    assert report == ImportReport(added=("chat:c-1:q1", "chat:c-1:a1", "chat:c-1:q2"))
    notes = [memory.get(note_id) for note_id in report.added]
    assert [note.text for note in notes] == ["Где ключ?", "Under the stone.\n\nThe third one.", "Thanks!"]
    assert [(note.stream, note.place, note.event_at) for note in notes] == [
        ("chat:c-1", 0, 100.0),
        ("chat:c-1", 1, 104.0),
        ("chat:c-1", 2, 105.0),
    ]
    assert [note.source for note in notes] == ["chat:c-1:user", "chat:c-1:assistant", "chat:c-1:user"]
    assert {(note.kind, note.title) for note in notes} == {("said", "The key")}
    assert notes[1].tags == ("chatgpt", "assistant")


def test_a_claude_chat_becomes_notes(memory: Memory, tmp_path: Path) -> None:
    report = import_path(memory, write(tmp_path / "conversations.json", [CLAUDE]))
    assert report == ImportReport(added=("chat:k-1:m1", "chat:k-1:m2", "chat:k-1:m3"))
    notes = [memory.get(note_id) for note_id in report.added]
    assert [note.text for note in notes] == ["Which tea?", "Green tea.", "Why?"]
    assert [note.event_at for note in notes] == [200.0, 201.5, 1_000.0]
    assert [note.place for note in notes] == [0, 1, 2]
    assert (notes[0].title, notes[0].tags, notes[0].source) == ("Чай", ("claude", "user"), "chat:k-1:user")


def test_importing_again_adds_only_new_messages(memory: Memory, tmp_path: Path) -> None:
    chat = chatgpt()
    path = write(tmp_path / "conversations.json", [chat])
    first = import_path(memory, path).added
    journal = memory.journal()
    assert import_path(memory, path) == ImportReport(unchanged=first)
    assert memory.journal() == journal
    chat["mapping"]["a2"] = node("a2", "q2", "assistant", "You are welcome.", at=106.0)
    chat["current_node"] = "a2"
    report = import_path(memory, write(path, [chat]))
    assert (report.added, report.unchanged) == (("chat:c-1:a2",), first)
    assert memory.get("chat:c-1:a2").place == 3


def test_without_a_current_node_the_branch_that_was_written_last_counts(memory: Memory, tmp_path: Path) -> None:
    chat = chatgpt()
    del chat["current_node"]
    for one in chat["mapping"].values():
        one["children"] = [other["id"] for other in chat["mapping"].values() if other["parent"] == one["id"]]
    assert import_path(memory, write(tmp_path / "c.json", chat)).added[-1] == "chat:c-1:q2"


def test_same_words_in_two_chats_stay_two_notes(memory: Memory, tmp_path: Path) -> None:
    other = {**CLAUDE, "uuid": "k-2"}
    assert len(import_path(memory, write(tmp_path / "c.json", [CLAUDE, other])).added) == 6


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        ({"uuid": "x", "chat_messages": ["no"]}, "message 1"),
        ({"chat_messages": []}, "no id"),
        ({"id": "x", "mapping": {"a": {"parent": "lost", "message": None}}, "current_node": "a"}, "breaks off"),
        ({"id": "x", "mapping": {"a": {"parent": "a", "message": None}}, "current_node": "a"}, "breaks off"),
        ({"id": "x"}, "neither"),
        ("text", "neither"),
    ],
)
def test_a_broken_chat_is_reported_and_the_others_are_imported(
    memory: Memory, tmp_path: Path, broken: Any, problem: str
) -> None:
    path = write(tmp_path / "c.json", [broken, CLAUDE])
    report = import_path(memory, path)
    assert len(report.added) == 3
    (skipped,) = report.skipped
    assert skipped.file == path
    assert "chat 1" in skipped.problem
    assert problem in skipped.problem


def test_a_message_that_is_no_text_is_reported(memory: Memory, tmp_path: Path) -> None:
    chat = {**CLAUDE, "chat_messages": [{"uuid": "m", "sender": "human", "text": "a\0b"}, *CLAUDE["chat_messages"]]}
    report = import_path(memory, write(tmp_path / "c.json", [chat]))
    assert len(report.added) == 3
    assert "chat 1, message 1" in report.skipped[0].problem


@pytest.mark.parametrize(
    ("content", "line"), [("[\n{,}]", 2), ("[]x", 1), ("{}", None), ("[1]", None), ("[" * 100_000, None)]
)
def test_what_holds_no_chats_is_refused(memory: Memory, tmp_path: Path, content: str, line: int | None) -> None:
    path = tmp_path / "c.json"
    path.write_text(content)
    with pytest.raises(DocumentError) as mistake:
        import_path(memory, path)
    assert (mistake.value.path, mistake.value.line) == (path, line)
    assert memory.count() == 0
