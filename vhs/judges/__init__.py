"""Judges: whatever says how well a picture shows its prompt after the verifier has chosen."""
