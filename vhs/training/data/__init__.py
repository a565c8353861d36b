"""Everything before a training: collected features, statistics, labels and captions."""
