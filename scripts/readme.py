"""Regenerate what README.md takes from elsewhere: quick's table, figure and meaning, timings, the file tree; and the
page of all benchmarks.

python scripts/readme.py --run checkpoints/quick    # take a finished run's results into data/results/, then rewrite
python scripts/readme.py --run checkpoints/exact    # the same for the comparison with exact theory
python scripts/readme.py                            # rewrite README.md from data/results/ and the tree
python scripts/readme.py --check                    # exit 1 if README.md is not what this would write
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import shutil
import sys
import textwrap
from pathlib import Path
from statistics import fmean
from typing import Any

import bench_table

from lab.report import exact
from lab.report.figure import figure
from lab.report.render import as_markdown
from lab.report.tables import HEADLINE, caption
from lab.run.exact import read as read_exact
from lab.run.folder import RunFolder

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "data" / "results"
BENCH = RESULTS / "bench"
OTHERS = {
    "pyproject.toml, constraints.txt": "what the lab needs, and the versions it is tested with",
    "scripts/lab, scripts/test": "bootstrap .venv (scripts/bootstrap.sh), then run the command line or the tests",
    "scripts/studies/*.yaml": "the shipped studies: smoke, quick, exact, markov, ngram, gpu, and published experiments",
    "scripts/checks/null_test.py": "how often the comparison of regimes finds a difference where there is none",
    "scripts/checks/check_experiments.py": "runs the minis of published experiments and checks directions",
    "scripts/bench_*.py": "speed and memory beside the peers: sampling, training, evaluation, studies, growth",
    "scripts/checks/soak.py, forks.py, ordeals.py": "kills at every instant, damage of every kind, full disks",
    "scripts/checks/fuzz.py": "hostile configurations, corpora and checkpoints",
    "scripts/gpu/run.sh, bench.sh": "the gpu study, and the benchmarks, on one GPU",
    "scripts/corpus/build_corpus.py": "builds data/*.parquet from packaged public-domain texts (with corpus_*.py)",
    "scripts/readme.py": "regenerates the numbers, the figure and this tree",
    "lab/metrics/": "pure numpy, one file a question: risk, diversity, variety, tails, words, loci",
    "lab/evaluate_modules/": "`evaluate.Metric` folders over the metrics: perplexity, distinct_n, rare_token_loss",
    "tests/": "by file of lab/, and by promise: sabotage, ground truth, references, null, shipped studies, features",
    "data/": "human-small.parquet and where it comes from; data/results/, the run shown above",
    "checkpoints/": "runs and the store (git-ignored)",
}


def tree() -> str:
    """A line for each file of lab/, from the first sentence of its docstring, and for the other places."""
    lines = {}
    for path in sorted((ROOT / "lab").glob("*.py")):
        words = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        lines[f"lab/{path.name}"] = re.split(r"(?<=[.?])\s", words.replace("\n", " "))[0].rstrip(".")
    width = max(map(len, [*lines, *OTHERS])) + 2
    return "\n".join(f"    {name:<{width}}{what}" for name, what in {**lines, **OTHERS}.items())


def take(run: Path) -> None:
    """Copy a finished run's results here: the comparison with exact theory, or quick's tables and figure."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    if (run / "exact.csv").exists():
        shutil.copyfile(run / "exact.csv", RESULTS / "exact.csv")
        return
    for name in ("results.csv", "config.yaml", "env.json"):
        shutil.copyfile(run / name, RESULTS / name)
    folder = RunFolder(RESULTS)
    config, rows = folder.config(), folder.results()
    seeds = ", ".join(map(str, config.seeds))
    figure(rows, f"{config.name}: {config.corpus.title}, seeds {seeds}", RESULTS / "quick.svg")


