"""Floor 4: the algorithms that users hold, in SB3's shell."""
