"""One update: losses, gradient steps, metrics, and how the update is executed. No environments and no logger."""
