"""The text of a study: `corpus`, human text or a known distribution, and `tokenizer`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Tag, model_validator

from lab.config.fields import (
    Entries,
    Frozen,
    Number,
    Text,
    Tokens,
    Whole,
    kind_or,
)


class CorpusConfig(Frozen):
    """Human text: files or a folder (text, jsonl, csv, parquet), or the id of a hub data set."""

    kind: Literal["text"] = "text"
    path: Text
    text: Text = "text"
    """Name of the column that holds the text."""
    domain: Text | None = None
    author: Text | None = None
    group: Text | None = None
    """Rows of one group never stand on two sides of a split.  None: each document is a group of its own."""
    subset: Text | None = None
    """Configuration of a hub data set, such as wikitext-2-raw-v1."""
    split: Text = "train"
    revision: Text | None = None
    piece: Tokens | None = None
    """Cut documents into pieces of about so many characters, at line ends; each piece is then a group."""
    tokens: Tokens
    """n_0: tokens of human text that each seed draws for itself from the train fold."""
    archive_tokens: Tokens | None = None
    """Further tokens of the train fold, kept apart for regimes that ask for fresh human text (`mix`)."""
    layout: Literal["blocks", "documents"] = "blocks"
    """blocks: documents are joined with EOS and cut into rows; documents: each begins a row of its own, ends with EOS
    and leaves the rest of the row empty (a document longer than a row goes on in the next).  There the sizes of corpora
    count rows, n_positions tokens each whatever stands in them; train.tokens and metrics.tokens count text."""

    @property
    def title(self) -> str:
        return self.path


class SourceConfig(Frozen):
    """A known distribution in the place of human text, so that measurements can be held against exact values.

    Tokens are the numbers 0 .. types - 1; rows are as long as the model's, without an end of text.
    """

    kind: Literal["source"]
    process: Literal["categorical", "markov"]
    """categorical: every token is drawn from one law p; markov: each token's law depends on the one before."""
    types: Annotated[Whole, Field(ge=2, le=4096)]
    zipf: Annotated[Number, Field(ge=0, le=10)]
    """p_i ~ i^-zipf; 0 is uniform.  markov: each token's law is this one with the types in an order of its own."""
    tokens: Tokens
    """n_0: tokens that each seed draws for itself."""
    archive_tokens: Tokens | None = None
    layout: Literal["blocks"] = "blocks"

    @property
    def title(self) -> str:
        return f"a {self.process} source of {self.types:,} types (Zipf {self.zipf:g})"


CORPORA: dict[str, type[Frozen]] = {"text": CorpusConfig, "source": SourceConfig}
AnyCorpus = CorpusConfig | SourceConfig


TaggedCorpus = Annotated[Annotated[CorpusConfig, Tag("text")] | Annotated[SourceConfig, Tag("source")], kind_or("text")]


class TokenizerConfig(Frozen):
    """A byte-level BPE trained on the human training text, or the tokenizer of a pretrained model."""

    vocab_size: Annotated[Entries, Field(ge=257)] | None = None
    pretrained: Text | None = None

    @model_validator(mode="after")
    def one_of_two(self) -> TokenizerConfig:
        if (self.vocab_size is None) == (self.pretrained is None):
            raise ValueError("give exactly one of vocab_size (train a tokenizer) and pretrained (a folder or hub id)")
        return self
