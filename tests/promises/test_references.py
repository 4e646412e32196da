"""Metrics against references: other libraries, a recomputation in double precision, and numbers worked by hand."""

import gzip
import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import powerlaw
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU
from scipy import optimize, stats
from transformers import GPT2Config, GPT2LMHeadModel

from lab.metrics.diversity import compression_ratio, distinct_n, self_bleu
from lab.metrics.risk import bits_per_byte, mean_nats, perplexity
from lab.metrics.tails import loss_by_token_bin, rare_losses, rare_survival
from lab.metrics.variety import token_entropy, zipf_exponent
from lab.metrics.words import find_words, word_counts
from lab.models.gpt2 import Gpt2

EOS = 0
BYTES = [b"", *(bytes([i]) for i in range(256))]

Ragged = list[list[int]]

ragged_rows = st.lists(st.lists(st.integers(0, 4), max_size=12), max_size=6)


def size_of(rows: Ragged) -> int:
    return sum(map(len, rows))


# --- perplexity and bits per byte ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny_gpt2() -> GPT2LMHeadModel:
    """Two layers, 50 tokens, BOS 49.  Initial weights 10 times the usual, so that it is far from uniform."""
    shape = {"vocab_size": 50, "n_positions": 13, "n_embd": 24, "n_layer": 2, "n_head": 3}
    config = GPT2Config(**shape, activation_function="gelu", initializer_range=0.2, bos_token_id=49, eos_token_id=49)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return GPT2LMHeadModel(config).eval()


ROWS = np.random.default_rng(0).integers(0, 49, size=(300, 12)).astype(np.uint16)
"""Two scoring batches and a half of rows that the tiny model has never seen."""


@torch.inference_mode()
def test_perplexity_equals_transformers_loss(tiny_gpt2: GPT2LMHeadModel) -> None:
    """transformers reads <bos> and the row and shifts labels itself; single precision: 1e-6 of the perplexity."""
    ids = torch.tensor(np.insert(ROWS.astype(np.int64), 0, 49, axis=1))
    loss = float(tiny_gpt2(input_ids=ids, labels=ids).loss)
    found = perplexity(Gpt2(tiny_gpt2).nats(ROWS))
    assert found == pytest.approx(math.exp(loss), rel=1e-6)
    assert found > 1.5 * 50, "the model must be far from uniform, or every wrong shift would pass"


@torch.inference_mode()
def test_perplexity_equals_double_precision(tiny_gpt2: GPT2LMHeadModel) -> None:
    """The same weights in float64, log-softmax and mean by hand: every loss to 1e-5 nats, the perplexity to 1e-7."""
    twin = GPT2LMHeadModel(tiny_gpt2.config).eval()
    twin.load_state_dict(tiny_gpt2.state_dict())
    given_tokens = torch.tensor(np.insert(ROWS.astype(np.int64), 0, 49, axis=1)[:, :-1])
    logits = twin.double()(input_ids=given_tokens).logits.numpy()
    assert logits.dtype == np.float64
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    exact = -np.take_along_axis(log_p, ROWS[..., None].astype(np.int64), axis=-1)[..., 0]
    nats = Gpt2(tiny_gpt2).nats(ROWS)
    np.testing.assert_allclose(nats, exact, rtol=0, atol=1e-5)
    assert perplexity(nats) == pytest.approx(math.exp(math.fsum(exact.ravel()) / exact.size), rel=1e-7)


def test_bits_per_byte_of_cut_characters_by_hand() -> None:
    """'€' is 3 bytes, here 1 + 2, and '😀' is 4, here 2 + 2; 'a' is 1.  EOS adds nats and no bytes.

    The row '€ 😀 a EOS' has 8 bytes; its 6 losses are 1, 1, 2, 4, 4 and 8 ln 2 nats: 20 bits / 8 bytes = 2.5.
    """
    token_bytes = [b"", b"\xe2", b"\x82\xac", b"\xf0\x9f", b"\x98\x80", b"a"]
    assert b"".join(token_bytes).decode() == "€😀a"
    nats = math.log(2) * np.array([[1.0, 1, 2, 4, 4, 8]])
    assert bits_per_byte(np.array([[1, 2, 3, 4, 5, 0]]), nats, token_bytes) == pytest.approx(2.5, rel=1e-15)


