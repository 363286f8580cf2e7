"""Treatments: one word for whatever is done to the model, and how a home's are read by their names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from toy_home import create_fading_home

from overlay.errors import AdapterError, ArgumentError, AxisMissing, InterventionError, OverlayError
from overlay.home import Home
from overlay.model import UNTREATED, AdapterUse, Intervention, LogitBias, Message, Row, Sampling, Treatment
from overlay.treatments import read_treatment, require_treatment

BIAS = Intervention(biases=(LogitBias("z", 1.0),))
ASKED = (Message("system", "Be brief."),)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home whose state rests off zero, so that it acts, and fades an adapter in."""
    home = create_fading_home(tmp_path_factory.mktemp("treatments"), "none")
    axes = dict(home.settings.state.axes)
    axes["vowels"] = axes["vowels"].model_copy(update={"rest": 0.5})
    state = home.settings.state.model_copy(update={"axes": axes})
    return replace(home, settings=home.settings.model_copy(update={"state": state}))


@pytest.fixture(scope="module")
def model(home: Home) -> Any:
    from overlay.model import LanguageModel

    return LanguageModel.load(home.settings.model, dtype="float32")


def test_rows_of_a_treatment_differ_from_base_rows_only_by_it() -> None:
    treated, base = Treatment("biased", BIAS).row("Once", options=(" a",)), UNTREATED.row("Once", options=(" a",))
    assert base == Row(text="Once", options=(" a",))
    assert replace(treated, intervention=base.intervention) == base


def test_a_prompt_stands_before_the_query_in_either_form() -> None:
    prompt = Treatment("prompt", before=ASKED)
    assert prompt.row("Once").messages == (*ASKED, Message("user", "Once"))
    assert prompt.row("Once", chat=False).text == "Be brief.\n\nOnce"
    assert UNTREATED.row("Once", chat=True).messages == (Message("user", "Once"),)
    sampling = Sampling(max_tokens=3)
    row = prompt.row("Once", sampling=sampling, seed=7, trace_volatility=True)
    assert (row.sampling, row.seed, row.trace_volatility) == (sampling, 7, True)


def test_equal_digests_do_the_same_whatever_they_are_called() -> None:
    assert Treatment("one", BIAS).digest == Treatment("two", BIAS).digest
    digests = [
        one.digest
        for one in (UNTREATED, Treatment("a", BIAS), Treatment("a", before=ASKED), Treatment("a", BIAS, ASKED))
    ]
    assert len(set(digests)) == 4


def test_the_base_is_the_unchanged_model(home: Home, model: Any) -> None:
    with read_treatment("base", home, model) as treatment:
        assert treatment == UNTREATED


@pytest.mark.parametrize(("text", "scale"), [("adapter:ends_in_z", 1.0), ("adapter:ends_in_z@-0.5", -0.5)])
def test_an_adapter_is_attached_inside_the_with_only(home: Home, model: Any, text: str, scale: float) -> None:
    census = model.census()
    with read_treatment(text, home, model) as treatment:
        assert treatment == Treatment(text, Intervention(adapters=(AdapterUse("ends_in_z", scale),)))
        assert "ends_in_z" in model.adapters
        worn, base = model.score([one.row("three ", options=("z", "q")) for one in (treatment, UNTREATED)])
        assert worn.per_token != base.per_token
    assert not model.adapters
    assert model.census() == census


def test_an_adapter_can_be_compared_with_itself_at_another_scale(home: Home, model: Any) -> None:
    with (
        read_treatment("adapter:ends_in_z", home, model) as one,
        read_treatment("adapter:ends_in_z@0.5", home, model) as half,
    ):
        assert one.digest != half.digest
    assert not model.adapters


def test_an_adapter_is_detached_when_what_is_inside_fails(home: Home, model: Any) -> None:
    with pytest.raises(KeyError), read_treatment("adapter:ends_in_z", home, model):
        raise KeyError
    assert not model.adapters


def test_an_axis_is_given_in_budget_doses(home: Home, model: Any) -> None:
    with read_treatment("axis:vowels@-0.5", home, model) as treatment:
        (dose,) = treatment.intervention.doses
    axis = home.axes.load("vowels", model.digest)
    assert dose.coefficient == pytest.approx(-0.5 * axis.calibration.budget_dose)
    with read_treatment("axis:vowels", home, model) as whole:
        assert whole.intervention.doses[0].coefficient == pytest.approx(axis.calibration.budget_dose)


def test_a_dose_beyond_the_coherent_limit_is_refused(home: Home, model: Any) -> None:
    with pytest.raises(InterventionError, match="beyond"), read_treatment("axis:vowels@1000", home, model):
        pass


def test_the_state_does_what_it_would_in_the_next_turn(home: Home, model: Any) -> None:
    with read_treatment("state", home, model) as treatment:
        assert treatment.name == "state"
        (dose,) = treatment.intervention.doses
        assert dose.coefficient > 0
        assert [use.name for use in treatment.intervention.adapters] == ["ends_in_z"]
        assert model.score([treatment.row("three ", options=("z", "q"))])
    assert not model.adapters


def test_a_state_that_does_nothing_says_so(home: Home, model: Any) -> None:
    axes = {name: one.model_copy(update={"rest": 0.0}) for name, one in home.settings.state.axes.items()}
    state = home.settings.state.model_copy(update={"axes": axes})
    resting = replace(home, settings=home.settings.model_copy(update={"state": state}))
    with read_treatment("state", resting, model) as treatment:
        assert treatment.intervention == Intervention()
        assert "does nothing" in treatment.name


def test_a_prompt_is_text_or_a_file(home: Home, model: Any, tmp_path: Path) -> None:
    file = tmp_path / "prompt.txt"
    file.write_text("Think of causes: all of them.\n", encoding="utf-8")
    for text in ("prompt:Think of causes: all of them.", f"prompt:@{file}"):
        with read_treatment(text, home, model) as treatment:
            assert treatment.before == (Message("system", "Think of causes: all of them."),)
            assert treatment.intervention == Intervention()


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("ends_in_z", ArgumentError, "no treatment"),
        ("lora:ends_in_z", ArgumentError, "no treatment"),
        ("adapter:", ArgumentError, "no treatment"),
        ("state:now", ArgumentError, "no treatment"),
        ("adapter:ends_in_z@much", ArgumentError, "'much' in 'adapter:ends_in_z@much' is no number"),
        ("adapter:ends_in_z@nan", ArgumentError, "no number"),
        ("adapter:nobody", AdapterError, "no adapter 'nobody'"),
        ("adapter:causes", AdapterError, "causes"),
        ("axis:nobody", AxisMissing, "nobody"),
        ("prompt:   ", ArgumentError, "says nothing"),
        ("prompt:@/nowhere/at/all.txt", ArgumentError, "can't be read"),
    ],
)
def test_what_is_wrong_is_said_before_a_model_is_asked(
    home: Home, model: Any, text: str, error: type[OverlayError], says: str
) -> None:
    with pytest.raises(error, match=says):
        require_treatment(text, home)
    with pytest.raises(error, match=says), read_treatment(text, home, model):
        pass


def test_a_prompt_stands_behind_what_the_models_template_says_by_itself() -> None:
    prompt = Treatment("prompt", before=(Message("system", "Be brief."),), own="You help.")
    (system, asked) = prompt.row("Why?", chat=True).messages
    assert (system.text, asked.text) == ("You help.\n\nBe brief.", "Why?")
    assert prompt.row("Why?", chat=False).text == "Be brief.\n\nWhy?"
    assert prompt.digest != Treatment("prompt", before=prompt.before).digest
