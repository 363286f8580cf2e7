"""The command line in this process: what was typed, how it ended, and what it said."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from overlay.cli import main

Command = Callable[..., "Done"]


@dataclass(frozen=True)
class Done:
    """How a command ended, what it printed and what it told on standard error."""

    code: Any
    out: str
    told: str

    @property
    def words(self) -> str:
        """What it printed, without line breaks."""
        return " ".join(self.out.split())


def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *leading: str, columns: int = 240
) -> Command:
    """What runs `overlay`, with these words before all others, on a terminal of so many columns."""
    monkeypatch.setenv("COLUMNS", str(columns))

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["overlay", *leading, *map(str, arguments)])
        code: Any = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        return Done(code, *capsys.readouterr())

    return run
