"""Environment wrappers, and environments that we register. Nothing here knows the algorithms."""
