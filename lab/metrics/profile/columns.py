"""The table of the profile's columns of results.csv: name, title, unit, definition and source of each."""

from __future__ import annotations

from lab.metrics.column import Column

TEXT = ("text",)
NO_JUDGE = "the study fits no judge (profile.judge), or it gives human rows no probability"
NOT_PROBED = "the entropy of the next token was not measured (profile.entropy), or the weights were deleted"


COLUMNS: tuple[Column, ...] = (
    Column(
        "unigram_nll",
        "loss of the seed's own unigram on held-out human text, nats per token",
        "nats per token",
        None,
        "Loss of the unigram of the human training rows, counts + 1/2, on the held-out tokens.",
    ),
    Column(
        "next_entropy",
        "entropy of the decoded next-token law on human text, nats",
        "nats",
        None,
        "Mean entropy of the law that the next token is drawn from, decoding included, after held-out human text.",
        "Shannon 1948",
        missing=NOT_PROBED,
    ),
    Column(
        "writer_nll",
        "loss of the generated text under the model that wrote it, nats per token",
        "nats per token",
        None,
        "Mean loss of the sample's tokens under their own model, before temperature and filters.",
    ),
    Column(
        "judge_nll",
        "loss of the generated text under the judge, nats per token",
        "nats per token",
        None,
        "Mean loss of the sample's tokens under a model of human text that no generation has seen.",
        missing=NO_JUDGE,
    ),
    Column(
        "kl_to_judge",
        "KL divergence of the model from the judge on its own text, nats per token",
        "nats per token",
        None,
        "Loss of the sample under the judge minus its loss under its own model: an estimate of KL(model || judge).",
        "Kullback & Leibler 1951",
        better="lower",
        missing="the study fits no judge (profile.judge), or decoding is not the model's own law",
    ),
    Column(
        "above_human",
        "share of generated rows that cost the judge more than 99 % of human rows do",
        "share, 0 to 1",
        None,
        "Share of the sample's rows whose mean loss under the judge is above the 99th percentile of held-out rows.",
        "Shumailov et al. 2024, figure 1",
        better="lower",
        missing=NO_JUDGE,
    ),
    Column(
        "below_human",
        "share of generated rows that cost the judge less than 99 % of human rows do",
        "share, 0 to 1",
        None,
        "Share of the sample's rows whose mean loss under the judge is below the 1st percentile of held-out rows.",
        "Shumailov et al. 2024, figure 1",
        missing=NO_JUDGE,
    ),
    Column(
        "new_survival",
        "share of rare human words still written outside of copied text (higher is better)",
        "share, 0 to 1",
        None,
        "rare_survival that counts only words outside of 8-grams of tokens that the human training rows hold too.",
        "Feldman 2020",
        kinds=TEXT,
        better="higher",
    ),
    Column(
        "new_survival_human",
        "the same share in an equal-size human resample",
        "share, 0 to 1",
        None,
        "new_survival of other human rows in place of the sample.",
        kinds=TEXT,
    ),
    Column(
        "unknown_words",
        "share of written words that stand nowhere in the human corpus",
        "share, 0 to 1",
        None,
        "Share of the sample's words that no human text holds, of all folds but the test fold.",
        kinds=TEXT,
        better="lower",
    ),
    Column(
        "mode_entropy",
        "entropy of the mode of a generated row, nats (higher: modes merge)",
        "nats",
        None,
        "Mean entropy of a naive Bayes classifier's posterior over the modes of human text, calibrated on human rows.",
        "McCallum & Nigam 1998, Guo et al. 2017",
        kinds=TEXT,
    ),
    Column(
        "overlap_8",
        "share of generated 8-grams copied from training text, above held-out human text",
        "share, -1 to 1",
        None,
        "Share of the sample's 8-grams of tokens that the human training rows hold, minus that of held-out rows.",
        "Lee et al. 2022",
        kinds=TEXT,
        digits=4,
    ),
    Column(
        "overlap_13",
        "share of generated 13-grams copied from training text, above held-out human text",
        "share, -1 to 1",
        None,
        "Share of the sample's 13-grams of tokens that the human training rows hold, minus that of held-out rows.",
        "Brown et al. 2020",
        kinds=TEXT,
        digits=4,
    ),
)
"""The columns, in the order of results.csv."""


def names(kind: str) -> tuple[str, ...]:
    """Return the names of a kind of corpus' columns, in the order of results.csv."""
    return tuple(column.name for column in COLUMNS if kind in column.kinds)
