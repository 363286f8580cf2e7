"""A page: one Markdown or text file of a vault, with what Obsidian's dialect says in it."""

from __future__ import annotations

import datetime
import functools
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import ConfigDict, ValidationInfo, field_validator

from overlay.documents import Document, parse_document
from overlay.errors import DocumentError
from overlay.memory.vaults.written_text import check_characters

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token

# [[note]], [[folder/note#heading]], [[note#^block|as it reads]], ![[note]]; in a table the bar is written \|
_WIKILINK = re.compile(r"!?\[\[([^\[\]|\n]+?)(?:\\?\|[^\]\n]*)?\]\]")

# As Obsidian takes them: letters, digits and signs such as emoji.
_HASHTAG = re.compile(r"#([\w/\-\u2600-\u27bf\u200d\ufe0f\U0001f000-\U0001faff]+)")

# What may stand before a number sign that begins a tag, besides white space: marks of emphasis.
_BEFORE_TAG = "*_~"

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|//")

LinkStyle = Literal["wiki", "path"]


class RawLink(NamedTuple):
    """A link as it stands on a page, not yet looked up: on which line, to what, and how it is to be understood.

    target: without heading, block, alias. style: "wiki" for a name or the end of a path anywhere in
    the vault; "path" for a path that begins at the page's own folder.
    """

    line: int
    target: str
    style: LinkStyle


class Page(NamedTuple):
    """What a file says. `event_at`: epoch seconds of the date in its front matter; `aliases`: its other names."""

    text: str
    title: str
    tags: tuple[str, ...]
    aliases: tuple[str, ...]
    event_at: float | None
    links: tuple[RawLink, ...]


class _FrontMatter(Document):
    # A vault comes from another editor, which has keys of its own.
    model_config = ConfigDict(extra="ignore", frozen=True)

    title: str = ""
    tags: tuple[str, ...] = ()
    tag: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    alias: tuple[str, ...] = ()
    date: float | None = None

    @field_validator("title", mode="before")
    @classmethod
    def _title(cls, title: object) -> object:
        return "" if title is None else _plain(title)

    @field_validator("tags", "tag", "aliases", "alias", mode="before")
    @classmethod
    def _names(cls, names: object, info: ValidationInfo) -> object:
        """They may stand in one line: tags between spaces or commas, aliases between commas."""
        if names is None:
            return ()
        is_tags = str(info.field_name).startswith("tag")
        if not isinstance(names, list):
            names = _plain(names)
            if isinstance(names, str):
                names = re.split(r"[,\s]+" if is_tags else ",", names)
        if not isinstance(names, list):
            return names
        given = [_plain(name) for name in names if name is not None]
        if not all(isinstance(name, str) for name in given):
            return names
        return tuple(
            name for name in (str(one).strip().lstrip("#" if is_tags else "").strip() for one in given) if name
        )

    @field_validator("date", mode="before")
    @classmethod
    def _date(cls, date: object) -> object:
        """ISO 8601; a day is its first moment, and a time without an offset is UTC."""
        if date is None or (isinstance(date, str) and not date.strip()):
            return None
        try:
            if isinstance(date, str):
                date = datetime.datetime.fromisoformat(date.strip())
            elif isinstance(date, datetime.date) and not isinstance(date, datetime.datetime):
                date = datetime.datetime(date.year, date.month, date.day)
            if isinstance(date, datetime.datetime):
                return (date if date.tzinfo else date.replace(tzinfo=datetime.UTC)).timestamp()
        except (ValueError, OverflowError):
            pass
        raise ValueError("this is no date; write it as 2024-05-31 or 2024-05-31T09:30:00+02:00")


def _plain(value: object) -> object:
    """A title of digits is a number in YAML, and one such as 2024-05-31 a date; both are meant as text."""
    is_scalar = isinstance(value, int | float | datetime.date) and not isinstance(value, bool)
    return str(value) if is_scalar else value


def read_markdown(content: str, path: Path) -> Page:
    """Read a Markdown page; `path` is named in errors, and gives the title if the page has none.

    The text keeps its marks (callouts, footnotes, block ids, the brackets of links): they are read
    by people and models alike. The title is that of the front matter, or the first heading of the
    first level. Code makes no links and no tags, headings make no tags.

    Raises:
        DocumentError: the front matter is wrong, with its line.
    """
    check_characters(content, path)
    front_matter, body, first_line = front_matter_of(path, content)
    head = _FrontMatter() if front_matter is None else parse_document(front_matter, _FrontMatter, path)
    heading, tags = "", [*head.tags, *head.tag]
    # Properties of a page may be links.
    links = [
        link
        for number, line in enumerate((front_matter or "").split("\n"), start=1)
        for found in _WIKILINK.finditer(line)
        if (link := _raw_link(number, found[1], "wiki"))
    ]
    in_heading = ""
    for token in _parser().parse(body):
        if token.type == "heading_open":
            in_heading = token.tag
        elif token.type == "heading_close":
            in_heading = ""
        elif token.type == "inline" and token.map is not None:
            if in_heading == "h1" and not heading:
                heading = token.content.strip()
            for name, offset, value in _marks(token):
                line = first_line + token.map[0] + token.content.count("\n", 0, offset)
                if name == "hashtag":
                    if not in_heading:
                        tags.append(value)
                elif link := _raw_link(line, value, "wiki" if name == "wikilink" else "path"):
                    links.append(link)
    title = head.title.strip() or heading or path.stem
    # A note that is only a name, as editors make them, says at least that name.
    return Page(
        text=body.strip() or title,
        title=title,
        tags=_once(tags),
        aliases=_once([*head.aliases, *head.alias]),
        event_at=head.date,
        links=tuple(links),
    )


