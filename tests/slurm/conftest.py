"""A real SLURM cluster of two nodes on this machine, for as long as the tests take."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from slurm_cluster import ROOT, Cluster

NEEDED = ("slurmctld", "slurmd", "sbatch", "munged", "runuser")
PORTS = 3  # the controller's and one for each node


def free_ports() -> int:
    """Find the first of ``PORTS`` free ports in a row, below those that the kernel assigns."""
    for first in range(17817, 30000, PORTS):
        with ExitStack() as stack:
            try:
                for port in range(first, first + PORTS):
                    stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    raise RuntimeError("no free ports for a SLURM cluster between 17817 and 30000")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        why = f"{', '.join(missing)} not installed" if missing else "only root can start its daemons"
        pytest.skip(f"no SLURM cluster: {why}; as root: apt-get install slurm-wlm munge")
    folder = Path(tempfile.mkdtemp(prefix="vlad-slurm-"))  # munged runs as another user, who cannot enter tmp_path
    folder.chmod(0o755)
    script = Path(__file__).with_name("cluster.sh")
    environment = {
        **os.environ,
        "VLAD_SLURM_PORT": str(free_ports()),
        "SLURM_CONF": str(folder / "slurm.conf"),
        "MASTER_ADDR": "127.0.0.1",  # the nodes' names are known to SLURM only
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "VLAD_CLI": f"{sys.executable} -m vlad_lightning",
        "SBATCH_OPTIONS": "--nodes=2 --ntasks-per-node=1 --cpus-per-task=1",
    }
    try:
        with (folder / "stderr").open("w+") as stderr:  # a pipe would stay open as long as the daemons do
            up = subprocess.run([script, "up", folder], check=False, timeout=120, env=environment, stderr=stderr)
            if up.returncode:  # the machine's fault, not the tested code's
                pytest.skip(f"no SLURM cluster: {(folder / 'stderr').read_text(errors='replace').strip()}")
        yield Cluster(environment)
    finally:
        subprocess.run([script, "down", folder], check=False, timeout=120, env=environment)
        shutil.rmtree(folder, ignore_errors=True)
