"""The one table of columns: their order is that of results.csv, and what it says of them agrees."""

from collections import Counter

import pytest

from lab.metrics import columns

KINDS = ("text", "source")
ORDER = {
    "text": "train_tokens,unique_tokens,human_share,nll,perplexity,bits_per_byte,nll_rare,nll_common,nll_unseen,"
    "distinct_1,distinct_2,distinct_3,rare_survival,rare_survival_human,entropy,zipf,self_bleu,compression,"
    "distinct_2_within,distinct_2_between,disagreement,validation_nll",
    "source": "train_tokens,unique_tokens,human_share,nll,perplexity,source_nll,excess_nll,unseen,"
    "distinct_1,distinct_2,distinct_3,entropy,zipf,self_bleu,heterozygosity,distance,types,share_first,"
    "lost_1,lost_2,lost_3,distinct_2_within,distinct_2_between,disagreement,validation_nll",
}
"""Tables of runs that exist have these columns: a new one goes where it changes none before it."""

each_column = pytest.mark.parametrize("column", columns.COLUMNS, ids=lambda column: column.name)


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_results_csv_stays(kind: str) -> None:
    assert ",".join(columns.names(kind)) == ORDER[kind]


def test_a_name_stands_once_and_is_a_name() -> None:
    assert len(columns.BY_NAME) == sum(map(len, (columns.COLUMNS, columns.PROFILE, columns.CURATION)))
    assert all(name.isidentifier() for name in columns.BY_NAME)


@each_column
def test_a_row_of_the_table_agrees_with_itself(column: columns.Column) -> None:
    assert column.kinds and set(column.kinds) <= set(KINDS)
    assert set(column.headline) <= set(column.kinds)
    assert column.group is not None
    assert column.title and column.unit and column.definition.endswith(".") and column.definition.count(". ") == 0
    if "is better" in column.title:
        assert f"{column.better} is better" in column.title


@pytest.mark.parametrize("kind", KINDS)
def test_the_figure_has_four_panels_of_at_most_two_columns(kind: str) -> None:
    assert Counter(map(len, columns.panels(kind).values())) == ({1: 3, 2: 1} if kind == "text" else {1: 4})


def test_an_unknown_column_is_shown_by_its_name() -> None:
    assert columns.column("mine").title == "mine" and not columns.column("mine").relative
    assert columns.column("nll").digits == 3
