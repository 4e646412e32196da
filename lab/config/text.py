"""The sections `corpus` (human text, or a known distribution in its place) and `tokenizer`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lab.config.fields import Entries, Frozen, Number, Text, Tokens, Whole


class SplitsConfig(Frozen):
    """The folds that a corpus comes with, all three by name: splits of a hub data set, files, or values of a column."""

    train: Text
    """A split of the hub data set or of the DatasetDict, a file or folder in the folder corpus.path, or a value of
    `column`.  Most of its text is the train fold, and 20 parts of 85 are the reference fold."""
    validation: Text
    """The same for the validation fold."""
    test: Text
    """The same for the test fold."""
    column: Text | None = None
    """Name of the column whose values train, validation and test are.  Default: they are splits or files."""

    @property
    def names(self) -> tuple[str, str, str]:
        """The names of the train, the validation and the test split."""
        return self.train, self.validation, self.test

    @model_validator(mode="after")
    def three_names(self) -> SplitsConfig:
        if len(set(self.names)) < 3:
            raise ValueError(f"train, validation and test are {', '.join(self.names)}: give three different names")
        return self


class CorpusConfig(Frozen):
    """Human text: a file or a folder of files, or the id of a hub data set."""

    kind: Literal["text"] = "text"
    """Human text.  This is the default; `source` is the other kind."""
    path: Text
    """A file (.txt, .raw, .jsonl, .ndjson, .json, .csv, .tsv, .parquet, .arrow; all but the last two also as .gz, .bz2
    or .zst), a folder of files of one kind, a folder that `save_to_disk` of datasets wrote, or the id of a hub data
    set, such as roneneldan/TinyStories."""
    text: Text = "text"
    """Name of the column that holds the text.  Default: text."""
    domain: Text | None = None
    """Name of the column with a document's domain.  Splits keep the share of each domain.  Default: no domains."""
    author: Text | None = None
    """Name of the column with a document's author, which is kept with the document.  Default: no authors."""
    group: Text | None = None
    """Name of the column with a document's group, such as a book.  Documents of one group always stay on one side of a
    split.  Default: each document is a group of its own."""
    subset: Text | None = None
    """Configuration of a hub data set, such as wikitext-2-raw-v1.  Default: the only one."""
    split: Text = "train"
    """Split of a hub data set, or of a DatasetDict that was saved, that is read; the lab makes its own folds from it.
    Other files have no splits.  Default: train."""
    splits: SplitsConfig | None = None
    """The folds that the corpus comes with: {train: wiki.train.raw, validation: wiki.valid.raw, test: wiki.test.raw}.
    Copies within a fold are left out; copies between folds stay, and lab corpus and lab run count them.  Default: the
    lab makes its own folds."""
    revision: Text | None = None
    """Commit, branch or tag of a hub data set.  Default: the newest commit, whose id is kept with the run."""
    piece: Tokens | None = None
    """Characters of a piece: documents are cut at line ends into pieces of about this length, and each piece is a group
    of its own.  Default: documents stay whole."""
    tokens: Tokens
    """Tokens of human text that each seed draws for itself from the train fold (n_0 in the literature)."""
    archive_tokens: Tokens | None = None
    """Further tokens of the train fold, kept apart for regimes that ask for fresh human text, such as mix with fresh:
    true, and for the curator archive, whose rows no regime is given.  Default: no archive."""
    canaries: Annotated[tuple[Literal[1, 4, 16, 64, 256], ...], Field(min_length=1)] | None = None
    """Copies of canaries, such as [1, 4, 16, 64, 256]: for each number a row of random tokens takes the place of so
    many of the seed's human rows.  They change what is trained on, so a finished run cannot gain them.
    profile.extraction measures what is memorised of them.  Default: none."""
    layout: Literal["blocks", "documents"] = "blocks"
    """How documents become rows.  blocks (default): documents are joined with EOS and cut into rows.  documents: each
    document begins a row of its own, ends with EOS and leaves the rest of the row empty; one that is longer than a row
    continues in the next.  With documents the sizes of corpora count rows of n_positions tokens, whatever text is in
    them, while train.tokens and metrics.tokens count tokens of text."""

    @property
    def title(self) -> str:
        return self.path

    @property
    def split_names(self) -> tuple[str, ...]:
        """The names of the train, validation and test split that are read one after another; none where all is read."""
        return self.splits.names if self.splits is not None and self.splits.column is None else ()

    @model_validator(mode="after")
    def one_way_to_split(self) -> CorpusConfig:
        if self.split_names and self.split != "train":
            raise ValueError("split and splits are both given, and splits names the splits: take split out")
        return self


class SourceConfig(Frozen):
    """A known distribution in place of human text, so that measurements can be compared with exact values.

    Tokens are the numbers 0 .. types - 1.  Rows are as long as the model's and have no end of text.
    """

    kind: Literal["source"]
    """A known distribution."""
    process: Literal["categorical", "markov"]
    """categorical: every token is drawn from one law p.  markov: the law of a token depends on the token before it."""
    types: Annotated[Whole, Field(ge=2, le=4096)]
    """Number of different tokens, from 2 to 4096."""
    zipf: Annotated[Number, Field(ge=0, le=10)]
    """Exponent of the law: the i-th type has a probability proportional to i^-zipf, from 0 (uniform) to 10.  With
    markov the law after each token is this one, with the types in an order of its own."""
    tokens: Tokens
    """Tokens that each seed draws for itself (n_0 in the literature)."""
    archive_tokens: Tokens | None = None
    """Further tokens, kept apart for regimes that ask for fresh ones, such as mix with fresh: true, and for the curator
    archive, whose rows no regime is given.  Default: no archive."""
    layout: Literal["blocks"] = "blocks"
    """A source has rows without documents, so blocks is the only layout."""

    @property
    def title(self) -> str:
        return f"a {self.process} source of {self.types:,} types (Zipf {self.zipf:g})"


class TokenizerConfig(Frozen):
    """A byte-level BPE trained on the human training text, or the tokenizer of a pretrained model."""

    vocab_size: Annotated[Entries, Field(ge=257)] | None = None
    """Entries of a tokenizer to train: at least 257, which are 256 bytes and EOS.  Give either vocab_size or
    pretrained."""
    pretrained: Text | None = None
    """Folder or hub id of a model whose byte-level BPE is used.  What its file holds beside that is taken out (padding,
    truncation, post-processor, dropout, add_prefix_space, NFC) or refused (every other normalizer), so that tokens
    spell the text itself.  Give either vocab_size or pretrained."""

    @model_validator(mode="after")
    def one_of_two(self) -> TokenizerConfig:
        if (self.vocab_size is None) == (self.pretrained is None):
            raise ValueError("give exactly one of vocab_size (train a tokenizer) and pretrained (a folder or hub id)")
        return self
