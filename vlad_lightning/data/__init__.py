"""Data: MARIO's format, the order of samples, batches and data modules."""
