"""Effects: what active frames ask for, the strongest first, in proportion to their energy."""

from __future__ import annotations

from overlay.frames import ActiveFrame, Effects, Frame, effects_of


def active(energy: float, **written: object) -> ActiveFrame:
    return ActiveFrame(Frame.model_validate({"description": "d", "cues": ["c"], **written}), energy, None)


STRONG = active(
    0.8,
    name="strong",
    questions=["s1", "s2", "s3"],
    voices=["witness", "advocate"],
    recall={"tags": ["budget", "limits"], "kinds": ["read", "fact"], "boost": 0.5},
    pushes={"calm": -0.5},
    forbids=["obviously"],
)
WEAK = active(
    0.4,
    name="weak",
    questions=["w1"],
    voices=["accountant", "witness"],
    recall={"tags": ["budget"], "kinds": ["fact", "said"], "boost": 1.0},
    adapter={"name": "british", "scale": 0.5},
    pushes={"calm": 1.0, "warmth": 0.25},
    forbids=["obviously", "simpl*"],
)
OPEN = active(0.5, name="open", adapter={"name": "verbose"})


def test_nothing_active_asks_for_nothing() -> None:
    assert effects_of([]) == Effects()


def test_every_active_frame_asks_its_first_question_before_any_asks_its_second() -> None:
    found = effects_of([STRONG, WEAK]).questions
    assert found == (("strong", "s1"), ("weak", "w1"), ("strong", "s2"), ("strong", "s3"))


def test_boosts_go_with_energy_and_the_strongest_wish_counts() -> None:
    assert effects_of([STRONG, WEAK]).tag_boosts == {"budget": 0.4, "limits": 0.4}
    assert effects_of([WEAK]).tag_boosts == {"budget": 0.4}


def test_kinds_are_those_of_all_frames_and_one_without_any_wants_all() -> None:
    assert effects_of([STRONG, WEAK]).kinds == ("read", "fact", "said")
    assert effects_of([STRONG, OPEN]).kinds is None


def test_the_adapter_is_that_of_the_strongest_frame_which_has_one() -> None:
    worn = effects_of([STRONG, OPEN, WEAK]).adapter
    assert worn is not None and (worn.frame, worn.name, worn.scale) == ("open", "verbose", 1.0)
    assert effects_of([STRONG]).adapter is None


def test_voices_and_forbidden_words_stand_once_and_pushes_are_scaled_by_energy() -> None:
    found = effects_of([STRONG, WEAK])
    assert found.voices == ("witness", "advocate", "accountant")
    assert found.forbids == ("obviously", "simpl*")
    assert [(push.frame, push.axis, push.amount) for push in found.pushes] == [
        ("strong", "calm", -0.4),
        ("weak", "calm", 0.4),
        ("weak", "warmth", 0.1),
    ]
