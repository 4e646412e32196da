"""Regenerate the parts of all Markdown pages that hold numbers or lists.

python scripts/readme.py --run checkpoints/quick    # copy a finished run's results to data/results/, then rewrite
python scripts/readme.py --run checkpoints/exact    # the same for the comparison with exact theory
python scripts/readme.py --run checkpoints/profile  # the same for the eight definitions of collapse
python scripts/readme.py --run checkpoints/rare-facts  # the same for a study with a page of its own
python scripts/readme.py --run checkpoints/remedies-mini  # the same for a study of remedies
python scripts/readme.py                            # rewrite the pages
python scripts/readme.py --check                    # exit 1 if a page is not what this would write

A page is hand-written.  What stands between `<!-- NAME: begin -->` and `<!-- NAME: end -->` is written by the generator
of that name; the generators are the functions in the PARTS of scripts/pages/*.py.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path

from pages import bench, columns, fields, profile, quick, remedies, small, studies, validity
from pages.writing import ROOT

PARTS: dict[str, Callable[[], str]] = {
    **bench.PARTS,
    **columns.PARTS,
    **fields.PARTS,
    **profile.PARTS,
    **quick.PARTS,
    **remedies.PARTS,
    **small.PARTS,
    **studies.PARTS,
    **validity.PARTS,
}
PART = re.compile(r"(<!-- (?P<name>[a-z-]+): begin -->\n).*?(<!-- (?P=name): end -->)", re.S)
FOLDERS = ("data", "lab", "scripts", "tests")


def pages() -> list[Path]:
    """Return the Markdown pages of the project."""
    inner = sorted(path for folder in FOLDERS for path in (ROOT / folder).glob("**/*.md"))
    return [ROOT / "README.md", ROOT / "checkpoints" / "README.md", *inner]


def rendered(page: Path, text: str) -> str:
    """Return the page with every part written anew.  SystemExit for a part that has no generator."""

    def written(found: re.Match[str]) -> str:
        if found["name"] not in PARTS:
            raise SystemExit(f"error: {page.relative_to(ROOT)}: no generator named {found['name']} in scripts/pages")
        return f"{found[1]}{PARTS[found['name']]()}\n{found[3]}"

    whole, marks = PART.sub(written, text), text.count("<!-- ") - 2 * len(PART.findall(text))
    if marks:
        raise SystemExit(f"error: {page.relative_to(ROOT)}: {marks} marks of parts have no partner of the same name")
    return whole


def main() -> int:
    """Rewrite or check all pages, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="a finished run to take the results from")
    parser.add_argument("--check", action="store_true", help="only say which pages are out of date")
    options = parser.parse_args()
    if options.run is not None:
        name = options.run.name
        rest = profile if (options.run / "profile.csv").exists() else quick
        taker = next((each for each in (small, remedies) if name in each.STUDIES), rest)
        taker.take(options.run)
    old = {page: page.read_text(encoding="utf-8") for page in pages()}
    new = {page: rendered(page, text) for page, text in old.items()}  # all of them before the first is written
    stale = [page for page in old if new[page] != old[page]]
    for page in stale:
        if options.check:
            print(f"{page.relative_to(ROOT)} is not what scripts/readme.py writes; run it", file=sys.stderr)
        else:
            page.write_text(new[page], encoding="utf-8")
    return int(options.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
