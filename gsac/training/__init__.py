"""Floor 3: one update of the networks. Knows no environment, no logger and no SB3 algorithm."""
