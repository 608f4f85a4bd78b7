"""Data: MARIO's format, and what feeds it to the networks."""
