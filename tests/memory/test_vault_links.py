"""What a link in a vault means."""

from __future__ import annotations

import unicodedata

import pytest

from overlay.memory.vaults.links import Found, LinkResolver
from overlay.memory.vaults.page import LinkStyle, RawLink

PAGES = {
    "tea.md": (),
    "pot.md": ("The brown one", "tea"),
    "a/shelf.md": ("board",),
    "a/deep/shelf.md": (),
    "b/shelf.md": ("board",),
    "b/tea.md": (),
    "b/Чайник и чай.md": (),
    "v1.2 notes.md": (),
    "letter.txt": (),
    "й/é.md": (),
}
ATTACHMENTS = ["img/brown pot.png", "plan.sketch"]


def found(target: str, origin: str = "pot.md", style: LinkStyle = "wiki") -> Found:
    return LinkResolver(PAGES, ATTACHMENTS).find(RawLink(1, target, style), origin)


@pytest.mark.parametrize(
    ("target", "file"),
    [
        ("pot", "pot.md"),
        ("POT", "pot.md"),
        ("pot.md", "pot.md"),
        ("b/tea", "b/tea.md"),
        ("/tea", "tea.md"),
        ("deep/shelf", "a/deep/shelf.md"),
        ("b/чайник и ЧАЙ", "b/Чайник и чай.md"),
        ("Чайник и чай", "b/Чайник и чай.md"),
        ("v1.2 notes", "v1.2 notes.md"),
        ("letter.txt", "letter.txt"),
        ("The Brown One", "pot.md"),
        (unicodedata.normalize("NFD", "й/é"), "й/é.md"),
        ("b\\tea", "b/tea.md"),
    ],
)
def test_a_name_a_path_its_end_or_an_alias_leads_to_a_page(target: str, file: str) -> None:
    assert found(target) == Found("note", file)


@pytest.mark.parametrize(
    ("target", "origin", "chosen", "others"),
    [
        ("shelf", "b/tea.md", "b/shelf.md", ("a/shelf.md", "a/deep/shelf.md")),
        ("shelf", "a/deep/x.md", "a/deep/shelf.md", ("a/shelf.md", "b/shelf.md")),
        ("shelf", "pot.md", "a/shelf.md", ("b/shelf.md", "a/deep/shelf.md")),
        ("tea", "b/shelf.md", "b/tea.md", ("tea.md",)),
        ("tea", "a/shelf.md", "tea.md", ("b/tea.md",)),
        ("board", "b/tea.md", "b/shelf.md", ("a/shelf.md",)),
    ],
)
def test_an_ambiguous_name_is_the_page_in_the_same_folder_or_that_with_the_shortest_path(
    target: str, origin: str, chosen: str, others: tuple[str, ...]
) -> None:
    assert found(target, origin) == Found("note", chosen, others)


@pytest.mark.parametrize(
    ("target", "origin", "file"),
    [
        ("tea.md", "b/shelf.md", "b/tea.md"),
        ("../tea.md", "b/shelf.md", "tea.md"),
        ("./deep/shelf.md", "a/shelf.md", "a/deep/shelf.md"),
        ("/b/tea.md", "a/shelf.md", "b/tea.md"),
        # No such path from here, but Obsidian writes links that are ends of paths in this form, too.
        ("pot.md", "b/tea.md", "pot.md"),
        ("a/shelf.md", "b/tea.md", "a/shelf.md"),
    ],
)
def test_an_ordinary_link_is_a_path_from_the_page(target: str, origin: str, file: str) -> None:
    assert found(target, origin, "path") == Found("note", file)


@pytest.mark.parametrize("style", ["wiki", "path"])
@pytest.mark.parametrize(
    "target", ["../tea", "../../etc/passwd", "a/../../tea", "nowhere", "a/tea", "./shelf", "/shelf", "..", ".", "ot"]
)
def test_what_is_not_in_the_vault_or_outside_of_it_is_nothing(target: str, style: LinkStyle) -> None:
    assert found(target, "pot.md", style) == Found("nothing")


@pytest.mark.parametrize("target", ["brown pot.png", "img/brown pot.png", "gone.PDF", "plan.sketch", "board.canvas"])
def test_pictures_and_other_attachments_are_no_notes(target: str) -> None:
    assert found(target) == Found("other")
