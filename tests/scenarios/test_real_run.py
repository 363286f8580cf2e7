"""A shipped scenario on the embedded model, from the command line: stopped by Ctrl-C, then taken up again."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from quick_axis import quick_axis

from overlay.home import create_home

pytestmark = pytest.mark.real


def start(home: Path, out: Path, errors: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "overlay.cli", "run", str(home / "scenarios" / "shared_stores.yaml")]
    with open(errors, "w", encoding="utf-8") as stream:
        return subprocess.Popen(
            [*command, "--home", str(home), "--out", str(out), "--directions", "1", "--json"],
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
        )


def shorten(path: Path) -> None:
    """Six items in two wordings each, the least that a verdict takes."""
    script = yaml.safe_load(path.read_text(encoding="utf-8"))
    script["trial"]["items"] = [
        {**item, "paraphrases": item["paraphrases"][:2]} for item in script["trial"]["items"][:6]
    ]
    path.write_text(yaml.safe_dump(script, allow_unicode=True, sort_keys=False), encoding="utf-8")


def cells_in(out: Path) -> dict[str, bytes]:
    """Finished cells; what is being written has a name that begins with a dot."""
    return {path.name: path.read_bytes() for path in sorted((out / "cells").glob("[!.]*.json"))}


def test_a_run_stopped_by_ctrl_c_loses_no_cell_and_says_what_the_evidence_says(tmp_path: Path, real_model: Any) -> None:
    new = create_home(tmp_path / "home")
    quick_axis(new, real_model).save(new.lived / "axes")
    home = new.folder
    shorten(home / "scenarios" / "shared_stores.yaml")
    out, errors = tmp_path / "run", tmp_path / "errors.txt"
    stopped = start(home, out, errors)
    # Cells come a group at a time: with the first of them there, most are still to come.
    while stopped.poll() is None and not cells_in(out):
        with contextlib.suppress(subprocess.TimeoutExpired):
            stopped.wait(timeout=0.2)
    stopped.send_signal(signal.SIGINT)
    stopped.communicate(timeout=120)
    told = errors.read_text(encoding="utf-8")
    assert stopped.returncode == 130, told
    assert str(out) in told and "Traceback" not in told
    kept = cells_in(out)
    assert kept and not (out / "records.jsonl").exists() and not (out / "result.json").exists()

    resumed = start(home, out, errors)
    printed, _ = resumed.communicate(timeout=900)
    assert resumed.returncode == 0, errors.read_text(encoding="utf-8")
    found = cells_in(out)
    assert len(found) > len(kept) and {name: found[name] for name in kept} == kept
    records = [json.loads(line) for line in (out / "records.jsonl").read_text(encoding="utf-8").splitlines()]
    assert sorted(f"{record['cell']}.json" for record in records) == sorted(found)

    result = json.loads(printed)
    assert result["verdict"] in ("behaviour shown", "no change detected"), result["reasons"]
    assert result["reasons"] and result["seconds"] > 0
    assert result["prompts_identical"] and result["sham_identical"] and result["leaks"] == []
    assert result["arms"]["treated"]["volatility_mean"] <= result["budget"]
    assert result["arms"]["sham"]["volatility_mean"] == 0
    assert result["arms"]["sham"]["mean_score"] == result["arms"]["base"]["mean_score"]
    for arm in result["arms"].values():
        assert {"n", "rate", "rate_interval", "mean_score", "p", "volatility_mean", "leaks"} <= arm.keys()
    assert Path(result["report"]).read_text(encoding="utf-8").count("<svg") >= 2
