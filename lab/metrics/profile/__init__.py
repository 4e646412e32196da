"""Numbers of the collapse profile: functions from `ProfileEvidence` that the definitions in lab/definitions.py read.

They lie in a folder of their own, because the key of `record` hears every file of lab/metrics.
"""
