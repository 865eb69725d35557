"""Pure functions on tensors: distributions, relaxations, losses, returns. No networks, no state, nothing but torch."""
