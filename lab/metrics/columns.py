"""Every measured column of results.csv in ONE table: what it is, how it is shown, and the function that computes it.

To add a column: write a function of Evidence that returns it (lab/metrics/groups.py has them all), and give it a row in
COLUMNS.  Tables, the figure, file formats and lab/metrics/README.md are made from these rows.
"""

from __future__ import annotations

from lab.metrics import groups
from lab.metrics.column import Column, Short
from lab.metrics.columns_curation import COLUMNS as CURATION
from lab.metrics.columns_profile import COLUMNS as PROFILE
from lab.metrics.columns_radioactivity import COLUMNS as RADIOACTIVITY

TEXT, SOURCE = ("text",), ("source",)
IMPOSSIBLE = "the model gives some held-out tokens probability 0, as an n-gram without smoothing does"
SHORT_TEXT = "the sample, or a text that it is compared with, holds fewer tokens of text than metrics.tokens"
FEW_WORDS = f"{SHORT_TEXT}, or too few words"


def _distinct(n: int) -> Column:
    return Column(
        f"distinct_{n}",
        f"distinct-{n} of the generated text",
        "share, 0 to 1",
        groups.diversity,
        f"Distinct {n}-grams divided by {n}-grams in the first metrics.tokens tokens of the sample; "
        "no n-gram crosses the end of a row or a document.",
        "Li et al. 2016, who divide by tokens",
        missing=SHORT_TEXT,
        headline=TEXT if n == 2 else (),
        panel="distinct-2 of the generated text" if n == 2 else "",
        short=Short("distinct-2", 3) if n == 2 else None,
    )


def _lost(count: int, copies: str) -> Column:
    return Column(
        f"lost_{count}",
        f"share of types with {copies} at a locus that the generated text has lost there",
        "share, 0 to 1",
        groups.drift,
        f"Of the pairs of a position and a type with {copies} in the human rows, the share that is in no sampled row.",
        kinds=SOURCE,
        digits=4,
        better="lower",
    )


