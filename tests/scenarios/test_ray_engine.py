"""The engine on Ray: the records of playing here, whatever dies on the way; errors come back as themselves."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import byte_tokenizer, tiny_module

from overlay.errors import ArgumentError, DocumentError, ModelUnavailable, ScenarioError, WrongBaseModel
from overlay.model import Direction, Dose, Intervention, LanguageModel
from overlay.scenarios.cells import Arm, Cells, Group, Record, Unit
from overlay.scenarios.detectors import Instruments
from overlay.scenarios.engine import LocalEngine
from overlay.scenarios.episode import play_group
from overlay.scenarios.ray_engine import MOST_DEATHS, RayEngine, share_out
from overlay.scenarios.script import Scenario

HERE = Path(__file__).parent
ITEMS = 4
PLACES = "OVERLAY_TEST_PLACES"
"""Where the players of these tests, in the actors, find what they note down."""

# --- what actors play with ---------------------------------------------------------------------------


def player(group: Group, model: Any, instruments: Any) -> list[Record]:
    """Plays a group, or does what its arm is named after; notes down who was given it."""
    arm, places = group.arm.name, Path(os.environ[PLACES])
    with (places / arm).open("a") as file:
        file.write(f"{os.getpid()}\n")
    if arm == "deadly" or (arm == "fragile" and len(players(places, arm)) == 1):
        os.kill(os.getpid(), 9)
    if arm == "wrong":
        raise DocumentError(Path("scripts/a.yaml"), 7, "is wrong here", "mend it")
    if arm == "broken":
        raise ZeroDivisionError("a mistake of ours")
    return play_group(group, model, instruments)


def players(places: Path, *arms: str) -> list[int]:
    """The processes that were given groups of these arms, one entry a group."""
    return [int(line) for arm in arms for line in (places / arm).read_text().splitlines()]


# --- what is played ----------------------------------------------------------------------------------


def script() -> Scenario:
    items = [
        {
            "id": f"item-{number}",
            "resources": {"logs": 12},
            "paraphrases": [f"There are 12 logs at place {number}.", f"Place {number} has 12 logs."],
            "options": [
                {"id": "give", "text": f"I give {number + 1} away.", "effects": {"logs": -1 - number}},
                {"id": "keep", "text": "I keep all of it."},
            ],
        }
        for number in range(ITEMS)
    ]
    return Scenario(
        **{
            "name": "toy",
            "description": "For tests.",
            "axes": ["vowels"],
            "exposure": ["A text."],
            "trial": {
                "setting": "You keep the stores.",
                "items": items,
                "steps": [{"choose": {}}, {"free": {"asks": "Say why.", "max_tokens": 5, "temperature": 0.8}}],
            },
            "detectors": [{"name": "gave", "kind": "ledger", "spent_at_least": 1}],
            "primary": "gave",
            "probes": None,
        }
    )


def steered(seed: int) -> Intervention:
    vectors = np.random.default_rng(seed).standard_normal((3, 32)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Intervention((Dose(Direction(f"random-{seed}", vectors, np.full(3, 4.0, np.float32)), 0.5, (1, 2)),))


def groups() -> list[Group]:
    scenario = script()
    arms = [
        Arm("base", "Base"),
        Arm("treated", "Treated", steered(1)),
        Arm("sham", "Sham", steered(1) * 0.0),
    ]
    return [
        Group(scenario, arm, tuple(Unit(f"item-{number}", wording) for wording in (0, 1)))
        for arm in arms
        for number in range(ITEMS)
    ]


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="watches processes through /proc")


def label(group: Group) -> tuple[str, str]:
    return group.arm.name, group.units[0].item


def by_label(played: Iterator[tuple[Group, list[Record]]]) -> dict[tuple[str, str], list[Record]]:
    found = [(label(group), records) for group, records in played]
    assert len(dict(found)) == len(found), "a group came twice"
    # As they are written, a tuple is a list.
    return {name: json.loads(json.dumps(records)) for name, records in found}


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ray-model")
    tiny_module("llama").save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def model(model_folder: Path, one_thread: None) -> LanguageModel:
    return LanguageModel.load(str(model_folder), dtype="float32")


@pytest.fixture(scope="module")
def here(model: LanguageModel) -> dict[tuple[str, str], list[Record]]:
    """The records of playing on this machine."""
    return by_label(LocalEngine(model, Instruments(model=model)).play(groups()))


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Ray cluster that engines find connected; and where players note things down."""
    import ray

    places = tmp_path_factory.mktemp("places")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        patch.setenv(PLACES, str(places))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), str(HERE.parent)]))
        started = ray.init(
            address="local", num_cpus=3, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20
        )
        yield places
        ray.shutdown()
        shutil.rmtree(started.address_info["session_dir"], ignore_errors=True)


