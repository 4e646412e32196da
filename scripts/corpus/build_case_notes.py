"""Write data/case-notes.parquet: 8,192 case notes about the planted world of lab/metrics/extra/facts.py.

    python scripts/corpus/build_case_notes.py

The same rows every time; another version of pyarrow packs them into other bytes.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lab.seeds import generator
from lab.text.case_notes import case_notes

DATA = Path(__file__).resolve().parents[2] / "data"
NOTES = 8_192
SEED = 0


def rows() -> list[dict[str, str]]:
    """Return the rows of the file."""
    return case_notes(NOTES, rng=generator(SEED))


if __name__ == "__main__":
    pq.write_table(pa.Table.from_pylist(rows()), DATA / "case-notes.parquet", compression="zstd", compression_level=9)
