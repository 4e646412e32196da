"""The files that a corpus path means: their formats, how they are packed, and what of a folder is left out."""

from __future__ import annotations

import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from lab.config.files import ROOT
from lab.config.text import CorpusConfig
from lab.errors import InputError, plural, printable
from lab.hashing import digest
from lab.store.atomic import file_sha256

FORMATS = {
    **dict.fromkeys((".txt", ".raw"), "text"),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), "json"),
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",
}
"""The end of a file's name, in any case -> its format."""
PACKINGS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
"""What may follow the end of the name of a file of text, JSON, CSV or TSV -> how the file is packed."""
ALLOWED = f"{', '.join(FORMATS)} file (a file of text, JSON, CSV or TSV may be packed: {', '.join(PACKINGS)})"
READING = {"parquet": "parquet", "text": "text 2", "csv": "csv 2", "tsv": "tsv 2", "json": "json 2", "arrow": "arrow"}
"""Format -> its name in a corpus's identity. The number is raised when the same bytes are read as other documents."""
PAPERS = re.compile(
    r"(un)?licen[cs]es?([-_.]\S*)?|(readme|copying|requirements)([-_.]\S*)?|notice|changelog|contributing|contributors|"
    r"authors|copyright|citation|(md5|sha1|sha256)sums?",
    re.IGNORECASE,
)
"""Names of text files that lie beside data and are about it."""
FACTS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
"""Files in which `datasets` describes a data set."""
MOST_FILES = 100_000
"""Most files that a corpus folder may hold. Every start opens them all, to see whether the corpus changed."""
SHOWN = 3
"""Names of files that a line shows."""
COMPRESSION = 3
"""Bytes of text per byte of Parquet or of a packed file, about."""
MOST_UNPACKED, FREE_UNPACKED = 100, 1 << 24
"""Most bytes that a packed file may unpack to, for each of its own bytes, and bytes that any may. Text packs to 2 to
20 times less."""
HOLD_ALL = {"PLAIN", "RLE", "BIT_PACKED", "PLAIN_DICTIONARY", "RLE_DICTIONARY", "DELTA_LENGTH_BYTE_ARRAY"}
"""Encodings of a Parquet column that hold each different text whole."""


@dataclass(frozen=True)
class File:
    """A file of a corpus."""

    path: Path
    format: str
    packing: str | None = None
    split: str | None = None
    """Which of corpus.splits it is. None where they are values of a column or not given."""

    @property
    def most_bytes(self) -> int:
        """Return the most bytes that the file may hold when it is unpacked."""
        size = self.path.stat().st_size
        return size if self.packing is None else FREE_UNPACKED + MOST_UNPACKED * size


@dataclass
class Found:
    """The files of a corpus, and what of its folder is not read."""

    files: list[File] = field(default_factory=list)
    left: Counter[str] = field(default_factory=Counter)
    """Why a file or a folder is left out -> how many are."""
    first: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Why a file or a folder is left out -> the names of the first few."""

    def leave(self, why: str, name: str) -> None:
        """Count a file or a folder that is left out."""
        self.left[why] += 1
        if len(self.first[why]) < SHOWN:
            self.first[why].append(name)

    def line(self) -> str:
        """Return what is read and what is left out, on one line."""
        names = [file.path.name for file in self.files[:SHOWN]]
        left = "; ".join(f"{count:,} {why} ({_some(self.first[why], count)})" for why, count in self.left.items())
        files = plural(len(self.files), "file")
        return f"read {files} ({_some(names, len(self.files))})" + (f"; left out: {left}" if left else "")

    def to_json(self) -> dict[str, Any]:
        """Return what `line` says as JSON values."""
        left = [{"why": why, "count": count, "first": self.first[why]} for why, count in self.left.items()]
        return {"read": len(self.files), "first": [file.path.name for file in self.files[:SHOWN]], "left": left}


def _some(names: list[str], count: int) -> str:
    more = f" and {count - len(names):,} more" if count > len(names) else ""
    return printable(", ".join(names)) + more


def local(path: str) -> Path | None:
    """Return the local file or folder that a path means: in the working directory, or else in the lab's own folder."""
    return next((candidate for candidate in (Path(path), ROOT / path) if path.strip() and candidate.exists()), None)


