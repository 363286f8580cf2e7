"""Reading one page of a vault."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from overlay.errors import DocumentError
from overlay.memory.vaults.page import Page, RawLink, read_markdown, read_plain
from overlay.memory.vaults.written_text import decode, read_bytes

HERE = Path("folder/stem.md")


def page(content: str) -> Page:
    return read_markdown(textwrap.dedent(content).lstrip("\n"), HERE)


def links(content: str) -> list[tuple[int, str]]:
    return [(link.line, link.target) for link in page(content).links]


@pytest.mark.parametrize(
    ("written", "target"),
    [
        ("[[pot]]", "pot"),
        ("[[sub/pot]]", "sub/pot"),
        ("[[pot#Its handle]]", "pot"),
        ("[[pot#^a1b2]]", "pot"),
        ("[[pot|the brown one]]", "pot"),
        ("[[pot#^a1|the brown one]]", "pot"),
        ("![[pot]]", "pot"),
        ("![[pot#Top]]", "pot"),
        ("[[ Чайник и чай ]]", "Чайник и чай"),
        ("[[pot\\|the brown one]]", "pot"),
        ("[the pot](pot.md)", "pot.md"),
        ("[the pot](../a%20b/pot.md#top)", "../a b/pot.md"),
        ("[the pot](<a b.md> 'title')", "a b.md"),
        ("[чай](%D1%87%D0%B0%D0%B9.md)", "чай.md"),
        ("*[[pot]]*", "pot"),
        ("- one\n- two [[pot]]", "pot"),
        ("text^[a note with [[pot]]]", "pot"),
        ("[^1]: [[pot]]", "pot"),
        ("text[^n]\n\n[^n]: see [[pot]]", "pot"),
        ("[the pot][1]\n\n[1]: pot.md", "pot.md"),
        ("# Heading with [[pot]]", "pot"),
        ("<b>bold</b> [[pot]]", "pot"),
        ("[not a link [[pot]]", "pot"),
    ],
)
def test_a_link_is_found_in_every_form(written: str, target: str) -> None:
    assert [link.target for link in page(written).links] == [target]


@pytest.mark.parametrize(
    "written",
    [
        "`[[code]]`",
        "```\n[[code]]\n```",
        "~~~python\n[[code]] [x](y.md)\n~~~",
        "    [[indented code]]",
        "\\[[escaped]]",
        "[[#Heading of this page]]",
        "[here](#heading)",
        "[[]]",
        "[[ ]]",
        "[[two\nlines]]",
        "https://example.org/[[x",
        "[site](https://example.org/a.md) [mail](mailto:a@b.org) [app](obsidian://open?file=x) <https://example.org>",
        "[x](//example.org/a.md)",
        "plain text",
    ],
)
def test_what_is_no_link_to_a_page_is_left_alone(written: str) -> None:
    assert read_markdown(written, HERE).links == ()


def test_links_carry_the_line_of_the_file() -> None:
    content = """
        ---
        title: Tea
        related: "[[leaf]]"
        ---
        # Tea

        one [[a]]
        two [[b]] and [c](c.md)
        > [!note] A callout [[d]]
        > with [[e]]

        | x | y |
        |---|---|
        | [[f\\|g]] | [[h#i]] |

        - item
          [[j]]

        [^1]: [[k]]
        """
    assert links(content) == [
        (3, "leaf"),
        (7, "a"),
        (8, "b"),
        (8, "c.md"),
        (9, "d"),
        (10, "e"),
        (14, "f"),
        (14, "h"),
        (17, "j"),
        (19, "k"),
    ]


def test_wiki_links_name_a_page_and_ordinary_links_a_path() -> None:
    assert page("[[a]] [a](a.md)").links == (RawLink(1, "a", "wiki"), RawLink(1, "a.md", "path"))


def test_tags_stand_in_the_front_matter_and_in_the_text() -> None:
    content = """
        ---
        tags: [drink, '#green', 2024]
        ---
        # Heading #none
        #leaf at the start, #drink/hot/, #чай and #Green again; *#strong* #🍵.

        - #list-item, but not a#b, #1984, https://example.org/#anchor, <https://example.org/#x>
        - `#code` \\#escaped [label](page.md#part)

        ```
        #code
        ```
        """
    assert page(content).tags == ("drink", "green", "2024", "leaf", "drink/hot", "чай", "strong", "🍵", "list-item")


@pytest.mark.parametrize(
    ("front_matter", "tags", "aliases"),
    [
        ("tags: one, two two #comment", ("one", "two"), ()),
        ("tags:\n- one\n- '#two/part'", ("one", "two/part"), ()),
        ("tag: one\naliases: First name, second", ("one",), ("First name", "second")),
        ("alias: [Чай, '1984', 1984]", (), ("Чай", "1984")),
        ("tags:\naliases:\ntitle:", (), ()),
    ],
)
def test_tags_and_aliases_may_be_written_in_several_ways(
    front_matter: str, tags: tuple[str, ...], aliases: tuple[str, ...]
) -> None:
    read = read_markdown(f"---\n{front_matter}\n---\ntext", HERE)
    assert (read.tags, read.aliases) == (tags, aliases)


@pytest.mark.parametrize(
    ("content", "title"),
    [
        ("---\ntitle: Given\n---\n# Heading", "Given"),
        ("---\ntitle: 1984\n---\n", "1984"),
        ("intro\n\n# Heading of *it* #\n\n# Second", "Heading of *it*"),
        ("Heading\n=======\ntext", "Heading"),
        ("## Only a smaller one", "stem"),
        ("```\n# a comment in code\n```", "stem"),
        ("", "stem"),
    ],
)
def test_the_title_is_the_given_one_or_the_first_heading_or_the_name(content: str, title: str) -> None:
    assert read_markdown(content, HERE).title == title


@pytest.mark.parametrize(
    ("date", "event_at"),
    [
        ("2024-05-31", 1_717_113_600.0),
        ("2024-05-31T09:30:00+02:00", 1_717_140_600.0),
        ("2024-05-31 09:30:00", 1_717_147_800.0),
        ("'2024-05-31'", 1_717_113_600.0),
        ("", None),
    ],
)
def test_the_date_is_when_it_happened(date: str, event_at: float | None) -> None:
    assert read_markdown(f"---\ndate: {date}\n---\ntext", HERE).event_at == event_at


def test_the_text_keeps_callouts_footnotes_and_block_ids() -> None:
    text = "> [!warning]- Hot\n> Don't touch [[pot]].\n\nA line ^block-1\n\nNote[^1]\n\n[^1]: footnote"
    assert page(f"---\ntitle: x\n---\n\n{text}\n\n").text == text


def test_a_page_without_text_says_its_name() -> None:
    assert (page("").text, page("---\ntitle: Tea\n---\n").text, page("---\n# nothing\n---\n").text) == (
        "stem",
        "Tea",
        "stem",
    )


def test_a_text_file_has_no_marks() -> None:
    text = "---\nDear [[Anna]], # not a heading #no\n"
    assert read_plain(text, Path("letter.txt")) == Page(text.strip(), "letter", (), (), None, ())


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("---\ntitle: [a, b]\n---\ntext", 2),
        ("---\ntitle: a\ntags: {b: c}\n---\ntext", 3),
        ("---\ntitle: a\ntags: [[b]]\n---\ntext", 3),
        ("---\ntitle: a\ntitle: b\n---\ntext", 3),
        ("---\ntitle: a\n\ndate: soon\n---\ntext", 4),
        ("---\ntitle: a: b\n---\ntext", 2),
        ("---\ntitle: a\ntext", 1),
        ("---\n- a list\n---\ntext", 2),
        ("text\n\nwith \x1b[0m", 3),
        ("---\ntitle: a\n---\nb\n\x00", 5),
    ],
)
def test_a_mistake_is_named_with_its_line(content: str, line: int) -> None:
    with pytest.raises(DocumentError) as mistake:
        read_markdown(content, HERE)
    assert (mistake.value.path, mistake.value.line) == (HERE, line)
    assert mistake.value.next_step


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le-mark", "utf-16-be-mark"])
def test_the_encodings_of_editors_are_read(encoding: str) -> None:
    text = "---\r\ntitle: Чай\r\n---\r\nпьёт 🍵\r\n"
    mark = "\ufeff" if encoding.endswith("-mark") else ""
    content = decode((mark + text).encode(encoding.removesuffix("-mark")), HERE)
    assert read_markdown(content, HERE)[:2] == ("пьёт 🍵", "Чай")


@pytest.mark.parametrize(
    ("data", "line", "problem"),
    [
        (b"one\ntwo\n\x89PNG\xff", 3, "not UTF-8"),
        ("Größe".encode("latin-1"), 1, "not UTF-8"),
        (b"one\nPK\x03\x00", 2, "NUL"),
        (b"\xff\xfeo\x00\n\x00\x00\xd8", 2, "not UTF-16"),
    ],
)
def test_what_is_no_text_is_refused_with_its_line(data: bytes, line: int, problem: str) -> None:
    with pytest.raises(DocumentError, match=problem) as mistake:
        decode(data, HERE)
    assert mistake.value.line == line


def test_a_file_of_50_megabytes_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "big.md"
    with open(path, "wb") as file:
        file.truncate(50_000_000)
    with pytest.raises(DocumentError, match="50 MB") as mistake:
        read_bytes(path)
    assert "divide" in mistake.value.next_step
