"""The room of equivalence: could a prompt have done the same as an adapter, an axis or a state?

In go a treatment and queries; out comes a ladder of ever more costly prompts, each with E, the share of the
treatment's influence that it leaves undone, for each query, in-domain and on held-out queries. Modules of meaning go
in as well, and out come those that bring the model nearest to an aim on one query. Nothing that was chosen on a sample
is reported by it, and nothing stays on the model.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from overlay.equivalence.ladder_settings import LadderSettings
from overlay.equivalence.module import PromptModule, read_modules
from overlay.equivalence.prompt import NO_PROMPT, Prompt
from overlay.equivalence.query_set import QuerySet, Split, queries_for, queries_of, read_queries, shipped_queries
from overlay.equivalence.result import RUNGS, Equivalence, Rung
from overlay.equivalence.verdict import STANDS_IN, Verdict, verdict

if TYPE_CHECKING:
    from overlay.equivalence.kept_ladder import ladder_folder
    from overlay.equivalence.ladder import measure_equivalence
    from overlay.equivalence.page import COLUMNS, NOTE, equivalence_record, table_rows, write_page
    from overlay.equivalence.search import PromptSearch, Searched
    from overlay.equivalence.selection import (
        Aim,
        ChosenModule,
        LikelyTargets,
        ModuleChoice,
        Selection,
        TowardsTreatment,
        select_modules,
    )
    from overlay.equivalence.soft_prompt import SoftPrompt, measure_soft, train_soft_prompt
    from overlay.equivalence.target import Sample, Target

__all__ = [
    "COLUMNS",
    "NOTE",
    "NO_PROMPT",
    "RUNGS",
    "STANDS_IN",
    "Aim",
    "ChosenModule",
    "Equivalence",
    "LadderSettings",
    "LikelyTargets",
    "ModuleChoice",
    "Prompt",
    "PromptModule",
    "PromptSearch",
    "QuerySet",
    "Rung",
    "Sample",
    "Searched",
    "Selection",
    "SoftPrompt",
    "Split",
    "Target",
    "TowardsTreatment",
    "Verdict",
    "equivalence_record",
    "ladder_folder",
    "measure_equivalence",
    "measure_soft",
    "queries_for",
    "queries_of",
    "read_modules",
    "read_queries",
    "select_modules",
    "shipped_queries",
    "table_rows",
    "train_soft_prompt",
    "verdict",
    "write_page",
]

# These need torch or a plot: reading modules and queries does not.
_HEAVY = {
    "COLUMNS": "page",
    "NOTE": "page",
    "equivalence_record": "page",
    "table_rows": "page",
    "write_page": "page",
    "ladder_folder": "kept_ladder",
    "measure_equivalence": "ladder",
    "PromptSearch": "search",
    "Searched": "search",
    "Aim": "selection",
    "ChosenModule": "selection",
    "LikelyTargets": "selection",
    "ModuleChoice": "selection",
    "Selection": "selection",
    "TowardsTreatment": "selection",
    "select_modules": "selection",
    "SoftPrompt": "soft_prompt",
    "measure_soft": "soft_prompt",
    "train_soft_prompt": "soft_prompt",
    "Sample": "target",
    "Target": "target",
}


def __getattr__(name: str) -> Any:
    if name in _HEAVY:
        return getattr(importlib.import_module(f"overlay.equivalence.{_HEAVY[name]}"), name)
    raise AttributeError(f"module 'overlay.equivalence' has no attribute '{name}'")
