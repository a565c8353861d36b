"""Pictures from anywhere, ranked by any verifier that reads pictures: `vhs.rank`, and what rank.py does."""
