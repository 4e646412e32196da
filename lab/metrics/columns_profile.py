"""The table of the profile's columns of results.csv: name, title, unit, definition and source of each."""

from __future__ import annotations

from lab.metrics.column import Column

TEXT = ("text",)
NO_JUDGE = "the study fits no judge (profile.judge), or it gives human rows no probability"
NOT_PROBED = "the next token was not measured (profile.entropy, beams, a watermark), or the weights were deleted"
NOT_EXTRACTED = "it was not measured (profile.extraction), the weights were deleted, or no row is as long"


def _exposure(copies: int) -> Column:
    return Column(
        f"exposure_{copies}",
        f"exposure of the canary that is planted {copies} times, bits (unseen: 1.44 on average)",
        "bits",
        None,
        "log2 of 2^12 candidates minus log2 of the canary's rank among them by the models' own loss of 16 tokens.",
        "Carlini et al. 2019",
        kinds=TEXT,
        digits=2,
        missing="no such canary is planted (corpus.canaries), or it was not measured (profile.extraction)",
    )


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
        "effective_models",
        "effective number of models in a population (1: all say the same, M: nothing in common)",
        "count",
        None,
        "exp(H(mean of the laws) - mean of H(law)) of the models' next-token laws after held-out human text; the "
        "exponent is the mean over positions.",
        "Lin 1991, Hill 1973",
        missing=f"there is one model, or {NOT_PROBED}",
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
        "largest_mode",
        "share of the generated rows that belong to the largest mode",
        "share, 0 to 1",
        None,
        "Largest share of the sample's rows that a naive Bayes classifier gives to one mode of human text.",
        kinds=TEXT,
    ),
    Column(
        "effective_modes",
        "effective number of modes of the generated rows (higher is more diverse)",
        "count",
        None,
        "exp of the entropy of the modes' shares of the sample's rows: K where K modes have equal shares.",
        "Hill 1973",
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
    Column(
        "extraction",
        "chance that 1000 draws write a training suffix, above that of a held-out suffix",
        "share, -1 to 1",
        None,
        "Mean of 1 - (1 - p)^1000 over the suffixes of at most 256 human training rows, p the model's own probability "
        "of a suffix after its prefix, minus that of as many held-out rows; 50 tokens each, at most half a row.",
        "Hayes et al. 2024, Carlini et al. 2023",
        digits=4,
        missing=NOT_EXTRACTED,
    ),
    Column(
        "suffix_gap",
        "loss of held-out suffixes minus that of training suffixes, nats per token",
        "nats per token",
        None,
        "Mean loss of the suffixes of held-out rows minus that of human training rows, on the rows of extraction.",
        "Yeom et al. 2018",
        missing=f"{NOT_EXTRACTED}, or the model gives a token probability 0",
    ),
    *map(_exposure, (1, 4, 16, 64, 256)),
)
"""The columns, in the order of results.csv."""


def names(kind: str) -> tuple[str, ...]:
    """Return the names of a kind of corpus' columns, in the order of results.csv."""
    return tuple(column.name for column in COLUMNS if kind in column.kinds)
