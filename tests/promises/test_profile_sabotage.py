"""Texts and models spoilt one at a time, and the definitions of collapse that see each of them.

The evidence is made of data/human-small.parquet: rows of 128 words of four domains, of which each seed draws its own.
Other human rows stand for what a sound model writes, and counts of them for the model.  A fault spoils one thing of
the regime and leaves the control sound.  TEXTS and LOSSES say which definitions then hold; without a fault none does.

`pytest tests/promises/test_profile_sabotage.py -rP` prints the values; data/results/validity.md has the table.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pyarrow.parquet as pq
import pytest
from support.tiny import PROJECT

from lab.collapse.chains import Chains, Point
from lab.collapse.evidence import Judged, ProfileEvidence
from lab.collapse.numbers import measure_profile
from lab.collapse.verdicts import COLLAPSED
from lab.config.profile import Thresholds
from lab.definitions import findings
from lab.metrics.evidence import Evidence
from lab.models.counted import Counted
from lab.models.ngram import Ngram
from lab.models.sampling.decoding import Decoding
from lab.seeds import generator
from lab.steps.evidence.entropy import entropies

DOMAINS = ("commentary", "novel", "sermon", "sotu")
ROW, EACH, TEST, FOREIGN = 128, 80, 40, 500
"""Words of a row; rows of each domain of one text, and of the held-out text; words of another language."""
SEEDS, LAST = 3, 7
PROBED_ROWS, PROBED_WORDS = 6, 16
Rows = np.ndarray


class Corpus:
    """Human text as rows of words.  A word is a token; 0 is EOS, and the last FOREIGN words are of no human text."""

    def __init__(self) -> None:
        table = pq.read_table(PROJECT / "data" / "human-small.parquet", columns=["text", "domain"]).to_pydict()
        texts = [re.findall("[a-z]+", text.lower()) for text in table["text"]]
        named = [(text, name) for text, name in zip(texts, table["domain"], strict=True) if name in DOMAINS]
        words = sorted({word for text, _ in named for word in text})
        index = {word: token for token, word in enumerate(words, start=1)}
        cut = [
            ([index[word] for word in text[start : start + ROW]], DOMAINS.index(name), document)
            for document, (text, name) in enumerate(named)
            for start in range(0, len(text) - ROW + 1, ROW)
        ]
        self.rows, self.domain, self.document = (np.array(each) for each in zip(*cut, strict=True))
        spelled = ["", *(f" {word}" for word in words), *(f" zz{word}" for word in words[:FOREIGN])]
        self.spelled, self.size = [word.encode() for word in spelled], len(spelled)
        self.lexicon = frozenset(words)

    @cached_property
    def folds(self) -> list[Rows]:
        """Of each domain its rows in an order of chance: TEST held-out ones, the judge's, 4 EACH that seeds draw."""
        return [generator(0).permutation(np.flatnonzero(self.domain == m)) for m in range(len(DOMAINS))]

    @cached_property
    def test(self) -> Rows:
        return np.concatenate([fold[:TEST] for fold in self.folds])

    @cached_property
    def judge(self) -> Ngram:
        return self.model(np.concatenate([self.rows[fold[TEST : -4 * EACH]] for fold in self.folds]))

    def texts(self, seed: int) -> list[Rows]:
        """Return four texts of a seed, which share no row: the same number of rows of each domain, by domain."""
        rng = generator(seed + 1)
        drawn = [rng.permutation(fold[-4 * EACH :]).reshape(4, EACH) for fold in self.folds]
        return [np.concatenate([self.rows[of[text]] for of in drawn]) for text in range(4)]

    def model(self, rows: Rows) -> Ngram:
        return Ngram.fit(rows, order=2, vocab_size=self.size, bos=0, smoothed=True)


@dataclass(frozen=True)
class Side:
    """What the last generation of one seed has written, and the model that it is."""

    human: Rows
    resample: Rows
    written: Rows
    model: Ngram
    decoding: Decoding = field(default_factory=Decoding)