@given(st.lists(st.integers(0, 256), min_size=1, max_size=30), st.integers(0, 9))
def test_bits_per_byte_is_log2_perplexity_by_tokens_per_byte(row: list[int], seed: int) -> None:
    nats, size = np.random.default_rng(seed).random((1, len(row))), sum(token > 0 for token in row)
    if size:
        found = bits_per_byte(np.array([row]), nats, BYTES)
        assert found == pytest.approx(math.log2(perplexity(nats)) * len(row) / size, rel=1e-12)


# --- self-BLEU -------------------------------------------------------------------------------------------------------


def sacrebleu_of(rows: Ragged) -> float:
    """Return the mean of sacrebleu's sentence BLEU with default smoothing, each row against all the others; 0 to 1."""
    metric = BLEU(tokenize="none", force=True, smooth_method="exp", effective_order=False)
    texts = [" ".join(f"t{token}" for token in row) for row in rows]
    scores = [metric.sentence_score(text, texts[:i] + texts[i + 1 :]).score for i, text in enumerate(texts)]
    return float(np.mean(scores)) / 100


def random_rows(rng: np.random.Generator, shortest: int, longest: int) -> Ragged:
    """2 to 9 rows over 2 to 7 tokens, so that n-grams repeat within rows and between them."""
    kinds = int(rng.integers(2, 8))
    return [rng.integers(1, kinds, rng.integers(shortest, longest + 1)).tolist() for _ in range(rng.integers(2, 10))]


@pytest.mark.parametrize(("shortest", "longest"), [(0, 12), (4, 30), (16, 16)])
def test_self_bleu_equals_sacrebleu(shortest: int, longest: int) -> None:
    """200 sets of texts of unequal and of equal lengths, empty ones and ones without a 4-gram too: to 1e-12."""
    rng, found = np.random.default_rng(longest), []
    for _ in range(200):
        rows = random_rows(rng, shortest, longest)
        found.append(self_bleu(rows, texts=len(rows), eos=EOS))
        assert found[-1] == pytest.approx(sacrebleu_of(rows), abs=1e-12)
    assert len(set(found)) > 100 and min(found) < 0.5 < max(found)


def test_self_bleu_equals_sacrebleu_on_a_corpus() -> None:
    """60 rows of 64 tokens from a Zipf law over 500, as one array of small integers; further rows are not looked at."""
    shares = stats.zipfian.pmf(np.arange(1, 501), 1.0, 500)
    rows = (1 + np.random.default_rng(0).choice(500, size=(70, 64), p=shares)).astype(np.uint16)
    assert self_bleu(rows, texts=60, eos=EOS) == pytest.approx(sacrebleu_of(rows[:60].tolist()), abs=1e-12)


def test_self_bleu_by_hand() -> None:
    """'1 2 3 4 5' against '1 2 3 4': p = 4/5, 3/4, 2/3, 1/2, product 1/5.  The other way all p are 1, too short by 5/4.

    '1 1 1 1' against '1 1 2 2': p = 2/4, 1/3, then 0 of 2 and 0 of 1, smoothed to 1/(2 x 2) and 1/(4 x 1): product
    1/96; '1 1 2 2' likewise has 2/4 and 1/3 matched.
    """
    assert self_bleu([[1, 2, 3, 4, 5], [1, 2, 3, 4]], texts=2, eos=EOS) == pytest.approx(
        (0.2**0.25 + math.exp(1 - 5 / 4)) / 2
    )
    assert self_bleu([[1, 1, 1, 1], [1, 1, 2, 2]], texts=2, eos=EOS) == pytest.approx((1 / 96) ** 0.25)


