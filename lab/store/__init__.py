"""Artifacts on disk: named by a hash of how they are made, committed atomically, verified by hash of what they hold."""
