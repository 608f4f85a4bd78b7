"""Exit codes that scripts may rely on, besides 0, argparse's 2 and the shell's 128 + signal."""

PREEMPTED = 75  # EX_TEMPFAIL of sysexits.h: not finished; run again to continue from the newest checkpoint
STALLED = 76  # a fit made no progress and its watchdog ended it; the earlier checkpoints are intact