def meaning(rows: list[dict[str, Any]]) -> str:
    """Three sentences, their numbers from the table."""
    last = max(row["generation"] for row in rows)

    def mean(regime: str, t: int, column: str) -> float:
        return fmean(row[column] for row in rows if (row["regime"], row["generation"]) == (regime, t))

    def grown(regime: str, column: str) -> float:
        return mean(regime, last, column) - mean(regime, 0, column)

    replace, accumulate = (mean(r, last, "perplexity") / mean("human", last, "perplexity") - 1 for r in REGIMES)
    rare, common = (grown("replace", column) for column in ("nll_rare", "nll_common"))
    first, final = (mean("replace", t, "rare_survival") for t in (0, last))
    fresh = mean("human", 0, "rare_survival_human")
    text = f"""Trained only on its predecessor's text (`replace`), generation {last} is {replace:.0%} worse on held-out
        human text than the control, which saw human text with the same seeds and compute; keeping the human text and
        adding every sample to it (`accumulate`) costs {accumulate:.0%}. Rare words go first: under `replace` the loss
        inside words that the human text has one to three times grew by {rare:.2f} nats a token, inside the commonest
        words by {common:.2f}. The generated text holds {first:.1%} of the rare words at generation 0 and {final:.1%} at
        generation {last}, where as much fresh human text would hold {fresh:.0%}: a small model loses most of them in
        one step, and collapse takes from what is left."""
    return filled(text)


REGIMES = ("replace", "accumulate")


def against_theory() -> str:
    """The lines of the last generations that say most, and how many agree in all."""
    rows = read_exact(RESULTS / "exact.csv")
    shown = [row for row in exact.last(rows) if row.column in SHOWN]
    agree = sum(row.verdict == "agrees" for row in rows)
    wide = sum(row.verdict == "too wide" for row in rows)
    text = f"""{agree} of {len(rows)} numbers agree, over all generations and columns (`exact.csv` in the run's
        folder), and {wide} more have intervals too wide to tell; by chance one in a thousand would be off."""
    return exact.as_markdown(shown) + "\n" + " ".join(text.split())


def null_rates() -> str:
    """How often the comparison of regimes rejects where nothing is to be found."""
    found = json.loads((RESULTS / "null.json").read_text(encoding="utf-8"))
    sizes = sorted({rate["seeds"] for rate in found["rates"]}, reverse=True)
    cells: dict[str, dict[int, str]] = {}
    for rate in found["rates"]:
        text = f"{rate['rejected']}: {rate['rate']:.1%} [{rate['low']:.1%}, {rate['high']:.1%}]"
        cells.setdefault(rate["metric"], {})[rate["seeds"]] = text
    lines = [
        "| metric | " + " | ".join(f"{size} against {size} seeds" for size in sizes) + " |",
        "| --- |" + " ---: |" * len(sizes),
        *(f"| {metric} | " + " | ".join(row[size] for size in sizes) + " |" for metric, row in cells.items()),
    ]
    study, limits = found["study"], found["limits"]
    text = f"""Rejections of {found["pairs"]} pairs, the rate and its exact 95 % interval; the binomial limits are
        {limits["fewest"]} and {limits["most"]} (0.1 % and 99.9 %). {study["model"]["order"]}-grams,
        {study["corpus"]["tokens"]:,} human tokens a seed from {study["corpus"]["path"]}, seeds
        {study["seeds"].replace("..", "to")}; two seeds share {found["rows"]["shared"]:.1%} of their rows on average, so
        the intervals speak of other draws from this text, not of other corpora."""
    return "\n".join(lines) + "\n\n" + filled(text)


def experiments() -> str:
    """What the small versions of published experiments found, direction by direction."""
    found = json.loads((RESULTS / "experiments.json").read_text(encoding="utf-8"))
    head = ["study (`-mini`)", "gen", "A", "B", "the paper says", "A - B", "95 % interval", "n", "verdict"]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in found["directions"]:
        interval = f"[{row['low']:+.3f}, {row['high']:+.3f}]"
        cells = [row["study"].removesuffix("-mini"), str(row["generation"]), row["a"], row["b"], row["says"]]
        cells += [f"{row['mean']:+.3f}", interval, str(row["n"]), row["verdict"]]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "Loss on held-out human text in nats per token, generation 0 -> last (mean ± sd over seeds):", ""]
    for study in dict.fromkeys(row["study"] for row in found["levels"]):
        mine = [row for row in found["levels"] if row["study"] == study]
        arms = (f"{row['arm']} {row['first_mean']:.2f} -> {row['mean']:.2f}±{row['sd']:.2f}" for row in mine)
        lines.append(f"- `{study}` (n = {mine[0]['n']}): {'; '.join(arms)}")
    return "\n".join(lines)


def lost() -> str:
    """How often the lab was killed, damaged and fed nonsense, and how often that changed a table."""
    totals = {what: [0, 0] for what in TRIED}
    for path in sorted((RESULTS / "lost").glob("*.json")):
        for what, counts in json.loads(path.read_text(encoding="utf-8")).items():
            if what in totals:
                totals[what] = [total + count for total, count in zip(totals[what], counts, strict=True)]
    lines = ["| what was tried | how often | results that differ |", "| --- | ---: | ---: |"]
    return "\n".join([*lines, *(f"| {TRIED[what]} | {n:,} | {bad} |" for what, (n, bad) in totals.items())])


