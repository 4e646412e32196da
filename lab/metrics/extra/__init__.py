"""Metrics that a study names under `metrics.extra`, as it names one of its own.

They lie in a folder of their own, because the key of `record` hears every file of lab/metrics.
"""
