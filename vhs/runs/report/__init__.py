"""report.html and the figures of a run, from its folder alone."""
