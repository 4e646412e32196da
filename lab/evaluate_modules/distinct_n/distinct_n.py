"""`evaluate` module: distinct-n at an equal token budget."""

from typing import Any

import datasets
import evaluate

from lab.metrics.diversity import distinct_n

DESCRIPTION = """
distinct-n = distinct n-grams / n-grams in the first `tokens` tokens of the predictions, in order.

Li et al. (2016) divide by tokens; this divides by n-grams, as is now common.  No n-gram crosses the end of a
prediction or a document end (`eos`).  The ratio falls with length: compare texts at one budget only.
A share, 0 to 1; higher = more diverse; compare with human text.  NaN for a budget that holds no n-gram.
"""

CITATION = """
@inproceedings{li2016diversity,
  title={A Diversity-Promoting Objective Function for Neural Conversation Models},
  author={Li, Jiwei and Galley, Michel and Brockett, Chris and Gao, Jianfeng and Dolan, Bill},
  booktitle={NAACL-HLT},
  year={2016}
}
"""

INPUTS = """
predictions: list of lists of token ids, or list of str, which are split at white space.
n: length of the n-grams.   tokens: the budget.   eos: the token id that ends a document, if any does.

Returns distinct_n.

>>> metric = evaluate.load(lab.metric_path("distinct_n"))
>>> metric.compute(predictions=["a b a b"], n=2, tokens=4)
{'distinct_n': 0.6666666666666666}
"""


class DistinctN(evaluate.Metric):  # type: ignore[misc]
    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=CITATION,
            inputs_description=INPUTS,
            features=[
                datasets.Features({"predictions": datasets.Value("string")}),
                datasets.Features({"predictions": datasets.Sequence(datasets.Value("int64"))}),
            ],
        )

    def _compute(self, predictions: list[Any], n: int, tokens: int, eos: int | None = None) -> dict[str, float]:
        ids: dict[str, int] = {}
        rows = [
            [ids.setdefault(word, len(ids)) for word in row.split()] if isinstance(row, str) else row
            for row in predictions
        ]
        return {"distinct_n": distinct_n(rows, n=n, eos=eos, tokens=tokens)}
