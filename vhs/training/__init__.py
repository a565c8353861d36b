"""Verifiers from prompts to a checkpoint: collected features, labels, two training stages, judging the result."""
