"""Steps that a study has only where it asks for a profile, for voices or for canaries; none retrains a generation."""
