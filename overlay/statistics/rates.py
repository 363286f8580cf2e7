"""Rates: how often something happened, and how often it truly did when the detector errs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from overlay.errors import ArgumentError
from overlay.statistics.arguments import check_confidence, check_count
from overlay.statistics.interval import Interval


@dataclass(frozen=True)
class Validation:
    """How a detector did on texts of known truth: `true_positives` of `positives`, `true_negatives` of `negatives`.

    Raises:
        ArgumentError: a count isn't between 0 and its total, or a total is 0.
    """

    true_positives: int
    positives: int
    true_negatives: int
    negatives: int

    def __post_init__(self) -> None:
        check_count(self.true_positives, self.positives)
        check_count(self.true_negatives, self.negatives)

    @property
    def sensitivity(self) -> float:
        """Share of the texts with the behaviour on which the detector fired."""
        return self.true_positives / self.positives

    @property
    def specificity(self) -> float:
        """Share of the texts without the behaviour on which it stayed silent."""
        return self.true_negatives / self.negatives


@dataclass(frozen=True)
class CorrectedRate:
    """A rate behind an imperfect detector.

    Attributes:
        apparent: the share of units on which the detector fired.
        rate: the share that must have had the behaviour.
        interval: the interval of `rate`.
        fits: False where, before it is cut to [0, 1], even the interval lies outside: the detector errs otherwise
            here than where it was validated, the interval is a point, and nothing may be concluded from it.
    """

    apparent: float
    rate: float
    interval: Interval
    fits: bool


def wilson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a rate; it stays inside [0, 1] and always contains `successes / n`.

    Source: Wilson, Journal of the American Statistical Association 22 (1927).

    Raises:
        ArgumentError: `n` is 0, `successes` isn't between 0 and `n`, or `confidence` isn't between 0 and 1.
    """
    from statsmodels.stats.proportion import proportion_confint

    check_count(successes, n)
    check_confidence(confidence)
    low, high = proportion_confint(successes, n, alpha=1 - confidence, method="wilson")
    # At 0 or n successes the formula's end is the rate itself, up to a rounding error on either side.
    rate = successes / n
    return Interval(max(0.0, min(float(low), rate)), min(1.0, max(float(high), rate)))


def rogan_gladen(fired: int, n: int, validation: Validation, confidence: float = 0.95) -> CorrectedRate:
    """The true rate behind `fired` of `n`, given a detector that misses and that fires for nothing.

    rate = (fired / n + specificity - 1) / (sensitivity + specificity - 1), cut to [0, 1]. The interval also carries
    how few texts the detector was validated on, which a plain bootstrap forgets when it made no mistake there; it
    always contains the rate. Units must be independent of each other and of the validation texts.
    Sources: Rogan and Gladen, American Journal of Epidemiology 107 (1978); the interval from Lang and Reiczigel,
    Preventive Veterinary Medicine 113 (2014).

    Raises:
        ArgumentError: the counts are impossible, or the validation doesn't show the detector to beat chance.
    """
    from scipy.special import ndtri

    check_count(fired, n)
    check_confidence(confidence)
    sensitivity, specificity = validation.sensitivity, validation.specificity
    # One more success and one more failure in each validation, as the interval's authors add them.
    hits, misses = validation.positives + 2, validation.negatives + 2
    softened_sensitivity = (validation.true_positives + 1) / hits
    softened_specificity = (validation.true_negatives + 1) / misses
    informedness = softened_sensitivity + softened_specificity - 1
    if sensitivity + specificity <= 1 or informedness <= 0:
        raise ArgumentError(
            f"a detector of sensitivity {sensitivity:.2f} and specificity {specificity:.2f}, found on "
            f"{validation.positives} and {validation.negatives} texts, isn't shown to beat chance",
            "mend the detector, or validate it on more texts; no rate can be corrected by this one",
        )
    apparent = fired / n
    rate = float(np.clip((apparent + specificity - 1) / (sensitivity + specificity - 1), 0, 1))
    z = float(ndtri((1 + confidence) / 2))
    size = n + z**2
    softened = (fired + z**2 / 2) / size
    centre = (softened + softened_specificity - 1) / informedness
    from_sensitivity = softened_sensitivity * (1 - softened_sensitivity) / hits
    from_specificity = softened_specificity * (1 - softened_specificity) / misses
    variance = softened * (1 - softened) / size + centre**2 * from_sensitivity + (1 - centre) ** 2 * from_specificity
    reach = z * float(np.sqrt(variance)) / informedness
    centre += 2 * z**2 * (centre * from_sensitivity - (1 - centre) * from_specificity)
    low, high = np.clip([centre - reach, centre + reach], 0, 1)
    fits = centre - reach <= 1 and centre + reach >= 0
    return CorrectedRate(apparent, rate, Interval(min(float(low), rate), max(float(high), rate)), fits)