def read_plain(content: str, path: Path) -> Page:
    """Read a text file, in which nothing has a meaning of its own."""
    check_characters(content, path)
    return Page(content.strip() or path.stem, path.stem, (), (), None, ())


def _once(names: list[str]) -> tuple[str, ...]:
    """Each name once, in the letter case in which it came first."""
    return tuple(
        {name.casefold(): name for name in reversed(names)}[key] for key in dict.fromkeys(map(str.casefold, names))
    )


def _raw_link(line: int, value: str, style: LinkStyle) -> RawLink | None:
    if style == "path":
        from urllib.parse import unquote

        if _SCHEME.match(value):
            return None
        # Percent signs last: a number sign that is part of a name is written %23.
        target = unquote(value.partition("#")[0].partition("?")[0])
    else:
        target = value.partition("#")[0]
    target = target.strip()
    # A link to a heading of the page itself has no target.
    return RawLink(line, target, style) if target and "\0" not in target else None


def front_matter_of(path: Path, content: str) -> tuple[str | None, str, int]:
    """The YAML at the beginning of a page (None without one), the rest, and the line on which that begins.

    An empty line stands in the place of the opening mark, so that the lines of mistakes are the file's.

    Raises:
        DocumentError: the front matter doesn't end.
    """
    first, _, rest = content.partition("\n")
    if first.rstrip() != "---":
        return None, content, 1
    end = re.search(r"^(?:---|\.\.\.)[ \t\r]*(?:\n|\Z)", rest, re.MULTILINE)
    if end is None:
        raise DocumentError(path, 1, "the front matter that begins here doesn't end", "close it with a line of ---")
    head, body = rest[: end.start()], rest[end.end() :]
    first_line = head.count("\n") + 3
    if all(not line.strip() or line.lstrip().startswith("#") for line in head.split("\n")):
        return None, body, first_line
    return "\n" + head, body, first_line


# -- the parser -----------------------------------------------------------------------------------


@functools.cache
def _parser() -> MarkdownIt:
    """CommonMark with tables and footnotes, and Obsidian's links and tags as tokens of their own."""
    from markdown_it import MarkdownIt
    from mdit_py_plugins.footnote import footnote_plugin

    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"]).use(footnote_plugin)
    # Footnotes stay where they stand, used or not: only their links and tags are asked for.
    parser.disable(["footnote_tail", "footnote_inline"])
    parser.inline.ruler.before("link", "wikilink", _wikilink_rule)
    parser.inline.ruler.before("link", "hashtag", _hashtag_rule)
    ordinary = parser.inline.ruler.__rules__[[rule.name for rule in parser.inline.ruler.__rules__].index("link")].fn

    def link_rule(state: StateInline, silent: bool) -> bool:
        """The ordinary rule, which doesn't say where in the source a link began."""
        begin, before = state.pos, len(state.tokens)
        if not ordinary(state, silent):
            return False
        for token in state.tokens[before:]:
            if token.type == "link_open" and "offset" not in token.meta:
                token.meta["offset"] = begin
                break
        return True

    parser.inline.ruler.at("link", link_rule)
    return parser


def _wikilink_rule(state: StateInline, silent: bool) -> bool:
    found = _WIKILINK.match(state.src, state.pos)
    if found is None:
        return False
    if not silent:
        _push(state, "wikilink", found[1])
    state.pos = found.end()
    return True


def _hashtag_rule(state: StateInline, silent: bool) -> bool:
    found = _HASHTAG.match(state.src, state.pos)
    before = state.src[state.pos - 1] if state.pos else " "
    if found is None or not (before.isspace() or before in _BEFORE_TAG):
        return False
    name = found[1].strip("/")
    if not name or name.replace("/", "").isdigit():
        return False
    if not silent:
        _push(state, "hashtag", name)
    state.pos = found.end()
    return True


def _push(state: StateInline, name: str, content: str) -> None:
    token = state.push(name, "", 0)
    token.content = content
    token.meta = {"offset": state.pos}


def _marks(inline: Token) -> Iterator[tuple[str, int, str]]:
    """(kind, offset in the content, target or name) of each link and tag in a piece of running text."""
    for token in inline.children or []:
        if token.type in {"wikilink", "hashtag"}:
            yield token.type, token.meta["offset"], token.content
        elif token.type == "link_open" and token.markup != "autolink":
            yield "link", token.meta.get("offset", 0), str(token.attrs.get("href", ""))


@functools.lru_cache(maxsize=1 << 16)
def stem_of(file: str) -> str:
    """The path of a page without its extension, which is how links and ids name it."""
    path = PurePosixPath(file)
    return path.with_suffix("").as_posix() if path.suffix.lower() in {".md", ".markdown"} else file
