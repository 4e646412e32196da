"""`evaluate` module: perplexity of texts under a causal language model that is already in memory."""

from typing import Any

import datasets
import evaluate
import numpy as np
import torch
import torch.nn.functional as F

from lab.metrics.risk import bits_per_byte, mean_nats, perplexity
from lab.text.tokenizer import token_bytes

DESCRIPTION = """
Perplexity = exp(mean nats per token) over all tokens of all texts together (not the mean of the texts' perplexities).

Convention: each text stands after one BOS, which is not scored; every other token is scored exactly once; no EOS is
added.  A text longer than the model's n_positions is cut into windows that do not overlap, each after a BOS:

    n_positions 4, text a b c d e:   given <bos> a b c   score a b c d
                                     given <bos>         score e

Lower = better.  Perplexity and nll depend on the tokenizer, bits_per_byte does not.  NaN where no text has a token.
"""

INPUTS = """
predictions: list of str, or list of lists of token ids (without BOS).
model: a transformers causal language model.
tokenizer: its fast, byte-level tokenizer (GPT-2's kind): gives the BOS and the bytes of each token.
batch_size: windows that go through the model together (8).

Returns perplexity; nll, in nats per token; bits_per_byte; tokens, the number scored.

>>> metric = evaluate.load(lab.metric_path("perplexity"))
>>> metric.compute(predictions=["All happy families are alike."], model=model, tokenizer=tokenizer)
"""


class Perplexity(evaluate.Metric):  # type: ignore[misc]
    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description=INPUTS,
            features=[
                datasets.Features({"predictions": datasets.Value("string")}),
                datasets.Features({"predictions": datasets.Sequence(datasets.Value("int64"))}),
            ],
        )

    def _compute(
        self, predictions: list[Any], model: Any, tokenizer: Any, batch_size: int = 8
    ) -> dict[str, float | int]:
        if tokenizer.bos_token_id is None:
            raise ValueError("the tokenizer has no BOS, after which a text is scored; set tokenizer.bos_token")
        texts = [
            tokenizer(p, add_special_tokens=False, verbose=False)["input_ids"] if isinstance(p, str) else list(p)
            for p in predictions
        ]
        size = getattr(model.config, "max_position_embeddings", None) or max(map(len, texts)) or 1
        windows = [text[at : at + size] for text in texts for at in range(0, len(text), size)]
        tokens = np.array([token for window in windows for token in window], dtype=np.int64)
        training = model.training
        model.eval()
        nats = np.array(_nats(windows, model, tokenizer.bos_token_id, batch_size))
        model.train(training)
        return {
            "perplexity": perplexity(nats),
            "nll": mean_nats(nats),
            "bits_per_byte": bits_per_byte(tokens, nats, token_bytes(tokenizer.backend_tokenizer)),
            "tokens": len(tokens),
        }


@torch.inference_mode()
def _nats(windows: list[list[int]], model: Any, bos: int, batch_size: int) -> list[float]:
    """Return the loss of each token, in order.  B = windows of a batch, T = positions, V = vocabulary."""
    nats: list[float] = []
    for at in range(0, len(windows), batch_size):
        batch = windows[at : at + batch_size]
        longest = max(map(len, batch))
        # Padding stands on the right, where a causal model cannot see it.
        ids_BT = torch.tensor([window + [bos] * (longest - len(window)) for window in batch], device=model.device)
        mask_BT = torch.tensor([[1] * len(w) + [0] * (longest - len(w)) for w in batch], device=model.device)
        inputs_BT = torch.cat([torch.full_like(ids_BT[:, :1], bos), ids_BT[:, :-1]], dim=1)
        logits_BTV = model(input_ids=inputs_BT, attention_mask=mask_BT).logits.float()
        nats_BT = F.cross_entropy(logits_BTV.transpose(1, 2), ids_BT, reduction="none")
        nats += nats_BT[mask_BT.bool()].tolist()
    return nats