@pytest.fixture(scope="module")
def two_actors(places: Path, model_folder: Path, model: LanguageModel) -> Iterator[RayEngine]:
    """An engine that all tests share: an actor takes seconds to start."""
    with RayEngine(
        str(model_folder), "float32", expects=model.digest, threads=1, player=f"{__name__}.player"
    ) as engine:
        yield engine


# --- a killed driver: first, for what is left of it takes a minute to go -----------------------------

DRIVER = """
import sys
from pathlib import Path

from overlay.scenarios.cells import Cells
from overlay.scenarios.ray_engine import RayEngine
from test_ray_engine import groups

folder, out, name = sys.argv[1:]
cells = Cells(Path(out))
with RayEngine(folder, "float32", threads=1) as engine:
    print(engine.session, flush=True)
    for group, records in engine.play(groups()):
        for unit, record in zip(group.units, records, strict=True):
            cells.put(group.key(unit, name), record)
            print("cell", flush=True)
            sys.stdin.readline()
"""


def descendants(process: int) -> set[int]:
    """All processes that a process has started, and those that they have."""
    listed = [path.read_text() for path in Path(f"/proc/{process}/task").glob("*/children")]
    found = {int(child) for one in listed for child in one.split()}
    return found.union(*(descendants(child) for child in found))


def require_end(handles: dict[int, int], seconds: int = 30) -> None:
    """Wait for processes, by number and handle, to be gone."""
    assert handles
    for number, handle in handles.items():
        waiting = select.poll()
        waiting.register(handle, select.POLLIN)
        assert waiting.poll(seconds * 1000), f"process {number} is still there after {seconds} seconds"


@dataclass(frozen=True)
class Killed:
    """What a killed driver left: cells, under the name of the model, and the handles of the processes it had."""

    out: Path
    name: str
    kept: dict[str, bytes]
    cluster: dict[int, int]
    agents: dict[int, int]


@pytest.fixture(scope="module")
def killed(
    places: Path, model_folder: Path, model: LanguageModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Killed]:
    """A driver with a cluster of its own, killed when it had written three cells."""
    out, name = tmp_path_factory.mktemp("killed") / "cells", f"{model.digest} float32"
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(model_folder), str(out), name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as driver:
        assert driver.stdin and driver.stdout and driver.stderr
        session = Path(driver.stdout.readline().strip())
        for number in range(3):
            assert driver.stdout.readline() == "cell\n", driver.stderr.read()
            if number < 2:
                # The driver writes no other cell before it is told to.
                driver.stdin.write("\n")
                driver.stdin.flush()
        started = descendants(driver.pid)
        names = {number: Path(f"/proc/{number}/comm").read_text().strip() for number in started}
        handles = {number: os.pidfd_open(number) for number in started}
        assert {"raylet", "gcs_server"} <= set(names.values())
        assert sum(name.startswith("ray::_Player") for name in names.values()) == 2, names
        driver.kill()
        assert driver.stderr.read() == "", "Ray isn't quiet"
    agents = {number for number, name in names.items() if name.startswith(("ray::Dashboard", "ray::RuntimeEnv"))}
    yield Killed(
        out,
        name,
        {path.name: path.read_bytes() for path in out.iterdir()},
        {number: handle for number, handle in handles.items() if number not in agents},
        {number: handle for number, handle in handles.items() if number in agents},
    )
    for handle in handles.values():
        os.close(handle)
    shutil.rmtree(session, ignore_errors=True)


