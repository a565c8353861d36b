"""What a run costs: time per stage."""
