"""The taught adapter: what a walk ended with, as a folder that the adapter library accepts."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from overlay.adapters import Adapter, AdapterLibrary, example_digest
from overlay.errors import AdapterError
from overlay.model import Volatility
from overlay.records import replace_folder, storage_errors, write_record
from overlay.teaching.curriculum import Curriculum
from overlay.teaching.pupil import Pupil
from overlay.teaching.standing import Standing

MANIFEST = "manifest.json"


def require_place(library: AdapterLibrary, name: str) -> None:
    """Raise AdapterError where an adapter of this name was not taught; ArgumentError if it can't be a name."""
    folder = library.built / name
    if (folder / MANIFEST).is_file() and library.load(name).origin == "taught":
        return
    library.require_free(name)


def save_taught(
    pupil: Pupil,
    curriculum: Curriculum,
    standing: Standing,
    library: AdapterLibrary,
    name: str,
    margins: tuple[Sequence[float], Sequence[float]],
    volatility: Volatility,
) -> Adapter:
    """Write what the pupil is now to the library, in place of what was taught under this name before.

    Args:
        margins: of the held-out probes, under the base and under what was taught.

    Raises:
        StorageFull
    """
    good = standing.good
    learned = [one for one in curriculum.examples if one.id in good.learned]
    before, after = [sum(one > 0 for one in found) / len(found) if found else None for found in margins]
    final = library.built / name
    with storage_errors(final):
        library.built.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=library.built) as place:
            # The folder that is renamed lies inside, so that what remains is always cleaned up.
            made = Path(place) / name
            weights_sha256, config_sha256 = pupil.fitting.save(made)
            adapter = Adapter(
                name=name,
                folder=final,
                aim=curriculum.about,
                recipe_digest="",
                curriculum_digest=curriculum.digest,
                base_model=pupil.model.name,
                base_digest=pupil.model.digest,
                dtype=pupil.model.dtype,
                weights_sha256=weights_sha256,
                config_sha256=config_sha256,
                held_out=len(margins[0]),
                accuracy_before=before,
                accuracy_after=after,
                volatility_mean=volatility.mean,
                volatility_p95=volatility.p95,
                replay_kl=good.replay_kl,
                steps=good.steps,
                ended="curriculum",
                seconds=standing.seconds,
                seed=curriculum.teaching.seed,
                origin="taught",
                made_at=standing.made_at,
                examples=tuple(example_digest(one.example()) for one in learned),
            )
            write_record(made / MANIFEST, adapter.manifest())
            replace_folder(made, final, Path(place) / "replaced")
    return adapter


def require_learned(curriculum: Curriculum, standing: Standing) -> None:
    """Raise AdapterError where a walk ended with what it began with."""
    if standing.good.steps:
        return
    settings, given_up = curriculum.teaching, ", ".join(standing.given_up)
    raise AdapterError(
        f"nothing of '{curriculum.name}' could be learned within {settings.budget:g} nats per token on replay text and "
        f"{settings.sag:g} for each cell of probes{f' (given up: {given_up})' if given_up else ''}",
        "raise budget or sag, lower learning_rate, or raise anchor",
    )
