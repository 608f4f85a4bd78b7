"""``vlad-cli doctor``: what would break a run on many devices, found in under a minute and before it starts."""