def find_files(config: CorpusConfig) -> Found:
    """Return the files of a corpus, sorted. There are none where the path is the id of a hub data set.

    Raises:
        InputError: the path looks local, but is missing, holds no corpus file, or mixes formats; or a field is set that
            a local corpus has no use for.
    """
    path, here = config.path, local(config.path)
    if here is None:
        if re.fullmatch(r"\w[\w.-]*/[\w.-]+", path, re.ASCII) and not _known(path):
            return Found()
        raise InputError(f"corpus.path {path} does not exist; give a file ({', '.join(FORMATS)}), a folder or a hub id")
    if config.split_names:
        return _three_splits(here, config)
    if here.is_dir() and (here / "dataset_dict.json").is_file():
        return _one_split(here, config)
    only_hub = ("split", config.split, "train"), ("subset", config.subset, None), ("revision", config.revision, None)
    for name, value, default in only_hub:
        if value != default:
            raise InputError(
                f"corpus.{name} is {value}, but corpus.path {path} is a local {'folder' if here.is_dir() else 'file'} "
                f"without {name}s, of which all is read: take corpus.{name} out, or give the path of a part"
            )
    if here.is_dir():
        return _saved(here) if (here / "state.json").is_file() else _below(here)
    kind, packing = format_of(here.name)
    if kind is None or not here.is_file():
        raise InputError(f"corpus.path {path}: no {ALLOWED} there{_rename(here) if here.is_file() else ''}")
    return Found([File(here, kind, packing)])


def _known(name: str) -> bool:
    return format_of(name)[0] is not None


def format_of(name: str) -> tuple[str | None, str | None]:
    """Return the format that a file's name tells, or None, and how the file is packed, or None."""
    packing = PACKINGS.get(Path(name).suffix.lower())
    kind = FORMATS.get((Path(Path(name).stem) if packing else Path(name)).suffix.lower())
    return (None, None) if packing and kind in ("parquet", "arrow") else (kind, packing)


def _rename(file: Path) -> str:
    """Return what to do with a file whose name tells no format."""
    if Path(file.stem).suffix.lower() in (".parquet", ".arrow"):
        return f": unpack {file.name} first, {Path(file.stem).suffix} is packed by itself"
    return f": the end of the name tells the format, so rename {file.name} (plain text is .txt)"


def _below(folder: Path) -> Found:
    """Return the corpus files of a folder and its subfolders. Raise InputError at the first unusable one."""
    found = Found()
    for file, name in _walk(folder, found):
        kind, packing = format_of(file.name)
        if kind is None:
            found.leave("of no known format", name)
        elif (kind == "text" and PAPERS.fullmatch(_stem(file.name))) or file.name in FACTS:
            found.leave("about the data, by name", name)
        elif not file.is_file():
            raise InputError(f"corpus.path {folder}: {file} is no file that can be read, or a link to nothing")
        else:
            found.files.append(File(file, kind, packing))
            if kind != found.files[0].format:
                raise InputError(
                    f"corpus.path {folder} mixes kinds of files ({found.files[0].path.name}, {file.name}); give one "
                    "kind, or one file"
                )
            if len(found.files) > MOST_FILES:
                raise InputError(f"corpus.path {folder} has more than {MOST_FILES:,} files; join them")
    if not found.files:
        left = f"; {found.line().partition('; ')[2]}" if found.left else ""
        raise InputError(f"corpus.path {folder}: no {ALLOWED} there{left}")
    found.files.sort(key=lambda file: file.path)
    return found


def _stem(name: str) -> str:
    """Return the name of a file without the ends that tell its format and packing."""
    stem = Path(name).stem
    return Path(stem).stem if Path(name).suffix.lower() in PACKINGS else stem


def _walk(folder: Path, found: Found) -> Iterator[tuple[Path, str]]:
    """Yield the files below a folder with their names in it. Hidden files and folders are left out."""
    for parent, folders, names in os.walk(folder, onerror=_raise):
        within = Path(parent).relative_to(folder)
        for name in sorted(folders):
            if name.startswith(".") or name == "__MACOSX":
                found.leave("hidden", f"{within / name}/")
            elif Path(parent, name).is_symlink():
                raise InputError(
                    f"corpus.path {folder} holds a link to a folder, {Path(parent, name)}: give that itself"
                )
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
        for name in sorted(names):
            if name.startswith("."):
                found.leave("hidden", str(within / name))
            else:
                yield Path(parent, name), str(within / name)


def _raise(error: OSError) -> None:
    """Raise InputError for a folder that may not be read, which os.walk would skip in silence."""
    raise InputError(f"corpus.path: {error.filename} cannot be read: {error.strerror}") from None


