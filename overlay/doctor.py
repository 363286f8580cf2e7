"""The doctor: what is here, what is missing, and how to get it."""

from __future__ import annotations

import platform
import shutil
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from overlay import __version__
from overlay.errors import OverlayError
from overlay.home import Home
from overlay.model.catalog import cache_folder, known_models

LIBRARIES = ("torch", "transformers", "peft", "chromadb", "sentence-transformers", "textual")
NEEDED_BYTES = 1_500_000_000
"""Room for both embedded models while one is being converted."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `next_step` says what to do when it isn't fine."""

    fine: bool
    what: str
    found: str
    next_step: str = ""


def examine(home: Path) -> list[Finding]:
    """Look at versions, hardware, caches and the home."""
    findings = [Finding(sys.version_info >= (3, 11), "Python", platform.python_version(), "Python 3.11 or newer")]
    findings.append(Finding(True, "overlay", __version__))
    for library in LIBRARIES:
        try:
            findings.append(Finding(True, library, metadata.version(library)))
        except metadata.PackageNotFoundError:
            findings.append(Finding(False, library, "missing", "pip install overlay-agent"))
    findings.append(_hardware())
    cache = cache_folder()
    free = shutil.disk_usage(_existing(cache)).free
    findings.append(
        Finding(free > NEEDED_BYTES, f"room in {cache}", f"{free / 1e9:.1f} GB", "free 1.5 GB, or set OVERLAY_CACHE")
    )
    for model in known_models():
        found = "ready" if model.cached else "not fetched"
        findings.append(Finding(model.cached, f"model {model.name}", found, f"overlay models pull {model.name}"))
    findings += _home(home)
    return [finding if not finding.fine else Finding(True, finding.what, finding.found) for finding in findings]


def _hardware() -> Finding:
    from overlay.model.hardware import best_device, best_dtype

    device = best_device()
    return Finding(True, "hardware", f"{device}, {best_dtype(device)}")


def _home(folder: Path) -> list[Finding]:
    try:
        home = Home.open(folder)
        findings = [Finding(True, f"home {folder.resolve()}", home.settings.name)]
        for axis in home.axes.status():
            # An axis that isn't built yet is built when it is first needed: that is nothing to mend.
            found = axis.problem or "ready"
            fine = not axis.problem or axis.axis is None
            findings.append(Finding(fine, f"axis {axis.name}", found, f"overlay axes build {axis.name}"))
    except OverlayError as error:
        return [Finding(False, f"home {folder.resolve()}", error.problem, error.next_step)]
    return findings


def _existing(folder: Path) -> Path:
    while not folder.exists():
        folder = folder.parent
    return folder
