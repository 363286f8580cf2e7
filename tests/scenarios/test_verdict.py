"""The verdict: one condition that fails is enough, and it is the one that is named."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay.scenarios import Check, Effect, judge
from overlay.scenarios.verdict import Rival

CHECKS = [
    Check("prompts identical", True, "the hashes agree"),
    Check("sham equals base", True, "bit-identical"),
    Check("no leak", True, "0 state words"),
    Check("within budget", True, "0.100 of 0.150"),
]

SHOWN = Effect(
    rate_before=0.25,
    rate_after=0.5,
    choice_p=0.01,
    item_p=0.02,
    shift=0.2,
    random_units_shift=0.2,
    random_shifts=(-0.05, 0.1, 0.19),
    reversed_shift=-0.1,
)


def unmet(effect: Effect) -> list[str]:
    return [reason for reason in judge(CHECKS, effect).reasons if reason.startswith("not met: ")]


def test_a_behaviour_is_shown_when_every_condition_holds() -> None:
    verdict = judge(CHECKS, SHOWN)
    assert verdict.kind == "behaviour shown" and len(verdict.reasons) == 4
    assert all(reason.startswith("met: ") for reason in verdict.reasons)
    assert "25%" in verdict.headline and "50%" in verdict.headline


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"choice_p": 0.05}, "choices"),
        ({"choice_p": 0.9}, "choices"),
        ({"rate_after": 0.25}, "choices"),
        ({"rate_after": 0.1}, "choices"),
        ({"item_p": 0.05}, "preference"),
        ({"random_shifts": (-0.05, 0.1, 0.21)}, "random directions"),
        ({"random_shifts": (0.2,)}, "random directions"),
        ({"random_shifts": ()}, "random directions"),
        ({"random_units_shift": 0.05}, "random directions"),
        ({"reversed_shift": 0.1}, "reversed"),
        ({"reversed_shift": 0.3}, "reversed"),
        ({"reversed_shift": 0.05, "reversed_units_shift": 0.1}, "reversed"),
        ({"rivals": (Rival("neutral", 0.1, 0.2),)}, "neutral"),
        ({"rivals": (Rival("neutral", -0.1, 0.2), Rival("shuffled", 0.3, 0.2))}, "shuffled"),
    ],
)
def test_one_condition_that_fails_alone_is_enough_and_is_the_one_named(changes: dict[str, object], reason: str) -> None:
    effect = replace(SHOWN, **changes)  # type: ignore[arg-type]
    assert judge(CHECKS, effect).kind == "no change detected"
    (only,) = unmet(effect)
    assert only.startswith(f"not met: {reason}")


def test_a_shift_away_from_the_behaviour_is_no_effect_however_certain() -> None:
    effect = replace(SHOWN, shift=-0.2, random_units_shift=-0.2, reversed_shift=-0.3, random_shifts=(-0.3,))
    assert judge(CHECKS, effect).kind == "no change detected"
    assert [reason.split(":")[1].strip() for reason in unmet(effect)] == ["preference"]


def test_a_tilt_that_shows_in_no_choice_is_told_as_that_and_no_more() -> None:
    tilted = judge(CHECKS, replace(SHOWN, choice_p=0.5, rate_after=0.3))
    assert tilted.kind == "no change detected" and "tilted the preference (+0.200" in tilted.headline
    noise = judge(CHECKS, replace(SHOWN, choice_p=0.5, random_shifts=(0.3,)))
    assert "tilted" not in noise.headline and "chance" in noise.headline


@pytest.mark.parametrize("place", range(len(CHECKS)))
def test_a_check_that_fails_alone_makes_the_run_invalid_whatever_the_effect(place: int) -> None:
    failed = replace(CHECKS[place], passed=False)
    checks = [*CHECKS[:place], failed, *CHECKS[place + 1 :]]
    for effect in (SHOWN, replace(SHOWN, shift=0.0), None):
        verdict = judge(checks, effect)
        assert verdict.kind == "invalid" and verdict.reasons == (f"{failed.name}: {failed.detail}",)
        assert failed.name in verdict.headline


def test_every_check_that_failed_is_named() -> None:
    verdict = judge([replace(check, passed=False) for check in CHECKS], SHOWN)
    assert [reason.split(":")[0] for reason in verdict.reasons] == [check.name for check in CHECKS]


def test_a_run_without_controls_is_invalid() -> None:
    verdict = judge(CHECKS, None)
    assert verdict.kind == "invalid" and verdict.reasons


def test_rivals_that_do_less_than_half_as_well_are_met_and_told() -> None:
    verdict = judge(CHECKS, replace(SHOWN, rivals=(Rival("neutral", 0.09, 0.2), Rival("shuffled", -0.5, 0.2))))
    assert verdict.kind == "behaviour shown" and len(verdict.reasons) == 6
    assert verdict.reasons[4].startswith("met: neutral: ") and "+0.090" in verdict.reasons[4]


def test_a_negative_control_hopes_for_no_change_and_misfires_otherwise() -> None:
    nothing = replace(SHOWN, choice_p=0.5, item_p=0.5)
    hoped = judge(CHECKS, nothing, negative_control=True)
    assert hoped.kind == "no change detected" and hoped.headline.startswith("As hoped for in a negative control: no ")
    misfired = judge(CHECKS, SHOWN, negative_control=True)
    assert misfired.kind == "behaviour shown" and "instrument misfires" in misfired.headline
    for effect in (nothing, SHOWN):
        plain, control = judge(CHECKS, effect), judge(CHECKS, effect, negative_control=True)
        assert (plain.kind, plain.reasons) == (control.kind, control.reasons) and plain.headline != control.headline
    broken = [replace(CHECKS[0], passed=False)]
    assert judge(broken, SHOWN, negative_control=True) == judge(broken, SHOWN)


@pytest.mark.parametrize("negative", [False, True])
def test_an_exploratory_run_says_so_first_and_judges_the_same(negative: bool) -> None:
    for checks, effect in ((CHECKS, SHOWN), (CHECKS, None), (CHECKS, replace(SHOWN, item_p=0.4))):
        plain = judge(checks, effect, negative_control=negative)
        explored = judge(checks, effect, negative_control=negative, exploratory=True)
        assert explored == replace(plain, headline=f"Exploratory: {plain.headline}")


def test_what_the_positive_control_did_not_show_is_not_shown_to_be_absent() -> None:
    nothing = replace(SHOWN, choice_p=0.5, item_p=0.5)
    seen, unseen = (judge(CHECKS, replace(nothing, positive_control=seen)) for seen in (True, False))
    assert seen == judge(CHECKS, nothing) and unseen.kind == "no change detected"
    assert "isn't shown to be able to see it" in unseen.headline and len(unseen.reasons) == len(seen.reasons) + 1
    shown = judge(CHECKS, replace(SHOWN, positive_control=False))
    assert shown.kind == "behaviour shown" and "isn't shown" not in shown.headline
    assert "positive control" in shown.reasons[-1]


def test_where_nothing_was_scored_no_preference_is_spoken_of() -> None:
    effect = replace(SHOWN, measure="rate", shift=0.25)
    for one in (effect, replace(effect, choice_p=0.5)):
        verdict = judge(CHECKS, one)
        assert not any(word in " ".join((verdict.headline, *verdict.reasons)) for word in ("nats", "preference"))
    assert judge(CHECKS, effect).kind == "behaviour shown"


def test_an_empirical_p_is_told_only_where_it_is_given() -> None:
    assert not any("empirical" in reason for reason in judge(CHECKS, SHOWN).reasons)
    told = judge(CHECKS, replace(SHOWN, empirical=(("norm", 0.025),)))
    assert told.kind == "behaviour shown" and "same norm the empirical p is 0.025" in told.reasons[-1]


rates = st.floats(0, 1)
shifts = st.floats(-5, 5)


@given(st.builds(Effect, rates, rates, rates, rates, shifts, shifts, st.lists(shifts, max_size=5).map(tuple), shifts))
def test_the_verdict_says_shown_exactly_when_no_reason_is_unmet(effect: Effect) -> None:
    verdict = judge(CHECKS, effect)
    assert (verdict.kind == "behaviour shown") is (unmet(effect) == [])
    if verdict.kind == "behaviour shown":
        assert effect.rate_after > effect.rate_before and max(effect.choice_p, effect.item_p) < 0.05
        assert effect.random_units_shift > max(effect.random_shifts) and effect.shift > 0