def test_self_bleu_clips_against_one_other_text() -> None:
    """'1 1 1 2' has 1 three times, the others twice and once: two are matched, not three."""
    rows = [[1, 1, 1, 2], [1, 1, 3, 4], [1, 5, 6, 7]]
    assert self_bleu(rows, texts=3, eos=EOS) == pytest.approx(sacrebleu_of(rows), abs=1e-12)
    assert self_bleu([[1, 2, 3, 4]] * 3, texts=3, eos=EOS) == 1
    assert self_bleu([[1, 2, 3, 4], [5, 6, 7, 8]], texts=2, eos=EOS) == 0


def bleu_of_documents(rows: Ragged) -> float:
    """Plain Python: n-grams of the documents of each row, scored by sacrebleu from their counts."""
    if len(rows) < 2:
        return math.nan
    grams, lengths = [], [sum(token != EOS for token in row) for row in rows]
    for row in rows:
        found: list[Counter[tuple[str, ...]]] = [Counter() for _ in range(4)]
        for document in " ".join(map(str, row)).split(str(EOS)):
            tokens = document.split()
            for n in range(4):
                found[n].update(tuple(tokens[i : i + n + 1]) for i in range(len(tokens) - n))
        grams.append(found)
    scores = []
    for i, own in enumerate(grams):
        others = [grams[j] for j in range(len(rows)) if j != i]
        correct = [sum(min(c, max(o[n][g] for o in others)) for g, c in own[n].items()) for n in range(4)]
        closest = min((lengths[j] for j in range(len(rows)) if j != i), key=lambda x: (abs(x - lengths[i]), x))
        total = [own[n].total() for n in range(4)]
        scores.append(BLEU.compute_bleu(correct, total, lengths[i], closest, smooth_method="exp").score / 100)
    return float(np.mean(scores))


@settings(max_examples=300)
@given(ragged_rows, st.sampled_from([1, 10**9]))
def test_self_bleu_keeps_documents_apart(rows: Ragged, scale: int) -> None:
    """EOS is no token of a text and no n-gram crosses it; ids around 10^9 do not fit four to a number."""
    scaled = [[token * scale for token in row] for row in rows]
    np.testing.assert_allclose(self_bleu(scaled, texts=len(rows), eos=EOS), bleu_of_documents(rows), atol=1e-12)


# --- entropy, Zipf's exponent, compression ---------------------------------------------------------------------------


def test_token_entropy_by_hand() -> None:
    """'a a b b' has ln 2 nats; 'a b c c' has 1/4, 1/4, 1/2: 1.5 ln 2.  EOS is not counted."""
    assert token_entropy([[1, 1], [2, 2, 3]], eos=EOS, tokens=4) == pytest.approx(math.log(2))
    assert token_entropy([[1, 2, EOS, 3, 3]], eos=EOS, tokens=5) == pytest.approx(1.5 * math.log(2))
    assert token_entropy([[1, 2, EOS, EOS]], eos=None, tokens=4) == pytest.approx(1.5 * math.log(2))
    assert token_entropy([[7, 7, 7]], eos=EOS, tokens=3) == 0


@given(ragged_rows)
def test_token_entropy_equals_scipy(rows: Ragged) -> None:
    counts = [*Counter(token for row in rows for token in row if token != EOS).values()]
    found = token_entropy(rows, eos=EOS, tokens=size_of(rows))
    np.testing.assert_allclose(found, stats.entropy(counts) if counts else math.nan, rtol=0, atol=1e-13)
    assert not counts or 0 <= found <= math.log(len(counts)) + 1e-13


def test_token_entropy_is_too_low_by_millers_term() -> None:
    """1,000 equally frequent types, 5,000 tokens: short of ln 1000 by about 999 / 10,000 nats (to 10 %)."""
    rows = np.random.default_rng(0).integers(1, 1001, size=(200, 5000))
    short = math.log(1000) - np.mean([token_entropy(row[None], eos=EOS, tokens=5000) for row in rows])
    assert short == pytest.approx(0.0999, rel=0.1)


