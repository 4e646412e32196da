"""What was checked and found: exact theory, the null test, and how often the lab was killed and damaged."""

from __future__ import annotations

import json
from pathlib import Path

from scipy.stats import binomtest

from lab.checks.exact import read
from lab.definitions import DEFINITIONS
from lab.report import exact
from pages import studies
from pages.writing import RESULTS, filled, table

SHOWN = ("heterozygosity", "types", "lost_1", "unseen", "share_first", "perplexity")
"""The columns of the comparison with exact theory that the page shows."""


def against_theory() -> str:
    """Return the lines of the last generations that say most, and how many agree in all."""
    rows = read(RESULTS / "exact.csv")
    shown = [row for row in exact.last(rows) if row.column in SHOWN]
    agree = sum(row.verdict == "agrees" for row in rows)
    wide = sum(row.verdict == "too wide" for row in rows)
    text = f"""{agree} of {len(rows)} numbers agree, over all generations and columns (`exact.csv` in the run's
        folder). {wide} more have intervals that are too wide to tell. By chance one in a thousand would disagree."""
    return exact.as_markdown(shown) + "\n" + filled(text)


def null_rates() -> str:
    """Return how often the comparison of regimes rejects where there is no difference."""
    found = json.loads((RESULTS / "null.json").read_text(encoding="utf-8"))
    sizes = sorted({rate["seeds"] for rate in found["rates"]}, reverse=True)
    cells: dict[str, dict[int, str]] = {}
    for rate in found["rates"]:
        text = f"{rate['rejected']}: {rate['rate']:.1%} [{rate['low']:.1%}, {rate['high']:.1%}]"
        cells.setdefault(rate["metric"], {})[rate["seeds"]] = text
    rows = ([metric, *(row[size] for size in sizes)] for metric, row in cells.items())
    head = ["metric", *(f"{size} against {size} seeds" for size in sizes)]
    study, limits = found["study"], found["limits"]
    text = f"""Each cell: rejections of {found["pairs"]} pairs, their rate and its exact 95 % interval. The binomial
        limits are {limits["fewest"]} and {limits["most"]} (0.1 % and 99.9 %). The models are
        {study["model"]["order"]}-grams with {study["corpus"]["tokens"]:,} human tokens per seed from
        {study["corpus"]["path"]}, seeds {study["seeds"].replace("..", " to ")}. Two seeds share
        {found["rows"]["shared"]:.1%} of their rows on average, so the intervals speak of other draws from this text,
        not of other corpora."""
    return table(head, rows, right=range(1, len(head))) + "\n\n" + filled(" ".join(text.split()))


def null_profile(path: Path = RESULTS / "null-profile.json") -> str:
    """Return how often a definition of collapse holds where nothing has collapsed."""
    found = json.loads(path.read_text(encoding="utf-8"))
    counts, pairs, limits = found["counts"], found["pairs"], found["limits"]
    names = {str(each.number): f"{each.name} ({each.number})" for each in DEFINITIONS}
    rows = [
        [name, *(str(each["by"].get(number, "")) for each in counts)]
        for number, name in names.items()
        if any(number in each["by"] for each in counts)
    ]
    rows.append(["any of them", *(_share(each["any"], pairs) for each in counts)])
    head = ["definition", *(f"{each['thresholds']}, {each['seeds']} against {each['seeds']} seeds" for each in counts)]
    outside = [f"{each['any']} {each['thresholds']}, {each['seeds']} seeds" for each in counts if not each["within"]]
    text = f"""Each cell: of {pairs} pairs of controls, those in which the definition holds; below, those in which any
        does, their rate and its exact 95 % interval. The limits are {limits["fewest at zero"]} and {limits["most"]}
        with thresholds at no change, and at most {limits["most"]} with the lab's own (shipped).
        {f"Outside: {'; '.join(outside)}." if outside else "All counts are within."} One generation has no growth and
        no nested sizes, so definitions 3 and 5 are not measured."""
    return table(head, rows, right=range(1, len(head))) + "\n\n" + filled(text)


def _share(count: int, pairs: int) -> str:
    """Return a count of pairs with its rate and the exact 95 % interval (Clopper & Pearson 1934)."""
    exact = binomtest(count, pairs).proportion_ci(0.95, method="exact")
    return f"{count}: {count / pairs:.1%} [{exact.low:.1%}, {exact.high:.1%}]"


TRIED = {
    "instants": "kill -9 at every instant of a commit or of a checkpoint that a run passes, each on an empty store",
    "random kills": "kill -9 of the whole process group at random moments",
    "corruptions": "an artifact truncated, zeroed, bit-flipped or deleted, before a run or while it is in use",
    "hostile": "hostile configurations, corpora and checkpoints; what must come is one line of error or a sound plan",
}
"""Key in data/results/lost/*.json, which tests/support/soak.py and fuzz.py write with --json -> what was tried."""


def _counts() -> dict[str, list[int]]:
    totals = {what: [0, 0] for what in TRIED}
    for path in sorted((RESULTS / "lost").glob("*.json")):
        for what, counts in json.loads(path.read_text(encoding="utf-8")).items():
            if what in totals:
                totals[what] = [total + count for total, count in zip(totals[what], counts, strict=True)]
    return totals


def lost() -> str:
    """Return how often the lab was killed, damaged and fed nonsense, and how often that changed a table."""
    rows = ([TRIED[what], f"{tried:,}", str(wrong)] for what, (tried, wrong) in _counts().items())
    return table(["what was tried", "how often", "wrong results"], rows, right=(1, 2))


def checked() -> str:
    """Return what was checked in one sentence each, for the README."""
    rows = read(RESULTS / "exact.csv")
    agree = sum(row.verdict == "agrees" for row in rows)
    counts = _counts()
    kills = counts["instants"][0] + counts["random kills"][0]
    wrong = sum(wrong for _, wrong in counts.values())
    changed = f"{wrong or 'no'} table{'s' if wrong > 1 else ''} changed"
    return filled(
        f"""`lab run exact` compares the lab with chains whose outcome is known in closed form: {agree} of {len(rows)}
        numbers agree, and the rest have intervals that are too wide to tell. The lab was killed {kills:,} times and its
        artifacts were damaged {counts["corruptions"][0]:,} times; {changed}. {studies.agreement()}"""
    )


PARTS = {
    "exact": against_theory,
    "null": null_rates,
    "null-profile": null_profile,
    "lost": lost,
    "checked": checked,
}
