"""The command line: the launcher, the commands, and how configurations are read."""
