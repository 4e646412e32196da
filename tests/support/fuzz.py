"""Run the command line on hostile input: every value of the tests, and as many random inputs as asked for.

    scripts/checks/fuzz --examples 5000 --json data/results/lost/fuzz.json
    scripts/checks/fuzz --examples 200 --large         # also 100 MB on one line

Each input goes through the command line in this process.  A good end is exit code 2 with one line and nothing written,
or exit code 0 with a plan or a description.  The counts of refused and accepted inputs are printed, and each bad end.
Exit codes: 0 all ends are good, 1 some are bad.
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
    """Counts of the inputs tried, and the bad ends."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ends, self.bad = folder, Counter[str](), list[str]()

    def take(self, kind: str, name: str, end: End) -> None:
        """Count one end."""
        fault = end.fault((0, 2)) or ("" if end.unchanged else "files were written")
        self.ends[f"{kind}: {'bad' if fault else 'refused' if end.code else 'accepted'}"] += 1
        if fault:
            self.bad.append(f"{kind} {name[:200]}: {fault}")

    def overrides(self, rng: random.Random, examples: int) -> None:
        """Set every field to every value, and random fields to random values."""
        names = [*fields(tiny("tales.jsonl")), *EXTRA]
        for name, value in ((name, value) for name in names for value in VALUES):
            self.take("field", f"{name}={value}", call("plan", "s.yaml", "--set", f"{name}={value}", cwd=self.folder))
        for _ in range(examples):
            chosen = [f"{rng.choice(names)}={rng.choice(VALUES)}" for _ in range(rng.randint(2, 4))]
            chosen[0] = rng.choice([chosen[0], "".join(rng.choices(CHARACTERS, k=rng.randint(0, 40)))])
            arguments = [word for text in chosen for word in (f"--set={text}",)]
            self.take("fields", " ".join(chosen), call("plan", "s.yaml", *arguments, cwd=self.folder))

    def studies(self, rng: random.Random, examples: int) -> None:
        """Plan a good study file with some bytes changed, removed or added."""
        good = (self.folder / "s.yaml").read_bytes()
        for _ in range(examples):
            changed = mutant(rng, good)
            (self.folder / "mutant.yaml").write_bytes(changed)
            self.take("study", repr(changed)[:200], call("plan", "mutant.yaml", cwd=self.folder))

    def corpora(self, rng: random.Random, examples: int) -> None:
        """Describe files of noise, and a good corpus with some bytes changed, removed or added."""
        good = (self.folder / "tales.jsonl").read_bytes()
        for number in range(examples):
            name = f"mutant{rng.choice(['.txt', '.jsonl', '.json', '.csv', '.parquet'])}"
            noise = rng.choice(STARTS).encode() + rng.randbytes(rng.randint(0, 300))
            (self.folder / name).write_bytes(rng.choice([noise, mutant(rng, good)]))
            self.take("corpus", f"{number} {name}", call("corpus", name, "--piece", "40", cwd=self.folder))
            (self.folder / name).unlink()

    def large(self) -> None:
        """Describe files of 100 MB on one line."""
        for name, word in (("words", "word "), ("one word", "x"), ("Chinese", "日本語")):
            (self.folder / "large.txt").write_text(word * (100_000_000 // len(word.encode())))
            start = time.monotonic()
            self.take("100 MB on one line", name, call("corpus", "large.txt", "--piece", "8000", cwd=self.folder))
            print(f"100 MB of {name} on one line: {time.monotonic() - start:.1f} s", flush=True)
        (self.folder / "large.txt").unlink()


def mutant(rng: random.Random, good: bytes) -> bytes:
    """Return `good` with 1 to 6 random changes."""
    text = bytearray(good)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(text))
        match rng.randrange(4):
            case 0:
                text[at] = rng.randrange(256)
            case 1:
                del text[at : at + rng.randint(1, 40)]
            case 2:
                text[at:at] = "".join(rng.choices(CHARACTERS, k=rng.randint(1, 8))).encode()
            case 3:
                text[at:at] = text[at : at + rng.randint(1, 80)]
    return bytes(text)


def main() -> int:
    """Try all inputs and print the counts."""
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
    counts = {"seed": options.seed, "tried": sweep.ends.total(), "bad": len(sweep.bad)}
    counts |= {"ends": dict(sorted(sweep.ends.items()))}
    print(json.dumps(counts, indent=1), *sweep.bad[:50], sep="\n")
    if options.json:
        options.json.write_text(json.dumps({"hostile": [sum(sweep.ends.values()), len(sweep.bad)]}) + "\n")
    return 1 if sweep.bad else 0


if __name__ == "__main__":
    sys.exit(main())
