"""The gsac command: flags, and one line for each error. No training code."""
