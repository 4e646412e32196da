"""A run's folder: the resolved study, links to its artifacts, and the tables, which are rebuilt from records."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import uuid
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lab.config.files import difference, parse_study, read_yaml
from lab.config.study import StudyConfig
from lab.config.sweep import NAME, arms
from lab.errors import InputError, printable
from lab.loop import Generation, Study
from lab.metrics import columns as measured
from lab.metrics.columns_curation import NAMES as CURATION
from lab.metrics.columns_profile import names as profile_names
from lab.metrics.columns_radioactivity import NAMES as RADIOACTIVITY
from lab.run.records import read_curation, read_extras, read_profile, read_record, read_traces
from lab.steps.curation.curate import CURATE
from lab.steps.place import Machine
from lab.store import crash_points
from lab.store.atomic import beside, make_folder, write_file, write_text
from lab.store.leftovers import sweep
from lab.store.space import nearest
from lab.store.step import Step
from lab.store.store import Store

if TYPE_CHECKING:
    import pandas

BIN_COLUMNS = ("level", "bin", "tokens", "words", "types", "nats_per_token", "nats_per_word")
TITLES = "titles.json"
"""Titles of the columns of the user's own metrics, in a run's folder."""
GROWS = ("seeds", "regimes", "generations")
"""Fields in which a run may be extended: what exists stays true."""

FREE: dict[str, Any] = {
    **dict.fromkeys(("note", "published", "keep_models", "profile"), True),
    "compute": {"checkpoint_seconds"},
    "metrics": {"extra", "radioactivity"},
}
"""Fields that change no number that exists."""


_PATHS = {"corpus": "corpus.path", "tokenizer": "tokenizer.pretrained", "model": "model.path"}
"""What a study's content is of -> the field with its path."""


def keys(config: StudyConfig) -> tuple[str, ...]:
    """Return the columns that name the chain and the generation of a row."""
    return ("regime", *arms(config)[0].axes, "seed", "generation")


def axes_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the swept fields among a table's columns: those between `regime` and `seed`."""
    columns = list(rows[0]) if rows else ["regime", "seed"]
    return columns[columns.index("regime") + 1 : columns.index("seed")]


