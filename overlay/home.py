"""A home: the folder an agent lives in, with what people wrote and what the program keeps."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated

from pydantic import Field

from overlay.adapters import AdapterLibrary
from overlay.axes import AxisLibrary
from overlay.documents import Document, read_document
from overlay.errors import HomeError
from overlay.inner import DialogueSettings, StateSettings
from overlay.memory import MemorySettings
from overlay.model import Sampling
from overlay.records import storage_errors
from overlay.reprogramming_settings import ReprogrammingSettings

CONTENT_FOLDERS = ("memory", "adapters", "scenarios")


class ReplySettings(Document):
    """How replies are sampled."""

    max_tokens: Annotated[int, Field(ge=1, le=8192)] = 160
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.7
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.92

    @property
    def sampling(self) -> Sampling:
        """The same as the model room takes it."""
        return Sampling(self.max_tokens, self.temperature, self.top_p)


class RecallSettings(Document):
    """How many notes a turn may recall, and how many of the last messages the reply's context holds."""

    count: Annotated[int, Field(ge=0, le=20)] = 3
    history: Annotated[int, Field(ge=0, le=100)] = 8


class WornAdapter(Document):
    """An adapter that the agent wears all the time."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    scale: Annotated[float, Field(ge=-2, le=2)] = 1.0


class ModuleSettings(Document):
    """Modules of meaning in a reply's context: those that bring the model nearest to an aim, query by query.

    Attributes:
        aim: adapter:NAME, adapter:NAME@SCALE, axis:NAME or axis:NAME@DOSE.
        tokens: of context that they may take.
    """

    aim: Annotated[str, Field(pattern=r"^(adapter|axis):[a-z][a-z0-9_]*(@-?\d+(\.\d+)?)?$")]
    tokens: Annotated[int, Field(ge=1, le=1024)] = 64


class AgentSettings(Document):
    """agent.yaml: everything about an agent that a person decides.

    `budget` is the volatility, nats per token, that all interventions together may cost.
    """

    name: Annotated[str, Field(min_length=1)]
    model: str = "smollm2-135m"
    embedder: str = "minilm-l6-v2"
    system: str
    budget: Annotated[float, Field(gt=0, le=2)] = 0.15
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    state: StateSettings = StateSettings()
    dialogue: DialogueSettings = DialogueSettings()
    memory: MemorySettings = MemorySettings()
    recall: RecallSettings = RecallSettings()
    reply: ReplySettings = ReplySettings()
    adapter: WornAdapter | None = None
    modules: ModuleSettings | None = None
    reprogramming: ReprogrammingSettings | None = None


@dataclass(frozen=True)
class Home:
    """The paths of one home and the settings read from its agent.yaml."""

    folder: Path
    settings: AgentSettings

    @classmethod
    def open(cls, folder: Path | str) -> Home:
        """Read the home in `folder`.

        Raises:
            HomeError: there is no home. DocumentError: agent.yaml is wrong, with its line.
        """
        folder = Path(folder).expanduser().resolve()
        if not (folder / "agent.yaml").is_file():
            raise HomeError(
                f"{folder} is no home: it has no agent.yaml",
                "make one with `overlay init DIR`, or name one with --home",
            )
        return cls(folder, read_document(folder / "agent.yaml", AgentSettings))

    @property
    def lived(self) -> Path:
        """What the program writes."""
        return self.folder / ".overlay"

    @property
    def notes(self) -> Path:
        """The vault of notes that people wrote."""
        return self.folder / "memory" / "notes"

    @property
    def frames(self) -> Path:
        """Reasoning frames, one YAML file each."""
        return self.folder / "memory" / "frames"

    @property
    def voices(self) -> Path:
        """Voices of the inner dialogue, one YAML file each."""
        return self.folder / "memory" / "voices"

    @property
    def scenarios(self) -> Path:
        """Scenario scripts."""
        return self.folder / "scenarios"

    @property
    def probes(self) -> Path:
        """Banks of probes, one YAML file each."""
        return self.folder / "adapters" / "probes"

    @property
    def curricula(self) -> Path:
        """Graphs of examples and probes that `overlay teach` walks, one YAML file each."""
        return self.folder / "adapters" / "curricula"

    @property
    def prompts(self) -> Path:
        """Prompt modules, one YAML file each."""
        return self.folder / "adapters" / "prompts"

    @property
    def learned_frames(self) -> Path:
        """What links between frames weigh beside what is written."""
        return self.lived / "frames.json"

    @property
    def calibrated_frames(self) -> Path:
        """What nearness to the frames' cues means with this embedder; derived."""
        return self.lived / "frame_calibration.json"

    @property
    def sessions(self) -> Path:
        """One journal of turns a session."""
        return self.lived / "sessions"

    @property
    def runs(self) -> Path:
        """One folder a scenario run."""
        return self.lived / "runs"

    @property
    def maps(self) -> Path:
        """Maps of intervention, one folder a model."""
        return self.lived / "maps"

    @property
    def teaching(self) -> Path:
        """One folder a curriculum: its journal and its last checkpoint."""
        return self.lived / "teaching"

    @property
    def equivalences(self) -> Path:
        """What prompts were measured to stand in for."""
        return self.lived / "equivalence"

    @property
    def levels(self) -> Path:
        """Measurements of the four levels of influence, one folder an axis."""
        return self.lived / "levels"

    @property
    def axes(self) -> AxisLibrary:
        """Axes written in adapters/steering, built in .overlay/axes."""
        return AxisLibrary(self.folder / "adapters" / "steering", self.lived / "axes")

    def require_unworn(self, adapter: str) -> None:
        """Raise HomeError where something in this home asks for an adapter, so that it can't be missing."""
        if wearer := self._wearer(adapter):
            raise HomeError(f"{wearer} asks for the adapter '{adapter}'", "take it out there first")

    def _wearer(self, adapter: str) -> str:
        """What asks for an adapter; empty if nothing does."""
        from overlay.frames import read_frames

        settings = self.settings
        if settings.adapter and settings.adapter.name == adapter:
            return "agent.yaml, under `adapter`,"
        if any(one.adapter == adapter for one in settings.state.fades_in):
            return "agent.yaml, under `state.fades_in`,"
        if settings.modules and settings.modules.aim.partition("@")[0] == f"adapter:{adapter}":
            return "agent.yaml, under `modules`,"
        wanting = [one.name for one in read_frames(self.frames) if one.adapter and one.adapter.name == adapter]
        return f"the frame '{wanting[0]}'" if wanting else ""

    @cached_property
    def adapters(self) -> AdapterLibrary:
        """Adapters written in adapters/lora, trained in .overlay/adapters; it remembers what it made resident."""
        return AdapterLibrary(self.folder / "adapters" / "lora", self.lived / "adapters")


