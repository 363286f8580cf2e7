"""The page's templates: text in them is escaped, and a name that nobody gave them is an error."""

from __future__ import annotations

import functools
from pathlib import Path

import jinja2

from overlay.scenarios.report.numbers import FILTERS


def template(name: str) -> jinja2.Template:
    """The template of that file name in this folder."""
    return _environment().get_template(name)


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    return environment
