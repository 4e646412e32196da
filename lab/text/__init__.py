"""Human text in: corpora, folds, tokenizers, rows of tokens, known distributions."""
