"""Steps between a pool and the training on it: archives, edits, scores, and the decisions of curators."""
