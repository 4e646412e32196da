"""Effective numbers of models and of modes, on laws whose number is known."""

import math

import numpy as np
import pytest

from lab.collapse.plurality import divergence, effective_number


@pytest.mark.parametrize("models", [2, 4])
def test_equal_models_are_one_and_disjoint_models_are_all(models: int) -> None:
    equal = np.tile([0.5, 0.3, 0.2, 0.0], (models, 1))
    assert math.exp(divergence(equal)) == pytest.approx(1, abs=1e-12)
    assert math.exp(divergence(np.eye(models))) == pytest.approx(models)


def test_four_models_that_each_prefer_an_outcome_of_their_own() -> None:
    """H of the mean is ln 4, and each law has H = -.97 ln .97 - .03 ln .01: exp of the difference is 3.38."""
    laws = np.full((4, 4), 0.01) + 0.96 * np.eye(4)
    assert math.exp(divergence(laws)) == pytest.approx(3.38, abs=0.005)
    many = divergence(np.broadcast_to(laws[:, None, None], (4, 2, 3, 4)))
    assert many.shape == (2, 3) and many == pytest.approx(math.log(3.3824), abs=1e-4)


def test_effective_number_of_shares() -> None:
    assert effective_number([5, 5, 5, 0]) == pytest.approx(3)
    assert effective_number([7, 0]) == 1
    assert effective_number([0.75, 0.25]) == pytest.approx(4 / 3**0.75)