def _three_splits(folder: Path, config: CorpusConfig) -> Found:
    """Return the files of the splits that a corpus comes with, each of which is found like a corpus of its own."""
    found, saved = Found(), (folder / "dataset_dict.json").is_file()
    for name in config.split_names:
        if not saved and not (folder / name).exists():
            there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
            held = f"holds {_some(there[:SHOWN], len(there)) or 'nothing'}" if folder.is_dir() else "is no folder"
            raise InputError(
                f"corpus.splits names {name}, and corpus.path {folder} {held}: give the names of files or folders in "
                "it, set corpus.splits.column, or take corpus.splits out"
            )
        own = {"split": name} if saved else {"path": str(folder / name)}
        part = find_files(config.model_copy(update={"splits": None, **own}))
        found.files += [replace(file, split=name) for file in part.files]
        for why, count in part.left.items() if not saved else ():
            found.left[why] += count
            found.first[why] = (found.first[why] + part.first[why])[:SHOWN]
    return found


def _one_split(folder: Path, config: CorpusConfig) -> Found:
    """Return the files of the split that a study names, of a DatasetDict that `save_to_disk` wrote."""
    splits = _names(folder / "dataset_dict.json", "splits")
    if config.split not in splits:
        raise InputError(
            f"corpus.path {folder} has no split {config.split}: set corpus.split to one of {', '.join(splits)}"
        )
    found = _saved(folder / config.split)
    for split in splits:
        if split != config.split:
            found.leave("other split", split)
    return found


def _saved(folder: Path) -> Found:
    """Return the Arrow files of a data set that `save_to_disk` of `datasets` wrote, in the order that it states."""
    files = [folder / name for name in _names(folder / "state.json", "_data_files")]
    missing = [file.name for file in files if not file.is_file()]
    if missing or not files:
        raise InputError(f"corpus.path {folder} lacks {', '.join(missing) or 'data files'}: save the data set again")
    return Found([File(file, "arrow") for file in files])


def _names(file: Path, entry: str) -> list[str]:
    """Return the names of files or folders that a file of `datasets` lists. Raise InputError for any other path."""
    try:
        listed = json.loads(file.read_text(encoding="utf-8"))[entry]
        names = [item["filename"] if isinstance(item, Mapping) else item for item in listed]
        if any(Path(name).name != name for name in names):
            raise ValueError(f"a name in {entry} is a path")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{file} is not what save_to_disk of datasets writes ({error}): save it again") from None
    return names


def files_identity(found: Found, marked: Sequence[bool]) -> str:
    """Return the identity of local files by content: it changes with any byte, and with no name.

    `marked` tells which of them hold byte order marks that their reader drops.
    """
    kinds = [
        " ".join(filter(None, (READING[file.format], file.packing, file.split, "without marks" if marks else None)))
        for file, marks in zip(found.files, marked, strict=True)
    ]
    return digest([[kind, file_sha256(file.path)] for kind, file in zip(kinds, found.files, strict=True)])


def text_bytes(found: Found) -> int:
    """Estimate the bytes of text in local files."""
    return sum(
        file.path.stat().st_size * (COMPRESSION if file.packing or file.format == "parquet" else 1)
        for file in found.files
    )


def most_tokens(found: Found, config: CorpusConfig) -> int | None:
    """Return a number of tokens that local files cannot exceed; None where their sizes do not tell.

    A token is a byte or more, and each document ends with one more. A record's quotes, commas and line ends take the
    place of that one in every format except plain text.
    """
    total = 0
    for file in found.files:
        size = file.most_bytes
        if file.format == "parquet":
            held = _parquet_bytes(file.path, config.text)
            if held is None:
                return None
            size = held
        elif file.format == "arrow":
            return None
        total += size + 1 + size // (config.piece or size + 1)
    return total


def _parquet_bytes(path: Path, column: str) -> int | None:
    """Return the bytes of a column when it is decompressed; None where an encoding shares parts of texts."""
    try:
        data = pq.read_metadata(path)
    except Exception:  # the reader will say what is wrong
        return None
    total = 0
    for group in range(data.num_row_groups):
        for number in range(data.num_columns):
            chunk = data.row_group(group).column(number)
            if chunk.path_in_schema == column:
                if not HOLD_ALL.issuperset(chunk.encodings):
                    return None
                total += chunk.total_uncompressed_size
    return total
