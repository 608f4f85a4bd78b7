"""``vlad-cli doctor``: checks, in under a minute, for what would break a run on many devices before it starts."""