@dataclass(frozen=True)
class RunFolder:
    """checkpoints/<run>/: config.yaml, env.json, results.csv and .parquet, bins.csv, a folder for each chain."""

    path: Path

    @property
    def store(self) -> Store:
        """The store beside the run."""
        return Store(self.path.absolute().parent / "store")

    def config(self) -> StudyConfig:
        """Read the resolved study of this run.  InputError: the folder holds none."""
        path = self.path / "config.yaml"
        if not path.is_file():
            raise InputError(_no_run(self.path))
        return parse_study(read_yaml(path))

    def recorded(self, name: str) -> Any:
        """Read an entry of env.json; of a file that is missing or damaged it is None."""
        try:
            return json.loads((self.path / "env.json").read_text(encoding="utf-8"))[name]
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def machine(self) -> Machine | None:
        """Read the arithmetic that it was run with; None where env.json does not state it."""
        device, dtype, threads = map(self.recorded, ("device", "dtype", "threads"))
        return (
            None if None in (device, dtype, threads) else Machine(device, dtype, threads, self.recorded("instructions"))
        )

    def content(self) -> dict[str, dict[str, str]] | None:
        """Read what corpus, tokenizer and model it was run with, by arm; None where env.json does not state it."""
        try:
            recorded = self.recorded("content")
            return {str(arm): {str(k): str(v) for k, v in content.items()} for arm, content in recorded.items()}
        except AttributeError:
            return None

    def check_content(self, study: Study) -> None:
        """Raise InputError if the text, the tokenizer or the model behind a run has changed since it was run."""
        before = self.content() or {}
        changed = {
            f"{_PATHS[name]}: what is at {_path(arm.config, name)} has changed since it was run"
            for arm in arms(study.config)
            for name, value in study.content[arm.label].items()
            if value != before.get(arm.label, {}).get(name, value)
        }
        if changed:
            raise InputError(
                f"{self.path} belongs to another study ({'; '.join(sorted(changed))}); a run keeps its text: put the "
                "old files back, or choose another name with --run NAME"
            )

    def check_place(self) -> None:
        """Raise InputError if the folder or the store beside it cannot be written, before anything is."""
        if self.path.is_symlink():
            raise InputError(
                f"{self.path} is a link, and from elsewhere the links of a run would not lead to its store: choose "
                "another name with --run NAME, or make all of the checkpoints folder a link"
            )
        for link in (*self.path.glob("*"), *self.path.glob("*/gen-*")):
            if link.is_symlink():
                raise InputError(f"{link} is a link, and a run writes there: remove it, or choose another --run NAME")
        for link in self.path.glob("*/gen-*/*"):
            if link.is_dir() and not link.is_symlink():
                raise InputError(
                    f"{link} is a folder, where a run has a link into its store: it was copied with the links followed "
                    "(cp -rL). It can be shown; to continue it, copy all of the checkpoints folder with cp -a, or "
                    "choose another name with --run NAME"
                )
        for folder in (self.path.absolute().parent, self.path, self.store.root):
            if os.path.lexists(folder) and not folder.is_dir():
                raise InputError(f"{folder} is no folder; move it away, or choose another with --checkpoints DIR")
            existing = nearest(folder)
            if not os.access(existing, os.W_OK | os.X_OK):
                raise InputError(f"{existing} cannot be written; choose another place with --checkpoints DIR")

    def check_extends(self, new: StudyConfig, *, aside: bool = True) -> str | None:
        """Check that this run is absent, or that `new` only adds seeds, regimes and generations to it.

        Where config.yaml cannot be read it is moved aside, `new` takes its place, and a note for the user is returned.
        With `aside` false nothing is moved.

        Raises:
            InputError: the run belongs to another study.  The message lists the differences.
        """
        if not (self.path / "config.yaml").exists():
            return None
        try:
            old = self.config()
        except InputError as error:
            if not (self.path / "config.yaml").is_file():
                raise
            place = self.path / f".corrupt-config-{uuid.uuid4().hex[:8]}.yaml"
            if not aside:
                return f"{self.path}/config.yaml is damaged ({error}): lab run moves it aside and writes it anew"
            (self.path / "config.yaml").rename(place)
            return f"{self.path}/config.yaml was damaged ({error}): it is moved to {place.name} and written anew"
        a, b = (config.model_dump(mode="json", exclude=FREE) for config in (old, new))
        fixed = [name for name in a if name not in GROWS]
        lines = difference({name: a[name] for name in fixed}, {name: b[name] for name in fixed})
        labels = [[regime.label for regime in config.regimes] for config in (old, new)]
        for name, before, after in (("seeds", a["seeds"], b["seeds"]), ("regimes", *labels)):
            if not set(before) <= set(after):
                lines.append(f"{name}: {before} -> {after}")
        if old.generations > new.generations:
            lines.append(f"generations: {old.generations} -> {new.generations}")
        if lines:
            raise InputError(
                f"{self.path} belongs to another study ({'; '.join(lines)}); a run can only gain seeds, regimes and "
                "generations: choose another name with --run NAME"
            )
        return None

    def begin(self, study: Study, environment: Mapping[str, Any]) -> None:
        """Write config.yaml and env.json."""
        make_folder(self.path)
        sweep(self.path)
        text = yaml.safe_dump(study.config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        write_text(self.path / "config.yaml", text)
        recorded = {**environment, "content": study.content}
        write_text(self.path / "env.json", json.dumps(recorded, indent=1, sort_keys=True) + "\n")

    def widen(self, study: Study) -> None:
        """Record that the run has a profile now, and write links and tables with it.  Nothing else may differ."""
        try:
            environment = json.loads((self.path / "env.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):  # the machine was read before, so that it is only a file that has gone since
            environment = vars(study.machine)
        self.begin(study, environment)
        self.link(study.generations, self.store)
        self.write_tables(study, self.store)

    def link(self, generations: Sequence[Generation], store: Store) -> None:
        """Link <chain>/gen-<tt>/{model,synthetic,evidence,record} to what is in the store, by relative paths."""
        for generation in generations:
            folder = self.path / generation.chain / f"gen-{generation.t:02d}"
            folder.mkdir(parents=True, exist_ok=True)
            sweep(folder)
            for name, step in generation.artifacts.items():
                target = store.folder(step.name, step.key)
                if target.is_dir():
                    _link(folder / name, Path(os.path.relpath(target, folder)))

    def write_tables(self, study: Study, store: Store, some: Set[Step] | None = None) -> list[dict[str, Any]]:
        """Write results.csv, results.parquet and bins.csv from the records; return the rows of the first.

        `some`: the records to look for; all by default.
        """
        rows, bins = [], []
        generations = [g for g in _sorted(study.generations) if some is None or g.record in some]
        own = [read_extras(store, generation) for generation in generations]
        titles = _own_titles(study, own, store.note)
        named, columns = keys(study.config), measured.names(study.config.corpus.kind)
        asked = profile_names(study.config.corpus.kind) if study.config.profile else ()
        traced = RADIOACTIVITY if any(generation.radioactivity for generation in generations) else ()
        curation = CURATION if any(generation.recipe.name == CURATE.name for generation in generations) else ()
        for generation, metrics in zip(generations, own, strict=True):
            record = read_record(store, generation)
            if record is None:
                continue
            axes = generation.arm.axes
            key = {"regime": generation.regime, **axes, "seed": generation.seed, "generation": generation.t}
            numbers = {name: _number(record["columns"][name]) for name in columns}
            # The first metric with a name keeps it.
            named_own = {name: value for given in reversed(metrics.values()) for name, value in given.items()}
            profiled = {name: math.nan for name in asked} | read_profile(store, generation).get("columns", {})
            curated = read_curation(store, generation, numbers) if curation else {}
            curated |= read_traces(store, generation) if traced else {}
            rows.append({**key, **numbers, **curated, **profiled, **dict.fromkeys(titles, math.nan), **named_own})
            for level, several in record["bins"].items():
                bins += [{**key, "level": level, "bin": each["label"], **each} for each in several]
        columns = (*columns, *curation, *traced, *asked, *titles)
        write_text(self.path / "results.csv", to_csv(rows, (*named, *columns)))
        write_text(self.path / "bins.csv", to_csv(bins, (*named, *BIN_COLUMNS)))
        _write_parquet(self.path / "results.parquet", rows, (*named, *columns))
        if titles:
            write_text(self.path / TITLES, json.dumps(titles, indent=1) + "\n")
        else:
            (self.path / TITLES).unlink(missing_ok=True)
        return rows

    def titles(self) -> dict[str, str]:
        """Return what tables print above the columns of the user's own metrics: name -> title."""
        try:
            found = json.loads((self.path / TITLES).read_text(encoding="utf-8"))
            return {str(name): printable(str(title)) for name, title in found.items()}
        except (OSError, ValueError, AttributeError):  # the titles of columns without one are their names
            return {}

    def results(self) -> list[dict[str, Any]]:
        """Read the rows of results.csv, numbers as numbers."""
        return read_csv(self.path / "results.csv", text={"regime", NAME})


def _own_titles(study: Study, own: Sequence[Mapping[str, Any]], note: Callable[[str], None]) -> dict[str, str]:
    """Return the columns that the user's own metrics gave, with their titles, in the order of the study.

    Where two metrics give a column of one name, the first one keeps it, and a note says so.
    """
    metrics = {step.params["metric"]: step.where["title"] for each in study.generations for step in each.extras}
    taken: dict[str, str] = {}
    titles: dict[str, str] = {}
    for metric, title in metrics.items():
        names = dict.fromkeys(name for numbers in own for name in numbers.get(metric, ()))
        for name in names:
            if taken.setdefault(name, metric) == metric:
                titles[name] = title if len(names) == 1 else f"{title}: {name}"
            else:
                note(f"metrics.extra: {metric} also gives a column {name}, which is {taken[name]}'s; rename one")
    return titles


def _sorted(generations: Sequence[Generation]) -> list[Generation]:
    """Sort by arm and regime in the order of the study, then by seed and generation."""
    chains = list(dict.fromkeys((g.arm.label, g.regime) for g in generations))
    rank = {chain: index for index, chain in enumerate(chains)}
    return sorted(generations, key=lambda g: (rank[g.arm.label, g.regime], g.seed, g.t))


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def to_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Return a table as CSV: floats by repr, so that reading gives the same bits; a field that a row lacks is empty.

    pandas would write both nan and a missing field as empty.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        values = (row.get(name, "") for name in columns)
        writer.writerow([repr(value) if isinstance(value, float) else value for value in values])
    return text.getvalue()


def read_csv(path: Path, text: set[str]) -> list[dict[str, Any]]:
    """Read rows with numbers as numbers.  Columns in `text` hold none; those of swept fields may hold either."""
    if not path.exists():
        run = path.parent
        raise InputError(f"{run} has no {path.name} yet" if (run / "config.yaml").exists() else _no_run(run))
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
        mixed = axes_of(rows)
        if any(None in row or None in row.values() for row in rows):
            raise ValueError("a line has more or fewer fields than the first")
        return [{k: v if k in text else _parse(v, lenient=k in mixed) for k, v in row.items()} for row in rows]
    except (ValueError, csv.Error) as error:
        raise InputError(f"{path} is damaged ({error}); lab run writes it again") from None


def _parse(text: str, *, lenient: bool) -> Any:
    """Read a number.  If `lenient`, only what is written as a number would be: the arm "007" stays text."""
    try:
        number = int(text) if text.lstrip("-").isdigit() else float(text or "nan")
    except ValueError:
        if lenient:
            return text
        raise
    return text if lenient and str(number) != text else number


def _write_parquet(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = {}
    for name in columns:
        values = [row[name] for row in rows]
        if name == "regime" or any(isinstance(value, str) for value in values):
            arrays[name] = pa.array([str(value) for value in values], pa.string())
            continue
        integers = bool(values) and all(isinstance(value, int) for value in values)
        whole = integers or name in ("seed", "generation") or measured.column(name).whole
        arrays[name] = pa.array(values, pa.int64() if whole else pa.float64())
    write_file(path, lambda temporary: pq.write_table(pa.table(arrays), temporary))


def _link(path: Path, target: Path) -> None:
    if path.is_symlink() and Path(os.readlink(path)) == target:
        return
    temporary = beside(path)
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    crash_points.at("link/made")
    temporary.replace(path)
    crash_points.at("link/renamed")


def _path(config: StudyConfig, name: str) -> str | None:
    """Return the path of a study's corpus, tokenizer or model."""
    section, field = (config.words, "pretrained") if name == "tokenizer" else (getattr(config, name), "path")
    return getattr(section, field, None)


def _no_run(path: Path) -> str:
    here = sorted(p.parent.name for p in path.parent.glob("*/config.yaml")) if path.parent.is_dir() else []
    hint = f"runs beside it: {', '.join(here)}" if here else "start one with lab run STUDY"
    return f"{path} holds no run; {hint}"


@dataclass(frozen=True)
class Run:
    """A run for a notebook, with pandas tables."""

    path: Path
    config: StudyConfig
    results: pandas.DataFrame
    """One row for each (regime, seed, generation)."""
    bins: pandas.DataFrame
    """Loss by training frequency: one row for each (regime, seed, generation, level, bin)."""

    @classmethod
    def open(cls, path: Path) -> Run:
        """Read a run.  InputError: the folder holds none, or no results yet."""
        import pandas

        text = {"regime", NAME, "level", "bin"}
        config = RunFolder(path).config()
        return cls(
            path, config, *(pandas.DataFrame(read_csv(path / f"{name}.csv", text)) for name in ("results", "bins"))
        )