def measured(corpus: Corpus, side: Side) -> Point:
    """Return the last generation with its profile.  Eight times the data gains 0.2 nats per token."""
    test = corpus.rows[corpus.test]
    base = Evidence(
        test=test,
        member_nats=[side.model.nats(test)],
        human=side.human,
        sample=side.written,
        resample=side.resample,
        budget=side.human.size,
        prompt=0,
        layout="blocks",
        vocab_size=corpus.size,
        bos=0,
        eos=0,
        trainings=[],
        token_bytes=corpus.spelled,
    )
    probed = entropies(
        Counted(side.model),
        test[:: len(test) // PROBED_ROWS, :PROBED_WORDS],
        bos=0,
        decoding=side.decoding,
        progress=lambda tokens: None,
    )
    found = measure_profile(
        ProfileEvidence(
            base,
            human_groups={"domain": [name for name in DOMAINS for _ in range(EACH)]},
            test_groups={"domain": [DOMAINS[corpus.domain[row]] for row in corpus.test]},
            test_document=np.arange(len(test))[:, None].repeat(ROW, axis=1),
            writer_nats=side.model.nats(side.written).sum(axis=1),
            plain=True,
            judged=Judged(*(corpus.judge.nats(rows).sum(axis=1) for rows in (side.written, test))),
            entropies=probed.mean(axis=1, keepdims=True).repeat(ROW, axis=1),
        ),
        corpus.lexicon,
    )
    loss = float(base.scored_nats.mean())
    losses = {share: loss - 0.2 * math.log(share) / math.log(8) for share in (0.125, 0.25, 0.5, 1.0)}
    columns = {**found.columns, "nll": loss}
    return Point(columns, found.groups, (), found.documents, found.rare_words, losses)


def chain(last: Point, worse: Callable[[int], float] = lambda t: 0.0) -> dict[int, Point]:
    """Return a chain that ends like `last`, and whose generation t has lost worse(t) nats per token."""
    assert last.documents is not None
    points = {}
    for t in range(LAST + 1):
        documents = last.documents + last.documents[:, 1:] * [worse(t), 0]
        points[t] = replace(last, columns={**last.columns, "nll": last.columns["nll"] + worse(t)}, documents=documents)
    return points


# The faults.  A regime is spoilt, or what its models write, or what they have learnt.


def a_domain_removed(corpus: Corpus, side: Side) -> Side:
    """More rows of the other domains stand in the place of the speeches (sotu)."""
    first = DOMAINS.index("sotu") * EACH
    others = np.delete(np.arange(len(side.written)), np.s_[first : first + EACH])
    rows = np.array(side.written)
    rows[first : first + EACH] = side.resample[others[:: len(DOMAINS) - 1]]
    return replace(side, written=rows)


def rare_words_removed(corpus: Corpus, side: Side) -> Side:
    """The commonest word stands in the place of each word that human text holds three times at most."""
    counts = np.bincount(side.human.ravel(), minlength=corpus.size)
    rare = (counts > 0) & (counts < 4)
    return replace(side, written=np.where(rare[side.written], counts.argmax(), side.written))


def training_text_copied(corpus: Corpus, side: Side) -> Side:
    return replace(side, written=side.human)


def words_shuffled(corpus: Corpus, side: Side) -> Side:
    """Each row keeps its words in an order of chance."""
    return replace(side, written=generator(0).permuted(side.written, axis=1))


def a_foreign_word_list(corpus: Corpus, side: Side) -> Side:
    """One row in eight is of words that no human text holds."""
    rows = np.array(side.written)
    rows[::8] = generator(0).integers(corpus.size - FOREIGN, corpus.size, rows[::8].shape)
    return replace(side, written=rows)


def temperature(corpus: Corpus, side: Side) -> Side:
    return replace(side, decoding=Decoding(temperature=0.5))


TEXTS: dict[str, tuple[Callable[[Corpus, Side], Side], set[int]]] = {
    "temperature 0.5": (temperature, {4}),
    "a domain removed": (a_domain_removed, {6}),
    "rare words removed": (rare_words_removed, {7}),
    "training text copied": (training_text_copied, {7}),
    "words shuffled": (words_shuffled, {8}),
    "a foreign word list, one row in eight": (a_foreign_word_list, {8}),
}
"""Fault of what is written -> the definitions by which the regime has then collapsed."""


def way_to_a_unigram(last: Point) -> dict[int, Point]:
    gap = last.columns["unigram_nll"] - last.columns["nll"]
    return chain(last, lambda t: 0.7 * gap if t else 0.0)


def sizes_that_give_nothing(last: Point) -> dict[int, Point]:
    flat = {share: last.columns["nll"] + 0.01 * (1 - share) for share in last.losses}
    return {**chain(last), LAST: replace(last, losses=flat)}


LOSSES: dict[str, tuple[Callable[[Point], dict[int, Point]], set[int]]] = {
    "none": (chain, set()),
    "seven tenths of the way to a unigram": (way_to_a_unigram, {1, 2}),
    "0.05 nats per token": (lambda last: chain(last, lambda t: 0.05 if t else 0.0), {2}),
    "0.02 nats per token more in each generation": (lambda last: chain(last, lambda t: 0.02 * t), {2, 3}),
    "nested sizes that give nothing": (sizes_that_give_nothing, {5}),
}
"""Fault of what is learnt -> the definitions by which the regime has then collapsed."""


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return Corpus()


@pytest.fixture(scope="module")
def sides(corpus: Corpus) -> list[tuple[Side, Side]]:
    """Return a sound regime and its control, by seed: nothing differs except which human rows they are made of."""
    drawn = [corpus.texts(seed) for seed in range(SEEDS)]
    return [
        (Side(human, resample, first, corpus.model(first)), Side(human, resample, second, corpus.model(second)))
        for human, resample, first, second in drawn
    ]


@pytest.fixture(scope="module")
def points(corpus: Corpus, sides: list[tuple[Side, Side]]) -> list[tuple[Point, Point]]:
    return [(measured(corpus, regime), measured(corpus, control)) for regime, control in sides]


def collapsed(name: str, regime: list[dict[int, Point]], points: list[tuple[Point, Point]]) -> set[int]:
    """Print the row of a fault: the values, in bold those of definitions that hold, which are returned."""
    control = {seed: chain(last) for seed, (_, last) in enumerate(points)}
    found = findings(Chains("replace", dict(enumerate(regime)), control), Thresholds())
    cells = ["" if math.isnan(each.value.mean) else f"{each.value.mean:+.2f}" for each in found]
    marked = [f"**{cell}**" if each.verdict == COLLAPSED else cell for each, cell in zip(found, cells, strict=True)]
    print(f"| {name} | {' | '.join(marked)} |")
    return {each.definition.number for each in found if each.verdict == COLLAPSED}


@pytest.mark.parametrize("name", LOSSES)
def test_what_a_model_has_not_learnt(name: str, points: list[tuple[Point, Point]]) -> None:
    spoil, expected = LOSSES[name]
    assert collapsed(name, [spoil(last) for last, _ in points], points) == expected


@pytest.mark.parametrize("name", TEXTS)
def test_what_a_model_does_not_write(
    name: str, corpus: Corpus, sides: list[tuple[Side, Side]], points: list[tuple[Point, Point]]
) -> None:
    spoil, expected = TEXTS[name]
    regime = [chain(measured(corpus, spoil(corpus, side))) for side, _ in sides]
    assert collapsed(name, regime, points) == expected


def test_the_page_of_faults_is_up_to_date() -> None:
    page = (PROJECT / "data" / "results" / "validity.md").read_text()
    for name, (_, expected) in {**LOSSES, **TEXTS}.items():
        assert f"| {name} | {', '.join(map(str, sorted(expected))) or 'none'} |" in page
