"""What a profile shows of memorisation, and of texts that every generation continues: tables, without verdicts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from textwrap import wrap
from typing import Any

import numpy as np

from lab.collapse.chains import Point
from lab.collapse.telephone import Attractor, attractor
from lab.config.sweep import label
from lab.errors import InputError, printable
from lab.metrics.columns import column
from lab.metrics.stats import paired_interval
from lab.run.folder import RunFolder
from lab.run.profile import Profile
from lab.steps.evidence.telephone import no_prompt
from lab.steps.place import speller
from lab.steps.sample import telephone_prompt
from lab.store.manifest import Manifest

TAIL = "nll_rare"
BESIDE = ("overlap_8", "overlap_13", "extraction", "suffix_gap", *(f"exposure_{n}" for n in (1, 4, 16, 64, 256)))
ASKED = BESIDE[2:]
"""The columns that a profile has only where it is asked for them; without them there is no table."""
TELEPHONE_HEADING = ["property", "attractor", "control", "strength", "control", "difference [95 % interval]"]
TELEPHONE_NOTE = (
    "x of the last generation = a + b x of generation 0, over prompts: attractor a / (1 - b), strength 1 - |b|; the "
    "control's is regression to the mean, and only the difference counts; mean of the seeds"
)
NARROWEST = 16
"""Characters of the column of a generation, at least."""


def memorisation(profiles: Sequence[Profile]) -> tuple[list[str], list[list[str]]]:
    """Return heading and cells of tails against memorisation at the last generation: a row per regime; [] if unasked.

    The first number is the loss inside rare words above the control's; the others are the regime's own.  A control
    stands below its regimes.
    """
    rows: list[tuple[str, list[Point], list[Point]]] = []
    controls: dict[str, list[Point]] = {}
    for profile in profiles:
        pairs = profile.chains.pairs()
        control = controls[label("human", profile.axes)] = [point for _, point in pairs]
        rows.append((label(profile.regime, profile.axes), [point for point, _ in pairs], control))
    rows += [(name, control, control) for name, control in controls.items()]
    names = [name for name in BESIDE if any(math.isfinite(_mean(own, name)) for _, own, _ in rows)]
    if not set(names).intersection(ASKED):
        return [], []
    cells = [
        [name, f"{_mean(own, TAIL) - _mean(control, TAIL):+.3f}", *(_number(_mean(own, each), each) for each in names)]
        for name, own, control in rows
    ]
    return ["regime", f"{TAIL} - control", *names], cells


def _mean(points: Sequence[Point], name: str) -> float:
    return float(np.mean([point.columns[name] for point in points])) if points else math.nan


def _number(value: float, name: str) -> str:
    return f"{value:.{column(name).digits}f}" if math.isfinite(value) else ""


def telephone(profile: Profile) -> list[list[str]]:
    """Return a row per property of the continued texts: attractor and strength of regime and control; [] if unasked."""
    rows = []
    sides = [profile.chains.points, profile.chains.control]
    last, seeds = profile.chains.last, [s for s in profile.chains.seeds if all(0 in side[s] for side in sides)]
    for name in sides[0][seeds[0]][last].telephone if seeds and last else ():
        fits = [[_fit(side[seed], last, name) for seed in seeds] for side in sides]
        strength = [np.array([fit.strength for fit in each]) for each in fits]
        position = [np.mean([fit.position for fit in each]) for each in fits]
        differ = paired_interval(strength[0] - strength[1])
        bounds = "" if math.isnan(differ.low) else f" [{differ.low:+.2f}, {differ.high:+.2f}]"
        numbers = [*(f"{x:.2f}" for x in position), *(f"{each.mean():.2f}" for each in strength)]
        shown = ["none" if number == "nan" else number for number in numbers]
        rows.append([name, *shown, f"{differ.mean:+.2f}{bounds}" if math.isfinite(differ.mean) else ""])
    return rows


def untold(profile: Profile) -> str:
    """Return why there is no telephone view though it was asked for; an empty string else."""
    return next((point.untold for pair in profile.chains.pairs() for point in pair), "")


def _fit(chain: Mapping[int, Point], last: int, name: str) -> Attractor:
    return attractor(*(chain[t].telephone.get(name, []) for t in (0, last)))


def continued(run: RunFolder, chain: str) -> dict[int, list[dict[str, Any]]]:
    """Return generation -> prompt and continuation of each text that a chain's generations continue.

    Raises:
        InputError: no generation has continued any.
    """
    folders = {int(path.parent.name[4:]): path for path in sorted((run.path / chain).glob("gen-*/telephone"))}
    if not folders:
        raise InputError(f"{chain} has no telephone view: lab profile RUN --set profile.telephone=true makes it")
    found = {}
    for t, folder in folders.items():
        tokenizer = Manifest.of(folder).inputs["tokenizer"]
        spell = speller(run.config().corpus.layout, run.store.folder(tokenizer.step, tokenizer.key))
        rows = np.load(folder / "tokens.npy")
        if not len(rows):
            raise InputError(f"{chain} has no telephone view: {no_prompt(rows.shape[1])}")
        parts = np.split(rows, [telephone_prompt(rows.shape[1])], axis=1)
        texts = (spell(part)["text"] for part in parts)
        found[t] = [{"prompt": prompt, "continuation": text} for prompt, text in zip(*texts, strict=True)]
    return found


def side_by_side(texts: Mapping[int, str], width: int) -> tuple[list[str], list[list[str]]]:
    """Return heading and cells of one prompt's continuations: a column per generation, wrapped to fit `width`."""
    each = max(NARROWEST, (width + 2) // max(1, len(texts)) - 2)
    wrapped = [wrap(printable(" ".join(text.split())), each) for text in texts.values()]
    return [f"generation {t}" for t in texts], [list(row) for row in zip_longest(*wrapped, fillvalue="")]
