"""Metrics: pure functions of token ids and losses, one file per question.  No model, no disk, no clock.

columns.py is the table of all columns, evidence.py says what a metric can see, measure.py computes everything.
rows: [N, T] token ids.  BOS is not in a row; EOS ends a document inside a row.
nats: [N, T] float32, the loss of each token.
token_bytes: the bytes of each vocabulary entry, b"" for special tokens.
"""
