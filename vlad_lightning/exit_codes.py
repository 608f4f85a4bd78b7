"""Exit codes that scripts may rely on, beside 0, argparse's 2 and the shell's 128 + signal."""

PREEMPTED = 75  # EX_TEMPFAIL of sysexits.h, to be tried again: not done, goes on from the newest checkpoint
STALLED = 76  # a fit stood still, and its watchdog ended it; the checkpoints before are whole