def stock_folder() -> Path:
    """Where the stock home lies: inside an installed package, or at the root of a source checkout."""
    packaged = Path(str(resources.files("overlay"))) / "stock"
    return packaged if packaged.is_dir() else Path(str(resources.files("overlay"))).parent


def create_home(folder: Path | str) -> Home:
    """Copy the stock home into a folder that is empty or doesn't exist yet.

    Raises:
        HomeError: the folder holds something already, and nothing in it was touched; or it can't be made.
        StorageFull: the disk is full; nothing is left behind.
    """
    folder = Path(folder).expanduser().resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise HomeError(f"{folder} isn't an empty folder", "choose a new name, or empty it first")
    was_there = folder.exists()
    with storage_errors(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError, PermissionError) as error:
            raise HomeError(f"{folder} can't be made: {error.strerror}", "choose a place you may write to") from error
        try:
            for name in CONTENT_FOLDERS:
                shutil.copytree(stock_folder() / name, folder / name, copy_function=_copy)
            _copy(stock_folder() / "agent.yaml", folder / "agent.yaml")
        except BaseException:
            for name in CONTENT_FOLDERS:
                shutil.rmtree(folder / name, ignore_errors=True)
            (folder / "agent.yaml").unlink(missing_ok=True)
            if not was_there:
                with contextlib.suppress(OSError):
                    folder.rmdir()
            raise
    return Home.open(folder)


def _copy(source: str | Path, target: str | Path) -> None:
    # copytree collects the errors of the system and raises them as one without a number: a full disk must be told.
    with storage_errors(Path(target)):
        shutil.copy2(source, target)
