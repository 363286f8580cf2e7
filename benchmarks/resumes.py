"""Resumes: whether a run that is killed at random moments ends with the records of one that wasn't."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from overlay.home import Home
from overlay.progress import Progress, SilentProgress

KILLS = 20
ITEMS, WORDINGS, DIRECTIONS = 6, 2, 3
PATIENCE = 600.0


def measure(progress: Progress | None = None, *, kills: int = KILLS) -> dict[str, Any]:
    """Runs of a short script, each process killed with SIGKILL at a moment drawn from a whole run's time.

    kills: how many processes were killed, and at which stage: before the first cell of a run, or in the midst of it.
    runs: how many times a killed run was taken up until it ended; differing: cells that aren't those of the
        uninterrupted run, byte for byte; missing and extra: cells that only one of them has.
    """
    progress = progress or SilentProgress()
    home = Home.open(Path.cwd())
    draw = random.Random(0)
    with tempfile.TemporaryDirectory(prefix="overlay-resumes-") as folder:
        script = _short_script(home, Path(folder))
        progress.step("a run that nobody kills", None, None)
        started = time.perf_counter()
        whole = Path(folder) / "whole"
        _start(script, home, whole).wait(PATIENCE)
        # The second one finds what was lived and measured before, as all killed ones do.
        started = time.perf_counter()
        again = Path(folder) / "again"
        _start(script, home, again).wait(PATIENCE)
        seconds = time.perf_counter() - started
        expected = _cells(whole)
        found: dict[str, Any] = {"kills": 0, "before_a_cell": 0, "runs": 0, "differing": 0, "missing": 0, "extra": 0}
        _compare(expected, _cells(again), found)
        run = 0
        while found["kills"] < kills:
            out = Path(folder) / f"killed-{run}"
            progress.step("killing runs", found["kills"], kills)
            had = len(_cells(out))
            process = _start(script, home, out)
            try:
                process.wait(draw.uniform(0, seconds))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                found["kills"] += 1
                found["before_a_cell"] += len(_cells(out)) == had
                continue
            _compare(expected, _cells(out), found)
            run += 1
        out = Path(folder) / f"killed-{run}"
        if out.exists():
            _start(script, home, out).wait(PATIENCE)
            _compare(expected, _cells(out), found)
        return found | {"cells": len(expected), "seconds_of_a_run": round(seconds, 1)}


def _short_script(home: Home, folder: Path) -> Path:
    content = yaml.safe_load((home.scenarios / "shared_stores.yaml").read_text(encoding="utf-8"))
    exposure = yaml.safe_load((home.scenarios / "exposures" / "tender_scenes.yaml").read_text(encoding="utf-8"))
    content |= {"name": "resumed", "exposure": exposure["texts"], "neutral": None}
    items = content["trial"]["items"][:ITEMS]
    content["trial"]["items"] = [item | {"paraphrases": item["paraphrases"][:WORDINGS]} for item in items]
    path = folder / "resumed.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
    return path


def _start(script: Path, home: Home, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "overlay.cli", "run", str(script), "--home", str(home.folder)]
    command += ["--out", str(out), "--directions", str(DIRECTIONS)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _cells(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "cells").glob("*.json") if json.loads(path.read_text())}


def _compare(expected: dict[str, bytes], found: dict[str, bytes], counted: dict[str, Any]) -> None:
    counted["runs"] += 1
    counted["missing"] += len(expected.keys() - found.keys())
    counted["extra"] += len(found.keys() - expected.keys())
    counted["differing"] += sum(expected[key] != found[key] for key in expected.keys() & found.keys())
