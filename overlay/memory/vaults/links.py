"""Looking up what the links of a vault mean, as Obsidian does."""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from overlay.memory.vaults.page import RawLink, stem_of

# What Obsidian shows in a page and is no note; a link to one that isn't there is no broken link to a note.
_ATTACHMENT = re.compile(
    r"\.(?:avif|bmp|gif|jpe?g|png|svg|tiff?|webp|flac|m4a|mp3|ogg|wav|3gp|mkv|mov|mp4|ogv|webm|pdf|canvas|base"
    r"|csv|json|ya?ml|zip|html?|css|js|py|epub|docx?|xlsx?|pptx?|od[tsp])\Z",
    re.IGNORECASE,
)


class Found(NamedTuple):
    """What a link leads to: a file of the vault, "nothing" that should be there, or something that is no note.

    others: further files that the link could mean; the link is ambiguous if there are any.
    """

    kind: Literal["note", "nothing", "other"]
    file: str = ""
    others: tuple[str, ...] = ()


class LinkResolver:
    """Finds the file that a link means. Letter case and the Unicode form of names don't matter.

    pages: file (path in the vault, "/" between its parts) to the aliases in its front matter.
    attachments: the other files of the vault.
    """

    def __init__(self, pages: Mapping[str, Iterable[str]], attachments: Iterable[str] = ()) -> None:
        self._by_path: dict[str, list[str]] = defaultdict(list)
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._by_alias: dict[str, list[str]] = defaultdict(list)
        for file, aliases in sorted(pages.items()):
            for path in dict.fromkeys((stem_of(file), file)):
                self._by_path[_key(path)].append(file)
                self._by_name[_key(posixpath.basename(path))].append(file)
            for alias in aliases:
                self._by_alias[_key(alias)].append(file)
        self._attachments = {_key(file) for file in attachments}
        self._attachments |= {posixpath.basename(file) for file in self._attachments}

    def find(self, link: RawLink, origin: str) -> Found:
        """What `link` on the page `origin` means.

        A path that begins at the page ("./", "../") or at the vault ("/") is taken as it is, and
        one that leaves the vault leads to nothing. Anything else may be the end of a path: then a
        whole path comes first, then a page in the same folder, then the shortest path; last, aliases.
        """
        folder = posixpath.dirname(origin)
        target = link.target.replace("\\", "/")
        if target.startswith(("./", "../")) or link.style == "path":
            path = target if target.startswith("/") else posixpath.join(folder, target)
            path = posixpath.normpath(path.lstrip("/"))
            if path == ".." or path.startswith("../"):
                return Found("nothing")
            if files := self._by_path.get(_key(path)):
                return _chosen(files, exact=True)
            if target.startswith(("./", "../")):
                return self._without_note(path)
        if target.startswith("/"):
            path = posixpath.normpath(target.lstrip("/"))
            files = self._by_path.get(_key(path), [])
            return _chosen(files, exact=True) if files else self._without_note(path)
        target = posixpath.normpath(target)
        if target.startswith("../") or target in {".", ".."}:
            return Found("nothing")
        wanted = _key(target)
        if "/" in wanted:
            if files := self._by_path.get(wanted):
                return _chosen(files, exact=True)
            ending = f"/{wanted}"
            files = [
                file
                for file in self._by_name.get(posixpath.basename(wanted), [])
                if _key(stem_of(file)).endswith(ending) or _key(file).endswith(ending)
            ]
        else:
            files = self._by_name.get(wanted, []) or self._by_alias.get(wanted, [])
        if not files:
            return self._without_note(target)
        near = _key(folder)
        return _chosen(
            sorted(dict.fromkeys(files), key=lambda file: (_key(posixpath.dirname(file)) != near, *_length(file)))
        )

    def _without_note(self, path: str) -> Found:
        is_attachment = (
            _ATTACHMENT.search(path) is not None
            or _key(path) in self._attachments
            or posixpath.basename(_key(path)) in self._attachments
        )
        return Found("other" if is_attachment else "nothing")


def _chosen(files: list[str], *, exact: bool = False) -> Found:
    return Found("note", files[0], () if exact else tuple(files[1:]))


def _length(file: str) -> tuple[int, int, str]:
    return file.count("/"), len(file), file


def _key(name: str) -> str:
    """A name in the form in which names are compared: composed, and without letter case."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
