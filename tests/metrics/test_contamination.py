"""What held-out folds share with the train fold, by hand."""

from lab.metrics.contamination import grams, shared, shared_line

WORDS = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o"]


def test_sequences_by_hand() -> None:
    """15 words have 3 sequences of 13, and 12 words none."""
    assert len(grams(WORDS)) == 3 and grams(WORDS[:12]) == set()
    assert grams(WORDS) == grams(WORDS[:14]) | grams(WORDS[1:])


def test_what_folds_share_by_hand() -> None:
    """The test document has 2 sequences, of which a longer training document holds 1; the validation one is a copy."""
    texts = {
        "train": [" ".join(["z", *WORDS[:13], "y"]), "short"],
        "validation": ["short"],
        "test": [" ".join(WORDS[:14])],
    }
    found = shared(lambda fold: texts[fold])
    assert found == {
        "validation": {"documents": 1, "copies": 1, "overlap": 0},
        "test": {"documents": 1, "copies": 0, "overlap": 0.5},
    }
    assert shared_line(found) == (
        "the train fold holds, of the validation fold 1 of 1 documents and 0.00% of the 13-word sequences; of the test "
        "fold 0 of 1 documents and 50.00% of the 13-word sequences"
    )
