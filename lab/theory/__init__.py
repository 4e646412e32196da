"""Exactly solvable chains: what a counting model, a mean or a regression must do under each regime, in closed form.

A chain: p_0 = p is the human distribution, p_t the t-th maximum-likelihood fit. Fit 1 sees n human draws. Fit t >= 2
sees what the regime makes of the human draws and of the samples 1..t-1. Sample k is n independent draws from p_k at
temperature 1, untruncated. So t counts resamplings: the lab's generation g is t = g + 1, and t = 0 is p itself.

These conditions hold for every function, unless its docstring lifts them: each fit starts fresh and is exact
(frequencies, no smoothing, variances divided by n); n is the exact size of each set; draws are independent (no EOS, no
context). E is over everything, the human draws included: each replica draws its human set anew. `given_corpus` is for
one human corpus kept for all replicas. Logarithms are natural. Impossible arguments raise ValueError.
Cheap replicas: n rows whose T positions have a categorical each are T chains. One unigram for all follows other laws.
"""

from lab.theory.arguments import REGIMES, Pool
from lab.theory.chains import (
    best_real_weight,
    expected_chi_square,
    given_corpus,
    heterozygosity,
    mix_distance,
    mix_distance_exact,
    retained,
    retained_by_voices,
    web_distance,
)
from lab.theory.counts import (
    count_law,
    expected_entropy,
    expected_risk,
    expected_types,
    extinction,
    extinction_limit,
    fixation_probability,
    time_to_one_survivor,
    time_to_one_survivor_diffusion,
)
from lab.theory.decoding import temperature_chain, top_p, top_p_uniform_support
from lab.theory.estimates import least_squares_excess, mean_variance
from lab.theory.zipf import missing_mass, zipf_missing_mass, zipf_tail

__all__ = [
    "REGIMES",
    "Pool",
    "best_real_weight",
    "count_law",
    "expected_chi_square",
    "expected_entropy",
    "expected_risk",
    "expected_types",
    "extinction",
    "extinction_limit",
    "fixation_probability",
    "given_corpus",
    "heterozygosity",
    "least_squares_excess",
    "mean_variance",
    "missing_mass",
    "mix_distance",
    "mix_distance_exact",
    "retained",
    "retained_by_voices",
    "temperature_chain",
    "time_to_one_survivor",
    "time_to_one_survivor_diffusion",
    "top_p",
    "top_p_uniform_support",
    "web_distance",
    "zipf_missing_mass",
    "zipf_tail",
]