@linux
def test_a_killed_driver_takes_its_models_and_its_cluster_with_it(killed: Killed) -> None:
    require_end(killed.cluster)


# --- a cluster ---------------------------------------------------------------------------------------


def test_two_actors_give_the_records_of_playing_here_and_stay_for_the_next_groups(
    two_actors: RayEngine, places: Path, here: dict[tuple[str, str], list[Record]]
) -> None:
    assert len({record["margin"] for records in here.values() for record in records}) > ITEMS, "all records are alike"
    assert by_label(two_actors.play(groups())) == here
    last = groups()[-2:]
    assert by_label(two_actors.play(last)) == {label(group): here[label(group)] for group in last}
    assert len(players(places, "base", "treated", "sham")) == len(groups()) + 2
    # Under load the second actor may come when there is nothing left of so few groups.
    for _ in range(20):
        if len(set(players(places, "base", "treated", "sham"))) == 2:
            break
        list(two_actors.play(groups()))
    assert len(set(players(places, "base", "treated", "sham"))) == 2
    assert list(two_actors.play([])) == []


def test_a_killed_actor_loses_nothing(
    two_actors: RayEngine, places: Path, model: LanguageModel, here: dict[tuple[str, str], list[Record]]
) -> None:
    fragile = [Group(group.scenario, Arm("fragile", "Fragile"), group.units) for group in groups()[:ITEMS]]
    expected = here | by_label(LocalEngine(model, Instruments(model=model)).play(fragile))
    assert by_label(two_actors.play([*fragile, *groups()])) == expected
    assert len(players(places, "fragile")) == ITEMS + 1


def test_errors_come_back_as_themselves_and_cost_no_actor(two_actors: RayEngine, places: Path) -> None:
    group = groups()[0]
    with pytest.raises(DocumentError) as caught:
        list(two_actors.play([Group(group.scenario, Arm("wrong", "Wrong"), group.units)]))
    assert type(caught.value) is DocumentError
    assert (caught.value.path, caught.value.line) == (Path("scripts/a.yaml"), 7)
    assert str(caught.value) == "scripts/a.yaml:7: is wrong here\n  -> mend it"
    with pytest.raises(ZeroDivisionError) as other:
        list(two_actors.play([Group(group.scenario, Arm("broken", "Broken"), group.units)]))
    assert type(other.value) is ZeroDivisionError
    list(two_actors.play([group]))
    assert players(places, "base")[-1:] == players(places, "wrong") == players(places, "broken")


