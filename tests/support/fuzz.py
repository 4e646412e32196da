"""Hostile input in numbers: every case of the tests, and as many random ones as are asked for.

    scripts/checks/fuzz --examples 5000 --json data/results/lost/fuzz.json
    scripts/checks/fuzz --examples 200 --large         # also 100 MB on one line

Each input goes through the command line in this process, in an empty folder.  It ends well where the exit code is 2
with one line and nothing written, or 0 with a plan or a description.  Prints how many were tried, refused and accepted,
and those that ended otherwise; exit code 1 if there is one.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from support.hostile import EXTRA, VALUES, End, call, fields
from support.tiny import tiny, write_corpus, write_study

CHARACTERS = "[]{}:,&*!|>'\"%@`#-? \n\tab019.~=<\\/\u202e\u0301日\x7f"
STARTS = ('{"text": "', "text,b\n", "PAR1", "[", '{"text": [', "\ufeff", "%YAML 1.1\n---\n", "")


class Sweep:
    """The count of what was tried, and of what ended badly."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ends, self.bad = folder, Counter[str](), list[str]()

    def take(self, kind: str, name: str, end: End) -> None:
        fault = end.fault((0, 2)) or ("" if end.unchanged else "files were written")
        self.ends[f"{kind}: {'bad' if fault else 'refused' if end.code else 'accepted'}"] += 1
        if fault:
            self.bad.append(f"{kind} {name[:200]}: {fault}")

    def overrides(self, rng: random.Random, examples: int) -> None:
        names = [*fields(tiny("tales.jsonl")), *EXTRA]
        for name, value in ((name, value) for name in names for value in VALUES):
            self.take("field", f"{name}={value}", call("plan", "s.yaml", "--set", f"{name}={value}", cwd=self.folder))
        for _ in range(examples):
            chosen = [f"{rng.choice(names)}={rng.choice(VALUES)}" for _ in range(rng.randint(2, 4))]
            chosen[0] = rng.choice([chosen[0], "".join(rng.choices(CHARACTERS, k=rng.randint(0, 40)))])
            arguments = [word for text in chosen for word in (f"--set={text}",)]
            self.take("fields", " ".join(chosen), call("plan", "s.yaml", *arguments, cwd=self.folder))

    def studies(self, rng: random.Random, examples: int) -> None:
        """The good study with some of its bytes changed, taken out or put in."""
        good = (self.folder / "s.yaml").read_bytes()
        for _ in range(examples):
            changed = mutant(rng, good)
            (self.folder / "mutant.yaml").write_bytes(changed)
            self.take("study", repr(changed)[:200], call("plan", "mutant.yaml", cwd=self.folder))

    def corpora(self, rng: random.Random, examples: int) -> None:
        good = (self.folder / "tales.jsonl").read_bytes()
        for number in range(examples):
            name = f"mutant{rng.choice(['.txt', '.jsonl', '.json', '.csv', '.parquet'])}"
            noise = rng.choice(STARTS).encode() + rng.randbytes(rng.randint(0, 300))
            (self.folder / name).write_bytes(rng.choice([noise, mutant(rng, good)]))
            self.take("corpus", f"{number} {name}", call("corpus", name, "--piece", "40", cwd=self.folder))
            (self.folder / name).unlink()

    def large(self) -> None:
        for name, word in (("words", "word "), ("one word", "x"), ("Chinese", "日本語")):
            (self.folder / "large.txt").write_text(word * (100_000_000 // len(word.encode())))
            start = time.monotonic()
            self.take("100 MB on one line", name, call("corpus", "large.txt", "--piece", "8000", cwd=self.folder))
            print(f"100 MB of {name} on one line: {time.monotonic() - start:.1f} s", flush=True)
        (self.folder / "large.txt").unlink()


def mutant(rng: random.Random, good: bytes) -> bytes:
    text = bytearray(good)
    for _ in range(rng.randint(1, 6)):
        place = rng.randrange(len(text))
        match rng.randrange(4):
            case 0:
                text[place] = rng.randrange(256)
            case 1:
                del text[place : place + rng.randint(1, 40)]
            case 2:
                text[place:place] = "".join(rng.choices(CHARACTERS, k=rng.randint(1, 8))).encode()
            case 3:
                text[place:place] = text[place : place + rng.randint(1, 80)]
    return bytes(text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=500, help="random inputs of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--large", action="store_true", help="also 100 MB on one line")
    parser.add_argument("--json", type=Path, help="where to write the counts")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lab-fuzz-") as name:
        folder, rng = Path(name), random.Random(options.seed)
        write_study(folder / "s.yaml", tiny(write_corpus(folder / "tales.jsonl")))
        sweep = Sweep(folder)
        for part in (sweep.overrides, sweep.studies, sweep.corpora):
            part(rng, options.examples)
        if options.large:
            sweep.large()
    found = {"seed": options.seed, "tried": sweep.ends.total(), "bad": len(sweep.bad)}
    found |= {"ends": dict(sorted(sweep.ends.items()))}
    print(json.dumps(found, indent=1), *sweep.bad[:50], sep="\n")
    if options.json:
        options.json.write_text(json.dumps({"hostile": [sum(sweep.ends.values()), len(sweep.bad)]}) + "\n")
    return 1 if sweep.bad else 0


if __name__ == "__main__":
    sys.exit(main())
