"""What a run folder holds, as tables and pictures."""
