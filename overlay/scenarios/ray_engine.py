"""The engine that plays groups on Ray: resident models on this machine or on a cluster."""

from __future__ import annotations

import contextlib
import importlib
import logging
import math
import os
import pkgutil
import shutil
import signal
import threading
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import overlay
from overlay.errors import ArgumentError, ModelUnavailable, OverlayError, ScenarioError, WrongBaseModel
from overlay.scenarios.cells import Group, Record

PLAYER = "overlay.scenarios.episode.play_group"
"""What plays a group, as an import path: `(group, model, instruments) -> list[Record]`."""

LONGEST_QUEUE = 2
"""Groups that an actor has at once: one that it plays, and one that it goes on with while the records travel."""

MOST_DEATHS = 3
"""Actors that may die of one group: machines fail now and then, but a group that kills three will kill the fourth."""

STORE_BYTES = 200 * 2**20
"""Object store of a cluster of our own: scripts and directions are small, Ray's default is a third of the memory."""

PATIENCE = 900.0
"""Seconds in which the first actor must have its model; a cluster without a free place would be waited for forever."""


class RayEngine:
    """Plays groups on actors that each keep the model loaded; a context manager.

    An actor that dies is replaced, and what it was given is played again. Without `address`, a cluster of its own is
    started on this machine. It ends with the engine, and models and servers end with a killed driver too (two small
    agents of Ray notice it a minute later). A cluster that was there before, or a Ray that this process has connected
    already, is left running; only the actors go.

    Numbers: the same group on the same kind of machine gives the records of the local engine bit for bit only if
    `threads` equals that engine's thread count, for the order in which a sum is split over threads changes its
    rounding. Actors split the cores between them, so by default they differ from a local engine that has them all.
    Other processors, or another library version on a node, round differently as well.

    Args:
        model: a model's name or folder, which must mean the same on every machine; nothing is fetched.
        dtype: number format of the weights; "auto" is decided on the driver's machine, so that all actors agree.
        embedder: name or folder of the sentence embedder that detectors use, if any.
        adapters: trained adapters to attach, by name; the folders must be there on every machine.
        actors: how many models are kept loaded.
        address: a Ray cluster, such as "10.0.0.5:6379" or "auto".
        expects: the digest that the model must have.
        forbidden: words whose naming detectors look for.
        threads: threads of each actor; the cores of the cluster shared equally when not given.
        player: the import path of what plays a group.

    Raises:
        ArgumentError: no actors, or more than the cluster has cores for.
        ScenarioError: Ray isn't installed, or no cluster answers at the address.
    """

    def __init__(
        self,
        model: str,
        dtype: str,
        *,
        embedder: str | None = None,
        adapters: Mapping[str, Path] | None = None,
        actors: int = 2,
        address: str | None = None,
        expects: str | None = None,
        forbidden: Sequence[str] = (),
        threads: int | None = None,
        player: str = PLAYER,
    ) -> None:
        if actors < 1:
            raise ArgumentError(f"{actors} actors", "give at least one")
        if threads is not None and threads < 1:
            raise ArgumentError(f"{threads} threads for each actor", "give at least one")
        self._model = model
        self._dtype = dtype
        self._embedder = embedder
        self._adapters = {name: str(folder) for name, folder in (adapters or {}).items()}
        self._actors = actors
        self._address = address
        self._expects = expects
        self._forbidden = tuple(forbidden)
        self._threads = threads
        self._player = player
        self._ray: Any = None
        self._recruit: Any = None
        self._connected = False
        self.session: Path | None = None
        """Where a cluster of our own keeps its logs; they are removed after a run without an error."""
        self._setting: tuple[Any, ...] = ()
        self._crew: list[_Seat] = []
        self._false_starts = 0

    def __enter__(self) -> RayEngine:
        self._ray = _import_ray()
        try:
            self._connect()
            self._recruit = self._recruiter()
            self._staff()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._close()
        if kind is None and self.session is not None:
            # Ray never clears its logs away; after a failure they are what tells why.
            shutil.rmtree(self.session, ignore_errors=True)

    def play(self, groups: Sequence[Group]) -> Iterator[tuple[Group, list[Record]]]:
        """Each group with one record per unit, as they are done.

        Closing the iterator, Ctrl-C or an error kills the actors that were still playing.

        Raises:
            WrongBaseModel: an actor's model isn't the expected one.
            ScenarioError: three actors died of the same group, or of loading the model; an actor runs another version
                of this program; or the engine isn't open, or is playing already.
            OverlayError: whatever an actor met, as itself.
        """
        if self._ray is None:
            raise ScenarioError("the engine isn't open", "play inside `with RayEngine(…) as engine:`")
        if any(seat.given for seat in self._crew):
            raise ScenarioError("this engine is playing already", "end or close the other iterator first")
        shelf = _Shelf(self._ray)
        waiting, deaths, left = deque(range(len(groups))), Counter[int](), len(groups)
        try:
            while left:
                self._staff()
                self._hand_out(groups, waiting, shelf)
                seat = self._next_ready()
                try:
                    answer = self._ray.get(seat.head)
                except self._ray.exceptions.RayTaskError as error:
                    if seat.greeting is None:
                        seat.given.popleft()
                    raise error.cause from error
                except self._ray.exceptions.RayError as error:
                    self._bury(seat, error, groups, waiting, deaths)
                    continue
                if seat.greeting is not None:
                    if isinstance(answer, _Failure):
                        raise answer.error()
                    self._check(answer)
                    seat.greeting = None
                    continue
                number, _ = seat.given.popleft()
                if isinstance(answer, _Failure):
                    raise answer.error()
                left -= 1
                yield groups[number], answer
        finally:
            if any(seat.given for seat in self._crew):
                self._dismiss()

    # --- the cluster -----------------------------------------------------------------------------

    def _connect(self) -> None:
        ray = self._ray
        if ray.is_initialized():
            if self._address not in (None, "auto", here := ray.get_runtime_context().gcs_address):
                raise ArgumentError(
                    f"this process is connected to the Ray cluster at {here}, not {self._address}",
                    "leave the address out, or call ray.shutdown() first",
                )
            return
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        with _own_sigterm():
            if self._address is not None:
                try:
                    ray.init(address=self._address, **quiet)
                except (ConnectionError, ValueError, TimeoutError) as error:
                    raise ScenarioError(
                        f"no Ray cluster answers at {self._address}: {str(error).strip().splitlines()[0]}",
                        "start one with `ray start --head`, or leave the address out to use this machine",
                    ) from error
                self._connected = True
                return
            places = max(_cores(), self._actors * (self._threads or 1))
            started = ray.init(
                address="local", num_cpus=places, include_dashboard=False, object_store_memory=STORE_BYTES, **quiet
            )
            self._connected = True
            self.session = Path(started.address_info["session_dir"])

    def _recruiter(self) -> Any:
        """The actor class with its share of the machines."""
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        machines = [(int(node.get("CPU", 0)), int(node.get("GPU", 0))) for node in nodes]
        threads, accelerator = share_out(machines, self._actors, self._threads)
        player = self._ray.remote(
            num_cpus=threads,
            num_gpus=accelerator,
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy="SPREAD",
        )(_Player)
        dtype = self._dtype
        if dtype == "auto":
            from overlay.model.hardware import best_device, best_dtype

            dtype = best_dtype(best_device())
        self._setting = (self._model, dtype, self._embedder, self._adapters, self._forbidden, threads, self._player)
        return player

    def _close(self) -> None:
        if self._ray is None:
            return
        self._dismiss()
        if self._connected:
            self._ray.shutdown()
        self._ray, self._recruit, self._connected = None, None, False

    # --- the crew --------------------------------------------------------------------------------

    def _staff(self) -> None:
        """Fill empty places; the new ones load the model while others play."""
        while len(self._crew) < self._actors:
            actor = self._recruit.remote(*self._setting)
            self._crew.append(_Seat(actor, actor.ready.remote()))

    def _dismiss(self) -> None:
        for seat in self._crew:
            self._ray.kill(seat.actor)
        self._crew.clear()

    def _hand_out(self, groups: Sequence[Group], waiting: deque[int], shelf: _Shelf) -> None:
        for length in range(LONGEST_QUEUE):
            for seat in self._crew:
                # The last groups are kept for whoever is free first: none of them waits behind a long one.
                if seat.greeting is None and len(seat.given) == length and len(waiting) > length * self._actors:
                    group = groups[number := waiting.popleft()]
                    scenario, arm = shelf.put(group.scenario), shelf.put(group.arm)
                    seat.given.append((number, seat.actor.play.remote(scenario, arm, group.units)))

    def _next_ready(self) -> _Seat:
        """The actor that has answered what it was asked first."""
        heads = {seat.head: seat for seat in self._crew if seat.head is not None}
        loading = all(seat.greeting is not None for seat in self._crew)
        ready, _ = self._ray.wait(list(heads), num_returns=1, timeout=PATIENCE if loading else None)
        if not ready:
            raise ScenarioError(
                f"in {PATIENCE / 60:.0f} minutes no actor came up on Ray",
                "`ray status` says what the cluster is busy with; use fewer actors, or another cluster",
            )
        return heads[ready[0]]

    def _check(self, found: _Loaded) -> None:
        self._false_starts = 0
        if found.version != overlay.__version__:
            raise ScenarioError(
                f"{found.machine} runs version {found.version} of overlay-agent, this machine {overlay.__version__}",
                "install the same version on all machines of the cluster",
            )
        if self._expects is not None and found.digest != self._expects:
            raise WrongBaseModel(
                f"'{self._model}' is {found.digest[:12]} on {found.machine}, not {self._expects[:12]} as here",
                "put the same model on all machines of the cluster",
            )

    def _bury(
        self, seat: _Seat, error: Exception, groups: Sequence[Group], waiting: deque[int], deaths: Counter[int]
    ) -> None:
        """Take a dead actor out. Its groups go back in front; only the one that it was playing is to blame."""
        self._crew.remove(seat)
        self._ray.kill(seat.actor)
        numbers = [number for number, _ in seat.given]
        waiting.extendleft(reversed(numbers))
        reason = str(error).strip().splitlines()[-1].strip()[:300]
        if seat.greeting is not None:
            self._false_starts += 1
            if self._false_starts >= MOST_DEATHS:
                raise ScenarioError(
                    f"{MOST_DEATHS} actors in a row died while they loaded '{self._model}': {reason}",
                    "use fewer actors if memory is short, and install overlay-agent on every machine of the cluster",
                )
            return
        deaths[numbers[0]] += 1
        if deaths[numbers[0]] >= MOST_DEATHS:
            raise ScenarioError(
                f"{_described(groups[numbers[0]])} killed {MOST_DEATHS} actors one after the other: {reason}",
                "use fewer actors if memory is short, or play it without Ray to see what it does",
            )


