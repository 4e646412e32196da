"""The study as data: frozen models with strict keys, and how files, overrides and sweeps become such models."""
