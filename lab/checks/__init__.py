"""Is it right?  A run against exact theory, an artifact against its hashes, this machine against what a run needs."""