def share_out(machines: Sequence[tuple[int, int]], actors: int, threads: int | None = None) -> tuple[int, float]:
    """Each actor's threads, and its share of an accelerator, on machines of (cores, accelerators).

    Where there are accelerators, all actors get one or an equal part of one: numbers from both kinds of machine would
    not agree. Raises ArgumentError.
    """
    accelerators = sum(count for _, count in machines)
    each = math.ceil(actors / accelerators) if accelerators else 0

    def fits(asked: int) -> bool:
        places = (min(cores // asked, count * each) if each else cores // asked for cores, count in machines)
        return sum(places) >= actors

    most = max((cores for cores, _ in machines), default=0)
    for asked in range(most, 0, -1) if threads is None else (threads,):
        if fits(asked):
            return asked, 1 / each if each else 0.0
    raise ArgumentError(
        f"{actors} actors of {threads or 1} threads don't fit a Ray cluster of {sum(cores for cores, _ in machines)} "
        "cores",
        "use fewer actors",
    )


# --- the driver's side ---------------------------------------------------------------------------


@dataclass(eq=False)
class _Seat:
    """An actor, and what it was given and hasn't answered: the call in which it loads, then groups, oldest first."""

    actor: Any
    greeting: Any
    given: deque[tuple[int, Any]] = field(default_factory=deque)

    @property
    def head(self) -> Any:
        """What it answers next, if anything."""
        return self.greeting if self.greeting is not None else self.given[0][1] if self.given else None


class _Shelf:
    """Scripts and arms in the object store, each put there once however many groups share it."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._places: dict[int, tuple[Any, Any]] = {}

    def put(self, value: Any) -> Any:
        if id(value) not in self._places:
            # The value is kept as well: its id would else be given to another one.
            self._places[id(value)] = (value, self._ray.put(value))
        return self._places[id(value)][1]


@contextlib.contextmanager
def _own_sigterm() -> Iterator[None]:
    """Ray takes over SIGTERM when it connects; what this process does on it is its own affair."""
    ours = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread() and ours is not None:
            signal.signal(signal.SIGTERM, ours)


def _import_ray() -> Any:
    # Usage statistics would leave this machine; the other is a warning that Ray gives about itself.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise ScenarioError("the package ray isn't installed", "pip install 'overlay-agent[ray]'") from error


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _described(group: Group) -> str:
    items = ", ".join(dict.fromkeys(unit.item for unit in group.units))
    return f"the group of arm '{group.arm.name}' in scenario '{group.scenario.name}' with {items}"


# --- the actor's side ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Loaded:
    """What an actor has loaded, and where."""

    digest: str
    version: str
    machine: str


@dataclass(frozen=True)
class _Failure:
    """An error on its way: Ray would wrap it, and pickle can't rebuild those with arguments of their own."""

    kind: type[OverlayError]
    arguments: tuple[Any, ...]
    content: dict[str, Any]

    @classmethod
    def of(cls, error: OverlayError) -> _Failure:
        return cls(type(error), error.args, dict(error.__dict__))

    def error(self) -> OverlayError:
        error = self.kind.__new__(self.kind, *self.arguments)
        error.__dict__.update(self.content)
        return error


class _Player:
    """The actor: a model that stays loaded, and what plays groups with it."""

    def __init__(
        self,
        model: str,
        dtype: str,
        embedder: str | None,
        adapters: dict[str, str],
        forbidden: tuple[str, ...],
        threads: int,
        player: str,
    ) -> None:
        # Nothing that can fail is done here: Ray reports an error of this method as a death without its cause.
        self._setting = (model, dtype, embedder, adapters, forbidden, threads, player)

    def ready(self) -> _Loaded | _Failure:
        """Load everything."""
        import platform

        import torch

        from overlay.model import LanguageModel, resolve_embedder
        from overlay.scenarios.detectors import Instruments

        name, dtype, embedder_name, adapters, forbidden, threads, player = self._setting
        torch.set_num_threads(threads)
        try:
            model = LanguageModel.load(name, dtype=dtype, pull=False)
            for adapter, folder in adapters.items():
                model.attach(adapter, Path(folder))
            embedder = None
            if embedder_name is not None:
                from overlay.memory import SentenceEmbedder

                source = resolve_embedder(embedder_name, pull=False)
                if source.path is None:
                    raise ModelUnavailable(
                        f"the embedder '{embedder_name}' isn't on {platform.node()}", "fetch it there, or name a folder"
                    )
                embedder = SentenceEmbedder(source.path, embedder_name)
        except OverlayError as error:
            return _Failure.of(error)
        self._model = model
        self._instruments = Instruments(model=model, embedder=embedder, forbidden=forbidden)
        self._play = pkgutil.resolve_name(player)
        return _Loaded(model.digest, overlay.__version__, platform.node())

    def play(self, scenario: Any, arm: Any, units: Any) -> list[Record] | _Failure:
        """The records of a group."""
        try:
            return list(self._play(Group(scenario, arm, units), self._model, self._instruments))
        except OverlayError as error:
            return _Failure.of(error)
