"""Checkpoint files: where they are, whether they are whole, and how they get here."""
