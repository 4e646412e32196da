"""Artifacts on disk: content-addressed, committed atomically, verified by hash."""