def test_zipf_exponent_by_hand() -> None:
    """Two types: 1 : 2^-s is the ratio of their counts.  6, 3, 2 are 6/1, 6/2, 6/3: exactly Zipf's law with s = 1."""
    assert zipf_exponent([2, 1]) == pytest.approx(1, abs=1e-11)
    assert zipf_exponent([1, 0, 8]) == pytest.approx(3, abs=1e-11)
    assert zipf_exponent([3, 6, 2]) == pytest.approx(1, abs=1e-11)
    assert zipf_exponent(np.array([36, 9, 4])) == pytest.approx(2, abs=1e-11)
    assert zipf_exponent([5, 5, 5, 5]) == 0
    with pytest.raises(ValueError, match="a count is -1"):
        zipf_exponent([3, -1])


def zipf_counts(s: float, types: int, tokens: int) -> np.ndarray:
    """Return counts by rank in a sample from Zipf's law; types that did not occur are left out."""
    shares = stats.zipfian.pmf(np.arange(1, types + 1), s, types)
    counts = np.random.default_rng([types, tokens]).multinomial(tokens, shares / shares.sum())
    return np.sort(counts[counts > 0])[::-1]


@pytest.mark.parametrize(("s", "types", "tokens"), [(1.1, 1000, 20_000), (1.3, 50, 5000), (1.8, 200, 3000)])
def test_zipf_exponent_equals_other_maximisers(s: float, types: int, tokens: int) -> None:
    """scipy's likelihood minimised by scipy: 1e-6, as far as a flat optimum lets it see; powerlaw's simplex: 1e-4."""
    counts = zipf_counts(s, types, tokens)
    ranks, found = np.arange(1, len(counts) + 1), zipf_exponent(counts)

    def loss(x: float) -> float:
        return -float(counts @ stats.zipfian.logpmf(ranks, x, len(counts)))

    best = optimize.minimize_scalar(loss, bounds=(0.01, 4), method="bounded", options={"xatol": 1e-10})
    assert found == pytest.approx(best.x, abs=1e-6)
    law = powerlaw.Power_Law(
        data=np.repeat(ranks, counts), xmin=1, xmax=len(counts), discrete=True, estimate_discrete=False
    )
    assert found == pytest.approx(law.alpha, abs=1e-4)


@pytest.mark.parametrize("s", [0.8, 1.0, 1.2, 1.5])
def test_zipf_exponent_recovers_a_known_law(s: float) -> None:
    """1,000 types, a million tokens: within .002 (standard error .0005), though ranks are those of the sample."""
    assert zipf_exponent(zipf_counts(s, 1000, 1_000_000)) == pytest.approx(s, abs=0.002)


def test_compression_ratio_by_hand() -> None:
    """zlib's frame is 2 + 4 bytes, a stored block's head 5: 256 different bytes become 267.

    1,000 'a': 3 bits of head, 2 letters of 8 bits, 3 copies of 258 at distance 1 (8 + 5 bits), 1 of 224 (8 + 5 + 5),
    and an end of 7: 83 bits are 11 bytes, so 17 in all.
    """
    assert compression_ratio(bytes(range(256))) == 256 / 267
    assert compression_ratio(b"a" * 1000) == 1000 / 17


@given(st.binary(min_size=1, max_size=3000), st.integers(1, 20))
def test_compression_ratio_equals_gzip_without_its_frame(text: bytes, times: int) -> None:
    """gzip -9 writes the same DEFLATE stream behind a frame of 18 bytes, zlib behind 6."""
    assert compression_ratio(text * times) == len(text) * times / (len(gzip.compress(text * times, 9)) - 12)


# --- directions, laws and empty input --------------------------------------------------------------------------------


