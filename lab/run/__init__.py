"""The graph at work: run folders, the walk, executors, workers, plans, retention."""
