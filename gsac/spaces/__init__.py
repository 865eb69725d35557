"""Gymnasium spaces as one-hot groups and as JSON. No networks and no environments."""