def test_directions() -> None:
    """Of 31 equally frequent types, one takes over 90 %: less varied, more alike, more repetitive, a steeper law."""
    rng = np.random.default_rng(0)
    wide = rng.integers(1, 32, size=(40, 32))
    narrow = np.where(rng.random(wide.shape) < 0.9, 1, wide)
    assert token_entropy(narrow, eos=EOS, tokens=1280) < token_entropy(wide, eos=EOS, tokens=1280)
    assert distinct_n(narrow, n=2, eos=EOS, tokens=1280) < distinct_n(wide, n=2, eos=EOS, tokens=1280)
    assert self_bleu(narrow, texts=40, eos=EOS) > self_bleu(wide, texts=40, eos=EOS)
    narrow_bytes, wide_bytes = (rows.astype(np.uint8).tobytes() for rows in (narrow, wide))
    assert compression_ratio(narrow_bytes) > compression_ratio(wide_bytes)
    assert zipf_exponent(np.bincount(narrow.ravel())) > zipf_exponent(np.bincount(wide.ravel()))


@given(ragged_rows, st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter(rows: Ragged, random) -> None:
    """Exactly so for counts; self-BLEU sums its texts in another order: 1e-14."""
    size, shuffled = size_of(rows), random.sample(rows, len(rows))
    counts = np.bincount([token for row in rows for token in row], minlength=5)
    for n in (1, 2, 3):
        before = distinct_n(rows, n=n, eos=EOS, tokens=size)
        np.testing.assert_equal(distinct_n(shuffled, n=n, eos=EOS, tokens=size), before)
    before = token_entropy(rows, eos=EOS, tokens=size)
    np.testing.assert_equal(token_entropy(shuffled, eos=EOS, tokens=size), before)
    before = self_bleu(rows, texts=len(rows), eos=EOS)
    np.testing.assert_allclose(self_bleu(shuffled, texts=len(rows), eos=EOS), before, rtol=0, atol=1e-14)
    np.testing.assert_equal(zipf_exponent(random.sample(counts.tolist(), len(counts))), zipf_exponent(counts))


@given(st.integers(0, 1000))
def test_order_of_rows_does_not_matter_to_losses(seed: int) -> None:
    """Losses move with their rows.  Sums in another order: 1e-12; survival of words exactly."""
    rng = np.random.default_rng(seed)
    rows, train = (rng.choice([0, 33, 33, 98, 98, 99, 100], size=(6, 20)) for _ in range(2))
    nats, order = rng.random(rows.shape), rng.permutation(len(rows))
    words, moved, known = (find_words(text, BYTES, EOS) for text in (rows, rows[order], train))
    assert perplexity(nats[order]) == pytest.approx(perplexity(nats), rel=1e-12)
    assert bits_per_byte(rows[order], nats[order], BYTES) == pytest.approx(bits_per_byte(rows, nats, BYTES), rel=1e-12)
    np.testing.assert_equal(rare_survival(known, moved), rare_survival(known, words))
    before, after = rare_losses(words, nats, word_counts(known)), rare_losses(moved, nats[order], word_counts(known))
    np.testing.assert_allclose([*after.values()], [*before.values()], rtol=1e-12)
    bins, again = (loss_by_token_bin(rows[i], nats[i], train, 257) for i in (slice(None), order))
    for a, b in zip(bins, again, strict=True):
        assert (a.label, a.tokens, a.types) == (b.label, b.tokens, b.types)
        assert a.nats_per_token == pytest.approx(b.nats_per_token, rel=1e-12)


def test_order_matters_to_compression() -> None:
    """A repetition 40 kB back is out of zlib's window of 32 KiB; next to its original it costs nothing."""
    noise = np.random.default_rng(0).bytes
    once, other = noise(2000), noise(40_000)
    assert compression_ratio(once + once + other) > 1.04 * compression_ratio(once + other + once)


def test_a_corpus_twice_by_hand() -> None:
    """'a b a b' twice: 2 bigrams of 6, where it was 2 of 3."""
    assert distinct_n([[1, 2, 1, 2]] * 2, n=2, eos=EOS, tokens=8) == 2 / 6


@given(ragged_rows)
def test_a_corpus_twice(rows: Ragged) -> None:
    """distinct-n halves, frequencies stay; every text with a 4-gram has a copy, hence BLEU 1, and any other has 0."""
    size, twice = size_of(rows), rows * 2
    for n in (1, 2, 3):
        once = distinct_n(rows, n=n, eos=EOS, tokens=size)
        np.testing.assert_equal(distinct_n(twice, n=n, eos=EOS, tokens=2 * size), once / 2)
    np.testing.assert_equal(token_entropy(twice, eos=EOS, tokens=2 * size), token_entropy(rows, eos=EOS, tokens=size))
    counts = np.bincount([token for row in rows for token in row], minlength=5)
    np.testing.assert_allclose(zipf_exponent(2 * counts), zipf_exponent(counts), atol=1e-10)
    has_4_gram = [not math.isnan(distinct_n([row], n=4, eos=EOS, tokens=len(row))) for row in rows]
    found = self_bleu(twice, texts=len(twice), eos=EOS)
    np.testing.assert_allclose(found, np.mean(has_4_gram) if rows else math.nan, atol=1e-12)


@given(st.binary(min_size=200, max_size=3000), st.integers(0, 99))
def test_a_corpus_twice_compresses_almost_twice_as_well(text: bytes, seed: int) -> None:
    assert 1.5 * compression_ratio(text) < compression_ratio(text + text) < 2.05 * compression_ratio(text)
    nats = np.random.default_rng(seed).random((3, 7))
    assert perplexity(np.concatenate([nats, nats])) == pytest.approx(perplexity(nats), rel=1e-12)


NOTHING: list[tuple[str, Callable[[], float]]] = [
    ("mean_nats", lambda: mean_nats(np.empty((0, 4)))),
    ("perplexity", lambda: perplexity(np.empty((0, 4)))),
    ("bits_per_byte", lambda: bits_per_byte(np.empty((0, 4), np.uint16), np.empty((0, 4)), BYTES)),
    ("distinct_n", lambda: distinct_n(np.empty((0, 4), np.uint16), n=2, eos=EOS, tokens=0)),
    ("self_bleu", lambda: self_bleu([], texts=0, eos=EOS)),
    ("self_bleu of an array", lambda: self_bleu(np.empty((0, 4), np.uint16), texts=0, eos=EOS)),
    ("self_bleu of one text", lambda: self_bleu([[1, 2, 3, 4]], texts=1, eos=EOS)),
    ("token_entropy", lambda: token_entropy([], eos=EOS, tokens=0)),
    ("token_entropy of EOS", lambda: token_entropy([[EOS, EOS]], eos=EOS, tokens=2)),
    ("zipf_exponent", lambda: zipf_exponent([])),
    ("zipf_exponent of zeros", lambda: zipf_exponent([0, 0])),
    ("zipf_exponent of one type", lambda: zipf_exponent([7, 0])),
    ("compression_ratio", lambda: compression_ratio(b"")),
]


@pytest.mark.parametrize("metric", [call for _, call in NOTHING], ids=[name for name, _ in NOTHING])
def test_nothing_gives_nan(metric: Callable[[], float]) -> None:
    assert math.isnan(metric())


def test_empty_texts_score_0_and_short_budgets_are_refused() -> None:
    assert self_bleu([[], []], texts=2, eos=EOS) == 0 == self_bleu(np.zeros((3, 4), np.uint16), texts=3, eos=EOS)
    with pytest.raises(ValueError, match="3 texts, but there are 2 rows"):
        self_bleu([[1], [2]], texts=3, eos=EOS)
    with pytest.raises(ValueError, match="3 tokens, but the rows hold 2"):
        token_entropy([[1], [2]], eos=EOS, tokens=3)


def test_new_metrics_are_plain_floats() -> None:
    """Results are written by repr, and repr(np.float64(0.5)) is no number."""
    rows = np.array([[1, 2, 1, 2], [1, 2, 3, 1]], np.uint16)
    found = [self_bleu(rows, texts=2, eos=EOS), token_entropy(rows, eos=EOS, tokens=8), compression_ratio(b"ab")]
    found += [zipf_exponent([2, 1]), zipf_exponent([1, 1])]
    assert {type(number) for number in found} == {float}
    assert rows.tolist() == [[1, 2, 1, 2], [1, 2, 3, 1]]
