"""Query sets and modules of meaning: read with the line of every mistake, and picked by what they do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from equivalence.ladders import SPOKEN, spoken
from toy_axis import toy_contrast, write_contrast

from overlay.adapters import AdapterLibrary, read_recipe
from overlay.axes import AxisLibrary
from overlay.equivalence import (
    LikelyTargets,
    PromptModule,
    TowardsTreatment,
    queries_for,
    queries_of,
    read_modules,
    read_queries,
    select_modules,
    shipped_queries,
)
from overlay.errors import AdapterError, ArgumentError, DocumentError
from overlay.home import stock_folder
from overlay.model import Message


def anchor(name: str, text: str) -> PromptModule:
    return PromptModule(name=name, kind="anchor", about="a test", text=text)


MODULES = (anchor("other", "quite other words"), anchor("same", SPOKEN), anchor("third", "qu"))


def test_stock_modules_are_read_and_of_every_kind() -> None:
    modules = read_modules(stock_folder() / "adapters" / "prompts")
    assert len(modules) >= 10 and {module.kind for module in modules} == {"anchor", "few_shot", "instruction"}
    assert read_modules(Path("nowhere")) == ()


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("name: a\nkind: anchor\nabout: b\n", 2, "a module of kind anchor needs text"),
        ("name: a\nkind: few_shot\nabout: b\ntext: c\n", 2, "needs examples"),
        ("name: a\nkind: anchor\nabout: b\ntext: c\nexamples: [{prompt: d, target: e}]\n", 5, "no examples"),
        ("name: a\nkind: few_shot\nabout: b\nexamples:\n  - {prompt: d, target: e}\n  - {target: e}\n", 6, "a prompt"),
        ("name: a\nkind: charm\nabout: b\ntext: c\n", 2, "kind"),
        ("name: z\nkind: anchor\nabout: b\ntext: c\n", 1, "named 'z'"),
    ],
)
def test_mistakes_of_a_module_stand_with_their_line(tmp_path: Path, text: str, line: int, problem: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(DocumentError, match=problem) as raised:
        read_modules(tmp_path)
    assert raised.value.line == line


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("queries: []\n", 1, "0 queries, and 4 are the fewest"),
        ("chat: false\nqueries: [only one]\n", 2, "1 query, and 4 are the fewest"),
        ("queries:\n- a\n- b\n- c\n- b\n", 5, "stands here twice"),
        ("queries: [a, b, c, d]\nexamples:\n- {prompt: c, target: x}\n", 3, "given away"),
        ("querys: [a, b, c, d]\n", 1, "not a known key"),
    ],
)
def test_mistakes_of_a_query_set_stand_with_their_line(tmp_path: Path, text: str, line: int, problem: str) -> None:
    (tmp_path / "q.yaml").write_text(text)
    with pytest.raises(DocumentError, match=problem) as raised:
        read_queries(tmp_path / "q.yaml")
    assert raised.value.line == line


def test_shipped_queries_are_apart_from_what_the_adapters_and_the_axis_learned() -> None:
    adapters = stock_folder() / "adapters"
    for name in ("british_spelling", "terse_style"):
        queries, recipe = shipped_queries(name), read_recipe(adapters / "lora" / name / "recipe.yaml")
        assert queries is not None and len(queries.queries) >= 12 and not queries.chat
        learned = {example.prompt for example in recipe.examples} | {item.prompt for item in recipe.held_out}
        assert not learned & set(queries.queries)
    tender, everyday = shipped_queries("tenderness"), shipped_queries("everyday")
    assert tender is not None and everyday is not None and tender.chat
    # Nothing of what the axis was made of is asked or tried.
    made_of = (adapters / "steering" / "tenderness.yaml").read_text()
    assert not any(" ".join(text.split()[:4]) in made_of for text in (*tender.queries, *tender.phrases))
    assert shipped_queries("klingon") is None


def test_queries_are_found_for_every_kind_of_treatment(tmp_path: Path) -> None:
    stock = stock_folder() / "adapters"
    adapters, axes = AdapterLibrary(stock / "lora", tmp_path), AxisLibrary(stock / "steering", tmp_path)
    terse = queries_for("adapter:terse_style@0.5", adapters, axes)
    assert terse.examples and terse.instructions == getattr(shipped_queries("terse_style"), "instructions", None)
    causes = queries_for("adapter:causes", adapters, axes)
    recipe = adapters.recipe("causes")
    assert causes == queries_of(recipe) and causes.instructions == (recipe.aim,) and not causes.chat
    assert {item.prompt for item in recipe.held_out} == set(causes.queries)
    assert queries_for("axis:tenderness@-1", adapters, axes) == shipped_queries("tenderness")
    assert queries_for("state", adapters, axes) == shipped_queries("everyday")
    with pytest.raises(AdapterError, match="klingon"):
        queries_for("adapter:klingon", adapters, axes)
    own = AxisLibrary(write_contrast(tmp_path, toy_contrast()).parent, tmp_path)
    assert queries_for("axis:vowels", adapters, own).instructions == ("Vowels, for tests.",)
    # An axis that emerged is made of no texts.
    assert queries_for("axis:e1", adapters, axes) == shipped_queries("everyday")
    few = recipe.model_copy(update={"held_out": recipe.held_out[:1]})
    with pytest.raises(ArgumentError, match="1 held-out prompt"):
        queries_of(few)


def test_the_module_that_is_the_treatment_is_picked_first(tiny_llama: Any) -> None:
    found = select_modules(tiny_llama, "the river", MODULES, TowardsTreatment(spoken(), length=6), 60)
    assert [one.module.name for one in found.chosen] == ["same"]
    assert found.before == (Message("system", SPOKEN),)
    assert found.influence > 0.01 and found.influence == found.chosen[0].influence
    bare = tiny_llama.encode(spoken().row("the river", chat=True)).tokens
    assert len(bare) - found.tokens == len("<|user|>the river\n<|assistant|>")


def test_the_budget_of_tokens_is_kept_and_nothing_is_picked_that_does_not_help(tiny_llama: Any) -> None:
    aim = TowardsTreatment(spoken(), length=6)
    assert select_modules(tiny_llama, "the river", MODULES, aim, 1).chosen == ()
    without = [module for module in MODULES if module.name != "same"]
    assert select_modules(tiny_llama, "the river", without, aim, 400, least=50.0).before == ()
    for budget in (20, 30, 60):
        assert select_modules(tiny_llama, "the river", MODULES, aim, budget, least=1e-9).tokens <= budget


def test_influence_on_answers_is_what_scoring_says_of_them(tiny_llama: Any) -> None:
    aim = LikelyTargets(("zzz", "top"))
    before = (Message("system", "You answer."), Message("user", "hm"), Message("assistant", "so"))
    found = select_modules(tiny_llama, "the river", MODULES, aim, 80, before=before, least=1e-6)
    assert found.chosen
    without, with_them = aim.on(tiny_llama, "the river", True, ())([before, found.before])
    assert found.influence == pytest.approx(with_them - without, abs=1e-5)
    assert found.before[0].text.startswith("You answer.\n\n") and found.before[1:] == before[1:]


def test_examples_become_turns_behind_the_system_message(tiny_llama: Any) -> None:
    shots = PromptModule.model_validate(
        {"name": "s", "kind": "few_shot", "about": "b", "examples": [{"prompt": "p", "target": "zzzz"}]}
    )
    aim = LikelyTargets(("zzzz",))
    found = select_modules(tiny_llama, "q", [shots], aim, 80, before=(Message("system", "S"),), least=-100.0)
    assert found.before == (Message("system", "S"), Message("user", "p"), Message("assistant", "zzzz"))


def test_senseless_selections_are_refused(tiny_llama: Any) -> None:
    with pytest.raises(ArgumentError, match="holds no module"):
        select_modules(tiny_llama, "q", MODULES, LikelyTargets(("a",)), 0)
    with pytest.raises(ArgumentError, match="one name"):
        select_modules(tiny_llama, "q", (*MODULES, MODULES[0]), LikelyTargets(("a",)), 9)
    with pytest.raises(ArgumentError, match="no answers"):
        LikelyTargets(())
