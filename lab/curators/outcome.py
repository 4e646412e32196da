"""What curators did to a pool, in numbers: columns of results.csv where a study names curators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def outcome(
    times: np.ndarray,
    human: np.ndarray,
    dropped: np.ndarray,
    evaluations: Mapping[str, Mapping[str, Any]],
    weights: np.ndarray | None = None,
) -> dict[str, float | None]:
    """Return the columns of a curated pool; None for a share of no rows.

    Args:
        times: how often each row is trained on, [N].
        human: whether a human wrote it, [N].
        dropped: whether a curator dropped it, or drew it never, [N].
        evaluations: curator -> how well its score tells machine rows from human ones (lab.curators.evaluation), in the
            order in which they were applied.
        weights: how much it counts in the loss, [N]; None: all count the same.
    """

    def share(which: np.ndarray, of: np.ndarray) -> float | None:
        return float(which[of].mean()) if of.any() else None

    used = times if weights is None else times * weights
    return {
        "human_pool": share(human, np.ones(len(human), np.bool_)),
        "kept": share(~dropped, np.ones(len(human), np.bool_)),
        "tpr": share(dropped, ~human),
        "fpr": share(dropped, human),
        "human_curated": float(used[human].sum() / used.sum()),
        "largest_repeat": float(times.max()),
        "detector_auc": next((each["auc"] for each in list(evaluations.values())[::-1]), None),
    }
