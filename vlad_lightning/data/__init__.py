"""Data: MARIO's format, posters drawn in it, and what feeds them to the networks."""
