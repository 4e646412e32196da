"""What a study file says: frozen models with strict keys, files, overrides, sweeps."""