TRIED = {
    "instants": "kill -9 at every instant of a commit or of a checkpoint that a run passes, each on an empty store",
    "random kills": "kill -9 at random moments, of the whole process group",
    "corruptions": "an artifact truncated, zeroed, bit-flipped or deleted, before a run or while it is in use",
    "hostile": "hostile configurations, corpora and checkpoints (ended otherwise than in one line, or in a sound plan)",
}
"""Of data/results/lost/*.json, what scripts/checks/soak.py and scripts/checks/fuzz.py write with --json."""


def performance() -> str:
    """What the benchmarks wrote: each peer in its fastest setting, and losses beside those of Trainer."""
    notes = json.loads((BENCH / "notes.json").read_text(encoding="utf-8"))
    parts = [filled(f"Measured on {'; '.join(bench_table.machines(BENCH))}; {notes['how']}")]
    parts.append(bench_table.table(BENCH, everything=False))
    parts.append(filled(EVERYTHING))
    parts += [filled(f"- {note}", indent="  ") for note in notes["misses"]]
    parts += ["Validation loss after equal tokens, nats a token:", bench_table.curves(BENCH)]
    return "\n\n".join(parts)


EVERYTHING = """Every setting of every peer, where the time of the hot loops goes, and memory and time as corpora and
    generations grow: [data/results/bench](data/results/bench/README.md)."""


def every_setting() -> str:
    """The page beside the benchmarks' records."""
    notes = json.loads((BENCH / "notes.json").read_text(encoding="utf-8"))
    said = f"""What scripts/bench_*.py wrote with --json, measured on {"; ".join(bench_table.machines(BENCH))}.
        The main README says which goals are missed, and why; this page is written by scripts/readme.py."""
    parts = ["# Benchmarks, whole", filled(said), "## Every setting of every peer"]
    parts += [bench_table.table(BENCH, everything=True), "## Where the time goes", filled(notes["profile"])]
    parts += [bench_table.profile(BENCH), "## Growth", filled(notes["growth"]), bench_table.growth(BENCH)]
    return "\n\n".join(parts) + "\n"


def filled(text: str, indent: str = "") -> str:
    return textwrap.fill(" ".join(text.split()), 128, subsequent_indent=indent, break_on_hyphens=False)


SHOWN = ("heterozygosity", "types", "lost_1", "unseen", "share_first", "perplexity")


def rendered(text: str) -> str:
    folder = RunFolder(RESULTS)
    rows, config = folder.results(), folder.config()
    timing = json.loads((RESULTS / "timing.json").read_text(encoding="utf-8"))
    parts = {
        "meaning": meaning(rows),
        "quick": f"{as_markdown(rows, HEADLINE['text'])}\n{caption(config, rows)}.",
        "timing": "Measured from a fresh clone (" + timing["machine"] + "): " + "; ".join(timing["lines"]) + ".",
        "exact": against_theory(),
        "null": null_rates(),
        "experiments": experiments(),
        "lost": lost(),
        "performance": performance(),
        "tree": tree(),
    }
    for name, body in parts.items():
        pattern = rf"(<!-- {name}: begin -->\n).*?(<!-- {name}: end -->)"
        text, found = re.subn(pattern, lambda m, b=body: f"{m[1]}{b}\n{m[2]}", text, flags=re.S)
        if found != 1:
            raise SystemExit(f"error: README.md has {found} places for {name}; it needs one")
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="a finished run to take the results from")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if options.run is not None:
        take(options.run)
    pages = {ROOT / "README.md": rendered, BENCH / "README.md": lambda old: every_setting()}
    stale = False
    olds = {page: page.read_text(encoding="utf-8") if page.exists() else "" for page in pages}
    news = {page: written(olds[page]) for page, written in pages.items()}  # all, before any is written
    for page, old in olds.items():
        new = news[page]
        if options.check and new != old:
            print(f"{page.relative_to(ROOT)} is not what scripts/readme.py writes; run it", file=sys.stderr)
            stale = True
        elif not options.check:
            page.write_text(new, encoding="utf-8")
    return int(stale)


if __name__ == "__main__":
    sys.exit(main())