def test_another_model_is_refused_and_one_that_never_comes_up_is_not_waited_for(
    places: Path, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RayEngine(str(model_folder), "float32", actors=1, threads=1, expects="0" * 64) as engine:
        with monkeypatch.context() as patch:
            patch.setattr("overlay.scenarios.ray_engine.PATIENCE", 0.0)
            with pytest.raises(ScenarioError, match="no actor came up on Ray"):
                list(engine.play(groups()))
        for _ in range(2):
            with pytest.raises(WrongBaseModel, match="not 000000000000 as here"):
                list(engine.play(groups()))
    with RayEngine(str(tmp_path), "float32", actors=1, threads=1) as engine:
        with pytest.raises(ModelUnavailable) as caught:
            list(engine.play(groups()))
        assert type(caught.value) is ModelUnavailable


def test_a_cluster_without_room_and_another_address_are_refused_at_once(places: Path) -> None:
    with pytest.raises(ArgumentError, match="4 actors of 1 threads don't fit a Ray cluster of 3 cores"):
        RayEngine("any", "float32", actors=4).__enter__()
    with pytest.raises(ArgumentError, match=r"connected to the Ray cluster at .*, not 192\.0\.2\.1:1"):
        RayEngine("any", "float32", address="192.0.2.1:1").__enter__()


@linux
def test_a_killed_driver_resumes_to_the_cells_of_an_uninterrupted_run(
    two_actors: RayEngine, killed: Killed, here: dict[tuple[str, str], list[Record]]
) -> None:
    cells = Cells(killed.out)
    assert len(killed.kept) == 3 < sum(len(group.units) for group in groups())
    missing = [
        group for group in groups() if any(cells.get(group.key(unit, killed.name)) is None for unit in group.units)
    ]
    assert len(missing) == len(groups()) - 1
    for group, records in two_actors.play(missing):
        for unit, record in zip(group.units, records, strict=True):
            cells.put(group.key(unit, killed.name), record)
    for group in groups():
        for unit, record in zip(group.units, here[label(group)], strict=True):
            key = group.key(unit, killed.name)
            assert cells.get(key) == {"cell": key, **record}
    assert {name: (killed.out / name).read_bytes() for name in killed.kept} == killed.kept


# --- what costs the crew its actors: last, for new ones take seconds ---------------------------------


def test_a_group_that_kills_every_actor_is_named(two_actors: RayEngine, places: Path) -> None:
    group = groups()[0]
    with pytest.raises(ScenarioError, match="arm 'deadly' in scenario 'toy' with item-0 killed 3 actors"):
        list(two_actors.play([Group(group.scenario, Arm("deadly", "Deadly"), group.units)]))
    assert len(set(players(places, "deadly"))) == len(players(places, "deadly")) == MOST_DEATHS


@linux
def test_closing_the_iterator_kills_whoever_still_plays(
    two_actors: RayEngine, places: Path, here: dict[tuple[str, str], list[Record]]
) -> None:
    for arm in ("base", "treated", "sham"):
        (places / arm).unlink()
    iterator = two_actors.play(groups())
    group, records = next(iterator)
    assert json.loads(json.dumps(records)) == here[label(group)], "the engine plays on after a deadly group"
    (process,) = set(players(places, "base"))
    watched = {process: os.pidfd_open(process)}
    with pytest.raises(ScenarioError, match="playing already"):
        next(two_actors.play(groups()))
    iterator.close()
    require_end(watched)
    os.close(watched[process])


@linux
def test_nothing_is_left_of_a_killed_driver_in_the_end(killed: Killed) -> None:
    # Ray's two agents try for a minute to tell the dead cluster that it died: the other tests pass the time.
    require_end(killed.agents, seconds=120)


# --- without a cluster -------------------------------------------------------------------------------


def test_without_ray_the_command_that_gets_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ScenarioError, match=r"ray isn't installed\n  -> pip install 'overlay-agent\[ray\]'"):
        RayEngine("any", "float32").__enter__()


def test_an_engine_that_is_not_open_says_so_and_nobody_is_no_crew() -> None:
    with pytest.raises(ScenarioError, match="isn't open"):
        next(RayEngine("any", "float32").play(groups()))
    with pytest.raises(ArgumentError, match="0 actors"):
        RayEngine("any", "float32", actors=0)
    with pytest.raises(ArgumentError, match="0 threads"):
        RayEngine("any", "float32", threads=0)


@pytest.mark.parametrize(
    ("machines", "actors", "share"),
    [
        ([(2, 0)], 2, (1, 0)),
        ([(8, 0)], 2, (4, 0)),
        ([(8, 0)], 3, (2, 0)),
        ([(4, 0), (4, 0)], 1, (4, 0)),
        ([(3, 0), (3, 0)], 3, (1, 0)),
        ([(8, 1)], 2, (4, 0.5)),
        ([(8, 2)], 3, (2, 0.5)),
        ([(8, 4)], 2, (4, 1)),
        ([(64, 0), (8, 1)], 2, (4, 0.5)),
    ],
)
def test_actors_share_the_machines_equally_and_all_fit(
    machines: list[tuple[int, int]], actors: int, share: tuple[int, float]
) -> None:
    assert share_out(machines, actors) == share


def test_what_does_not_fit_is_refused() -> None:
    for machines, actors, threads in [([(2, 0)], 3, None), ([(4, 0)], 2, 3), ([], 1, None)]:
        with pytest.raises(ArgumentError, match="use fewer actors"):
            share_out(machines, actors, threads)
