"""A real SLURM cluster of two nodes on this machine, for as long as the tests take."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_cluster import ROOT, Cluster

NEEDED = ("slurmctld", "slurmd", "sbatch", "munged", "runuser")


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
        "SLURM_CONF": str(folder / "slurm.conf"),
        "MASTER_ADDR": "127.0.0.1",  # the nodes' names are known to SLURM only
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "VLAD_CLI": f"{sys.executable} -m vlad_lightning",
        "SBATCH_OPTIONS": "--nodes=2 --ntasks-per-node=1 --cpus-per-task=1",
    }
    try:
        subprocess.run([script, "up", folder], check=True, timeout=120, env=environment)
        yield Cluster(environment)
    finally:
        subprocess.run([script, "down", folder], check=False, timeout=120, env=environment)
        shutil.rmtree(folder, ignore_errors=True)
