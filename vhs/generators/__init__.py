"""Generators: what makes pictures. `load_generator` and `check_generator` take a run's configuration."""
