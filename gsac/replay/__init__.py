"""Stored transitions and episodes: buffers, masks, n-step returns, and the Batch that an update takes. No networks."""
