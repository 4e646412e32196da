"""The graph at work: run folders, the walk, workers, plans, retention, verification."""
