"""What PEFT warns of and nobody needs to hear."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def without_peft_warnings() -> Iterator[None]:
    """Silence PEFT while it lays an adapter beside a model.

    It still asks transformers for a property that was renamed. It warns that a tied head can't be merged into the
    base, and nothing is merged here; and that a head lies the other way round than the blocks' layers, which it sees
    to itself.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.filterwarnings("ignore", message=".*(tie_word_embeddings|fan_in_fan_out)", category=UserWarning)
        yield
