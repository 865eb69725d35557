"""Floor 2: the networks, as SB3 builds, saves and loads them."""
