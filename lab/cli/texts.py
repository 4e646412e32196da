"""`lab texts`: what the models of a generation wrote."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from lab.cli.terminal import AsJson, Checkpoints, RunName, folder_of, print_json, print_titled, say, wide_console
from lab.errors import InputError, printable

EXAMPLES = """\b
Examples:
  lab texts quick
  lab texts quick --gen 2 --regime replace --seed 0 --n 5
  lab texts quick --regime replace --human
  lab texts quick --regime replace --telephone"""


def print_texts(
    run: RunName,
    gen: Annotated[int | None, typer.Option(min=0, metavar="T", help="The generation (default: the last).")] = None,
    regime: Annotated[str | None, typer.Option(metavar="LABEL", help="One regime (default: all).")] = None,
    arm: Annotated[str | None, typer.Option(metavar="LABEL", help='One arm of a sweep: "temperature 1".')] = None,
    seed: Annotated[int | None, typer.Option(min=0, metavar="S", help="The seed (default: the first).")] = None,
    n: Annotated[int, typer.Option("--n", min=1, max=100_000, metavar="N", help="Rows of each sample.")] = 3,
    human: Annotated[bool, typer.Option("--human", help="Show as many rows of human training text beside.")] = False,
    telephone: Annotated[
        bool, typer.Option("--telephone", help="Show how each generation continues N held-out prompts.")
    ] = False,
    as_json: AsJson = False,
    checkpoints: Checkpoints = Path("checkpoints"),
) -> None:
    """Show what the models of a generation wrote: the first rows of each regime's sample."""
    folder = folder_of(run, checkpoints)
    config = folder.config()
    if config.corpus.kind == "source":
        raise InputError(f"{run} is on a known source, whose samples are tokens without text")
    seed = _known("seed", config.seeds[0] if seed is None else seed, config.seeds, run)
    if telephone:
        _telephone(folder, list(_chains(config, regime, arm, run)), seed, n, as_json)
        return
    found: list[dict[str, Any]] = []
    for each, label in _chains(config, regime, arm, run):
        t = _generation(folder.path / f"{each}-seed{seed}", gen, label)
        sample = folder.path / f"{each}-seed{seed}" / f"gen-{t:02d}"
        about = {"regime": label, "seed": seed, "generation": t}
        found += [{"writer": "model", **about, **row} for row in _rows(sample / "synthetic", n)]
        if human:
            found += [{"writer": "human", **about, **row} for row in _rows(_human(folder, sample), n)]
    if as_json:
        print_json(found)
    else:
        _print(found, config.sample.prompt_tokens)


def _telephone(folder: Any, chains: list[tuple[str, str]], seed: int, n: int, as_json: bool) -> None:
    """Show how each generation continues the first prompts: a column per generation."""
    from lab.report.memory import continued, side_by_side

    found = {label: continued(folder, f"{each}-seed{seed}") for each, label in chains}
    if as_json:
        about = [({"regime": label, "seed": seed, "generation": t}, by[t]) for label, by in found.items() for t in by]
        print_json([{**chain, "number": k, **row} for chain, rows in about for k, row in enumerate(rows[:n])])
        return
    for label, by in found.items():
        for k, rows in enumerate(list(zip(*by.values(), strict=True))[:n]):
            title = f"{label}, seed {seed}, prompt {k}: {printable(' '.join(rows[0]['prompt'].split()))}"
            texts = {t: row["continuation"] for t, row in zip(by, rows, strict=True)}
            print_titled(title, *side_by_side(texts, wide_console().width), None)


def _known(kind: str, given: Any, allowed: Any, run: str) -> Any:
    """Return what was given, if the run has it; else InputError."""
    if given not in allowed:
        raise InputError(f"{run} has no {kind} {given}; it has {', '.join(map(str, allowed))}")
    return given


def _chains(config: Any, regime: str | None, arm: str | None, run: str) -> Iterator[tuple[str, str]]:
    """Yield folder name without the seed, and label, of the chains that are asked for."""
    from lab.config.sweep import arm_label, arms, label
    from lab.report.lines import plain, spellings

    swept = arms(config)
    if arm is not None:
        chosen = [each for each in swept if plain(arm) in spellings(each.axes)]
        swept = chosen or _known("arm", arm, [arm_label(each.axes) for each in swept], run)
    regimes = dict.fromkeys(each.label for one in swept for each in one.config.regimes)
    if regime is not None:
        _known("regime", regime, regimes, run)
    for one in swept:
        for each in one.config.regimes:
            if regime in (None, each.label):
                yield f"{each.label}{one.label}", label(each.label, one.axes)


def _generation(chain: Path, gen: int | None, label: str) -> int:
    """Return the generation that is asked for, by default the last one that has written."""
    written = sorted(int(path.parent.name[4:]) for path in chain.glob("gen-*/synthetic"))
    if not written:
        raise InputError(f"{label} has no generation measured yet in {chain}; lab run continues it")
    if gen is not None and gen not in written:
        raise InputError(f"{label} has no generation {gen} in {chain}; it has {written[0]} to {written[-1]}")
    return written[-1] if gen is None else gen


def _human(folder: Any, generation: Path) -> Path:
    """Return where the human rows lie that a generation's numbers were measured against: those of its seed."""
    from lab.store.manifest import Manifest

    try:
        own = Manifest.of(generation / "record").inputs["human"]
    except (OSError, ValueError, KeyError):
        raise InputError(
            f"{generation} is not measured yet, so its human text is not known; lab run continues"
        ) from None
    path: Path = folder.store.folder(own.step, own.key)
    return path


def _rows(folder: Path, n: int) -> list[dict[str, Any]]:
    """Return the first rows of a corpus artifact: number and text, and of human text the document."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(folder / "rows.parquet") as file:
            batch = next(file.iter_batches(batch_size=n, columns=["text", "document"])).to_pylist()
    except (OSError, pa.ArrowException, StopIteration) as error:
        raise InputError(f"{folder / 'rows.parquet'} cannot be read ({error}); lab run makes it again") from None
    known = [{name: value for name, value in row.items() if value is not None} for row in batch]
    return [{"row": number, **row} for number, row in enumerate(known)]


def _print(found: list[dict[str, Any]], prompt: int) -> None:
    after = f" after {prompt} human tokens" if prompt else ""
    for row in found:
        where = f"{row['regime']}, seed {row['seed']}, generation {row['generation']}"
        if row["writer"] == "model":
            say(f"{where}: row {row['row']} of its sample{after}", "bold")
        else:
            document = f", from {printable(row['document'])}" if "document" in row else ""
            say(f"human text, seed {row['seed']}: row {row['row']}{document}", "bold")
        say("\n".join(printable(line) for line in row["text"].split("\n")) + "\n")
