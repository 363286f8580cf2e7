"""Chats that somebody had elsewhere: the conversations.json of ChatGPT's and of Claude's data export."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from overlay.errors import ArgumentError, DocumentError
from overlay.memory.note import NewNote
from overlay.memory.vaults.report import Skipped
from overlay.memory.vaults.written_text import decode, read_bytes

_NEXT_STEP = "give the conversations.json of a data export of ChatGPT or Claude"

# How the exports name those who speak. What tools and system prompts say was said by nobody.
_SPEAKERS = {"user": "user", "human": "user", "assistant": "assistant"}


class Chats(NamedTuple):
    """The messages of all chats, in order, and the chats or messages that were left out."""

    notes: tuple[NewNote, ...]
    skipped: tuple[Skipped, ...]


class _Message(NamedTuple):
    id: str
    speaker: str
    text: str
    event_at: float | None


def read_chats(path: Path) -> Chats:
    """Read a file of exported chats: each message that a person or the assistant said becomes a note.

    A message is the note "chat:CHAT:MESSAGE" of the kind "said" and the stream "chat:CHAT", with its place
    in it, the title of the chat, and as tags the program's name and who spoke. Of a chat with branches
    the one that was last open counts. A chat or message that can't be read is left out and reported.

    Raises:
        DocumentError: the file is no JSON, or not of these kinds.
    """
    content = decode(read_bytes(path, is_one_note=False), path)
    try:
        data = json.loads(content)
    except json.JSONDecodeError as error:
        raise DocumentError(path, error.lineno, f"not valid JSON: {error.msg}", _NEXT_STEP) from None
    except RecursionError:
        raise DocumentError(path, None, "not valid JSON: it is nested too deeply", _NEXT_STEP) from None
    if isinstance(data, dict):
        data = data["conversations"] if isinstance(data.get("conversations"), list) else [data]
    known = [chat for chat in data if _program(chat)] if isinstance(data, list) else []
    if not known and data != []:
        raise DocumentError(path, None, "this JSON holds no chats of a known kind", _NEXT_STEP)
    notes: list[NewNote] = []
    skipped: list[Skipped] = []
    for number, chat in enumerate(data, start=1):
        try:
            program = _program(chat)
            if not program:
                raise _Unreadable("it has neither a mapping nor chat_messages")
            name = chat.get("conversation_id") or chat.get("id") or chat.get("uuid")
            if not isinstance(name, str) or not name.strip():
                raise _Unreadable("it has no id")
            messages = list(_chatgpt_messages(chat) if program == "chatgpt" else _claude_messages(chat))
        except _Unreadable as error:
            skipped.append(Skipped(path, None, f"chat {number} can't be read: {error}", "export the chats again"))
            continue
        title = chat.get("title") or chat.get("name")
        for place, message in enumerate(messages):
            try:
                notes.append(
                    NewNote(
                        message.text,
                        "said",
                        f"chat:{name}:{message.speaker}",
                        note_id=f"chat:{name}:{message.id}",
                        title=title.strip() if isinstance(title, str) else "",
                        tags=(program, message.speaker),
                        event_at=message.event_at,
                        stream=f"chat:{name}",
                        place=place,
                    )
                )
            except ArgumentError as error:
                where = f"chat {number}, message {place + 1}"
                skipped.append(Skipped(path, None, f"{where}: {error.problem}", error.next_step))
    return Chats(tuple(notes), tuple(skipped))


class _Unreadable(Exception):
    """A chat isn't built as the exports are."""


def _program(chat: object) -> str:
    if isinstance(chat, Mapping):
        if isinstance(chat.get("mapping"), Mapping):
            return "chatgpt"
        if isinstance(chat.get("chat_messages"), list):
            return "claude"
    return ""


def _chatgpt_messages(chat: Mapping[str, Any]) -> Iterator[_Message]:
    """The branch that ends at `current_node`, from its beginning."""
    nodes = chat["mapping"]
    node_id = chat.get("current_node") or _last_leaf(nodes)
    path: list[Mapping[str, Any]] = []
    seen: set[str] = set()
    while node_id is not None:
        node = nodes.get(node_id) if isinstance(node_id, str) else None
        if not isinstance(node, Mapping) or node_id in seen:
            raise _Unreadable(f"its branch breaks off at the node {node_id!r}")
        seen.add(node_id)
        path.append(node)
        node_id = node.get("parent")
    for node in reversed(path):
        message = node.get("message")
        if not isinstance(message, Mapping):
            continue
        speaker = _SPEAKERS.get(str(_part(message, "author").get("role")))
        is_hidden = _part(message, "metadata").get("is_visually_hidden_from_conversation") is True
        # What the assistant writes to a tool is not said to anybody.
        is_said = message.get("recipient") in {None, "all"} and not is_hidden
        content = _part(message, "content")
        if speaker is None or not is_said or content.get("content_type") not in {"text", "multimodal_text"}:
            continue
        parts = content.get("parts")
        said = [_spoken(part) for part in parts] if isinstance(parts, list) else []
        if text := "\n\n".join(piece.strip() for piece in said if piece.strip()):
            yield _Message(str(message.get("id") or node.get("id")), speaker, text, _time(message.get("create_time")))


def _last_leaf(nodes: Mapping[str, Any]) -> str | None:
    """The end of a branch that was written last, for files that don't say which branch was open."""
    leaves = [
        (_time(_part(node, "message").get("create_time")) or 0.0, name)
        for name, node in nodes.items()
        if isinstance(node, Mapping) and not node.get("children")
    ]
    return max(leaves)[1] if leaves else None


def _spoken(part: object) -> str:
    """A piece of a message: text, or what a recording was understood to say; of a picture nothing."""
    if isinstance(part, Mapping):
        part = part.get("text") if part.get("content_type") == "audio_transcription" else ""
    return part if isinstance(part, str) else ""


def _claude_messages(chat: Mapping[str, Any]) -> Iterator[_Message]:
    for number, message in enumerate(chat["chat_messages"], start=1):
        if not isinstance(message, Mapping):
            raise _Unreadable(f"message {number} is none")
        speaker = _SPEAKERS.get(str(message.get("sender")))
        if speaker is None:
            continue
        content = message.get("content")
        blocks = [block for block in content if isinstance(block, Mapping)] if isinstance(content, list) else []
        said = [block["text"] for block in blocks if block.get("type") == "text" and isinstance(block.get("text"), str)]
        if not any(piece.strip() for piece in said) and isinstance(message.get("text"), str):
            said = [message["text"]]
        if text := "\n\n".join(piece.strip() for piece in said if piece.strip()):
            yield _Message(str(message.get("uuid") or number), speaker, text, _time(message.get("created_at")))


def _part(record: object, name: str) -> Mapping[str, Any]:
    part = record.get(name) if isinstance(record, Mapping) else None
    return part if isinstance(part, Mapping) else {}


def _time(value: object) -> float | None:
    """Epoch seconds, from a number of them or ISO 8601; None where there is no usable time."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        try:
            moment = datetime.datetime.fromisoformat(value)
        except ValueError:
            return None
        return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()
    return None
