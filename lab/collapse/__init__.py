"""The collapse profile: its numbers of a generation, and what the definitions of lab/definitions.py read of a chain.

It is no part of lab/metrics, because the key of `record` hears every file there.
"""
