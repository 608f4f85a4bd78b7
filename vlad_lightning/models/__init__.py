"""The networks, without Lightning."""
