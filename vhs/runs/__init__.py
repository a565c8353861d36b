"""A run over many prompts: its folder, its tables and pictures, and comparisons of runs."""