COLUMNS = (
    Column(
        "train_tokens",
        "tokens seen in training",
        "tokens",
        groups.feeding,
        "Tokens of text in all batches that the generation's models were trained on, each time they came.",
        digits=0,
    ),
    Column(
        "unique_tokens",
        "tokens in the recipe",
        "tokens",
        groups.feeding,
        "Tokens of text in the rows that the regime put together, each row once.",
        digits=0,
    ),
    Column(
        "human_share",
        "human share of the rows fed to the model",
        "share, 0 to 1",
        groups.feeding,
        "Share of human rows, the archive's included, in the rows of all batches.",
        digits=2,
    ),
    Column(
        "nll",
        "loss on held-out human text, nats per token (lower is better)",
        "nats per token",
        groups.risk,
        "Mean loss of held-out human tokens: each row after one BOS, each token scored once, EOS too; "
        "depends on the tokenizer.",
        better="lower",
        headline=SOURCE,
        missing="the held-out rows hold no text",
        infinite=IMPOSSIBLE,
    ),
    Column(
        "perplexity",
        "perplexity of held-out human text (lower is better)",
        "equally likely tokens",
        groups.risk,
        "exp(nll): the number of equally likely tokens that would be as surprising.",
        "Jelinek et al. 1977",
        digits=1,
        better="lower",
        relative=True,
        headline=TEXT,
        panel="perplexity of held-out human text",
        short=Short("perplexity", 1),
        missing="the held-out rows hold no text",
        infinite=IMPOSSIBLE,
    ),
    Column(
        "bits_per_byte",
        "bits per byte of held-out human text (lower is better)",
        "bits per byte",
        groups.byte_risk,
        "Total loss of held-out human text divided by ln 2 and by the UTF-8 bytes of its tokens; "
        "compares across tokenizers.",
        "Gao et al. 2020",
        kinds=TEXT,
        better="lower",
        infinite=IMPOSSIBLE,
        missing="the held-out tokens spell no text",
    ),
    Column(
        "nll_rare",
        "loss inside rare words, nats per token (training count 1-3; lower is better)",
        "nats per token",
        groups.word_risk,
        "Mean loss inside held-out words that occur 1 to 3 times in the seed's human training rows.",
        kinds=TEXT,
        better="lower",
        headline=TEXT,
        panel="loss since generation 0, nats per token",
        short=Short("rare loss", 2, meaning="nats per token inside rare words"),
        infinite=IMPOSSIBLE,
        missing="no held-out word occurs 1 to 3 times in the human training rows",
    ),
    Column(
        "nll_common",
        "loss inside common words, nats per token (half of all words; lower is better)",
        "nats per token",
        groups.word_risk,
        "Mean loss inside the held-out words most frequent in the human training rows, "
        "as many as make up half of the held-out words.",
        kinds=TEXT,
        better="lower",
        headline=TEXT,
        panel="loss since generation 0, nats per token",
        infinite=IMPOSSIBLE,
        missing="the held-out rows hold no whole word",
    ),
    Column(
        "nll_unseen",
        "loss inside unseen words, nats per token (training count 0; lower is better)",
        "nats per token",
        groups.word_risk,
        "Mean loss inside held-out words that do not occur in the seed's human training rows.",
        kinds=TEXT,
        better="lower",
        infinite=IMPOSSIBLE,
        missing="every held-out word occurs in the human training rows",
    ),
    Column(
        "source_nll",
        "the source's own loss on the held-out rows, nats per token",
        "nats per token",
        groups.source_risk,
        "Mean exact loss of the known source itself on the held-out rows: what no model can beat on average.",
        kinds=SOURCE,
        headline=SOURCE,
    ),
    Column(
        "excess_nll",
        "loss above the source's own on the same rows, nats per token (lower is better)",
        "nats per token",
        groups.source_risk,
        "Mean loss of the models minus that of the known source on the same rows.",
        kinds=SOURCE,
        digits=4,
        better="lower",
        headline=SOURCE,
        panel="loss above the source's own, nats per token",
        short=Short("excess loss", 3, meaning="nats per token above the source's own loss"),
        infinite=IMPOSSIBLE,
    ),
    Column(
        "unseen",
        "share of held-out tokens that the model gives no chance at all (lower is better)",
        "share, 0 to 1",
        groups.source_risk,
        "Share of held-out tokens that the models give probability 0.",
        kinds=SOURCE,
        digits=4,
        better="lower",
    ),
    *map(_distinct, (1, 2, 3)),
    Column(
        "rare_survival",
        "share of rare human words that the generated text still holds (higher is better)",
        "share, 0 to 1",
        groups.survival,
        "Share of the word types that occur 1 to 3 times in human text that a sample of equally many tokens holds.",
        kinds=TEXT,
        better="higher",
        headline=TEXT,
        panel="share of rare human words still written",
        short=Short(
            "rare survival", 1, percent=True, meaning="share of the rare human words still written (change in points)"
        ),
        missing=FEW_WORDS,
    ),
    Column(
        "rare_survival_human",
        "the same share in an equal-size human resample",
        "share, 0 to 1",
        groups.survival,
        "rare_survival of other human rows in place of the sample: what drawing alone would keep.",
        kinds=TEXT,
        missing=FEW_WORDS,
    ),
    Column(
        "entropy",
        "entropy of the generated text's unigrams, nats",
        "nats",
        groups.diversity,
        "Entropy of the tokens of the sample at metrics.tokens tokens, by their shares (plug-in), without EOS.",
        "Shannon 1948",
        missing=SHORT_TEXT,
    ),
    Column(
        "zipf",
        "Zipf exponent of the generated text (maximum likelihood over ranks)",
        "none",
        groups.zipf,
        "Maximum likelihood exponent of Zipf's law over the ranks of the sample's words; of a source, of its tokens.",
        "Zipf 1949; Goldstein et al. 2004, Clauset et al. 2009",
        missing=FEW_WORDS,
    ),
    Column(
        "self_bleu",
        "self-BLEU-4 of the generated text (higher is less diverse)",
        "share, 0 to 1",
        groups.diversity,
        "Mean BLEU-4 of each of the sample's first 200 rows against all the others.",
        "Zhu et al. 2018, Papineni et al. 2002",
        missing=SHORT_TEXT,
    ),
    Column(
        "compression",
        "compression ratio of the generated text (higher is more repetitive)",
        "ratio",
        groups.survival,
        "Bytes of the sample at metrics.tokens tokens divided by its bytes after zlib at level 9.",
        "Shaib et al. 2024",
        kinds=TEXT,
        digits=2,
        missing=SHORT_TEXT,
    ),
    Column(
        "heterozygosity",
        "chance that two generated rows differ at a locus",
        "probability",
        groups.drift,
        "Probability that two different sampled rows have different tokens at a position, the mean over positions.",
        "Nei 1978",
        kinds=SOURCE,
        digits=4,
        headline=SOURCE,
        panel="chance that two rows differ at a locus",
        short=Short("heterozygosity", 3, meaning="chance that two generated rows differ at a locus"),
    ),
    Column(
        "distance",
        "squared distance of the generated text's law from the source's",
        "squared probability",
        groups.drift,
        "Unbiased estimate of the squared distance between the law behind the sample and the source's, "
        "the mean over positions.",
        kinds=SOURCE,
        digits=4,
        better="lower",
        headline=SOURCE,
        panel="squared distance from the source's law",
        short=Short("distance", 4, meaning="squared, from the source's law"),
    ),
    Column(
        "types",
        "distinct types at a locus of the generated text",
        "types",
        groups.drift,
        "Distinct tokens at a position of the sampled rows, the mean over positions; grows with the number of rows.",
        kinds=SOURCE,
        digits=2,
        headline=SOURCE,
        panel="distinct types at a locus",
        short=Short("types", 2, meaning="distinct ones at a locus"),
    ),
    Column(
        "share_first",
        "share of the source's commonest type in the generated text",
        "share, 0 to 1",
        groups.drift,
        "Share of the source's commonest token among all sampled tokens.",
        kinds=SOURCE,
        digits=4,
    ),
    _lost(1, "one human copy"),
    _lost(2, "two human copies"),
    _lost(3, "three human copies"),
    Column(
        "distinct_2_within",
        "distinct-2 of one model's text, mean over a population of M, at an M-th of the budget",
        "share, 0 to 1",
        groups.population,
        "distinct-2 of the text of one model at an M-th of metrics.tokens, the mean over a population of M models.",
        missing="a model has written fewer tokens of text than its part of metrics.tokens",
    ),
    Column(
        "distinct_2_between",
        "distinct-2 of a text with equal parts of every model, at an M-th of the budget",
        "share, 0 to 1",
        groups.population,
        "distinct-2 of a text to which each of M models gives an equal part, at an M-th of metrics.tokens.",
        missing="a model has written fewer tokens of text than its part of metrics.tokens",
    ),
    Column(
        "disagreement",
        "mean loss of the models minus the loss of their average, nats per token",
        "nats per token",
        groups.population,
        "Mean held-out loss of a population's models minus the loss of the average of their probabilities.",
        "Krogh & Vedelsby 1995",
        digits=4,
        missing=IMPOSSIBLE,
        infinite=IMPOSSIBLE,
    ),
    Column(
        "validation_nll",
        "loss on the validation fold at the end of training, nats per token",
        "nats per token",
        groups.feeding,
        "Loss on human text of the validation fold at the last step of training; networks only.",
        better="lower",
        missing="models that are fitted by counting have no learning curve",
        infinite="the training diverged",
    ),
)
"""The measured columns, in the order of results.csv."""
BY_NAME = {column.name: column for column in (*COLUMNS, *PROFILE, *CURATION, *RADIOACTIVITY)}


def names(kind: str) -> tuple[str, ...]:
    """Return the names of a kind of corpus' columns, in the order of results.csv."""
    return tuple(column.name for column in COLUMNS if kind in column.kinds)


def headline(kind: str) -> tuple[str, ...]:
    """Return the columns that `lab run` and `lab show` print of a kind of corpus where nothing is asked for."""
    return tuple(column.name for column in COLUMNS if kind in column.headline)


def shortlist(kind: str) -> dict[str, Short]:
    """Return the columns of the headline table of a kind of corpus, and how it shows them."""
    return {column.name: column.short for column in COLUMNS if column.short is not None and kind in column.headline}


def panels(kind: str) -> dict[str, list[str]]:
    """Return the panels of the figure: title -> the columns that it draws."""
    drawn: dict[str, list[str]] = {}
    for column in COLUMNS:
        if column.panel and kind in column.headline:
            drawn.setdefault(column.panel, []).append(column.name)
    return drawn


def column(name: str) -> Column:
    """Return the column of this name; of a user's own metric a bare one, with its name for a title."""
    return BY_NAME.get(name) or Column(name, name, "", None, "", digits=4)
