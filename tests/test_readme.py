"""What the README prints is what happens."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from overlay.home import Home

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_is_short_and_all_its_local_links_lead_somewhere() -> None:
    assert len(README.splitlines()) < 200
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target


def examples() -> dict[str, str]:
    """Every Python example of the pages people read first, by a name for it."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return {
        f"{page.stem}-{number}": example
        for page in pages
        for number, example in enumerate(re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), flags=re.DOTALL))
    }


EXPECTED = {
    "README-0": "vault:four-levels",
    "README-1": "[",
    "frames-0": "ledger",
    "inner-0": "+0.272 -> +0.250",
    "interventions-0": "(",
}
"""What each example prints, in part."""


def test_every_example_has_something_expected_of_it() -> None:
    assert set(examples()) == set(EXPECTED)


@pytest.mark.real
@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_the_python_examples_run_as_printed(name: str, tmp_path: Path) -> None:
    (tmp_path / "example.py").write_text(examples()[name], encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    assert EXPECTED[name] in done.stdout
    if name == "README-0":
        check_the_stock_axis(Home.open(tmp_path / "my-agent"))


def check_the_stock_axis(home: Home) -> None:
    """The first turn in a new home builds the stock axis in full: two minutes that no other test spends again."""
    axis = home.axes.load("tenderness")
    axis.require_proof()
    found = axis.calibration
    assert found.spends_budget and found.falls_apart
    assert 0.01 < found.budget_dose <= found.limit < 0.2
    surprise = {point.dose: point.surprise for point in found.coherence}
    broken = max(surprise)
    assert (surprise[broken] or np.inf) > 1.3 * (surprise[0.0] or 0)
