"""The optimiser and one descent step. No losses and no schedules: they come as arguments."""
