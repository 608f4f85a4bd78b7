"""A comparison of the tasks that SLURM started with the processes that a trainer expects."""

from __future__ import annotations

from collections.abc import Mapping

_INTERACTIVE = ("bash", "interactive")  # job names by which Lightning recognises that srun is not used


def check_tasks(environment: Mapping[str, str], devices: int, num_nodes: int, parallel: bool) -> None:
    """Refuse a run whose processes would each train alone, or of which some were never started.

    Do nothing outside SLURM, in an interactive allocation, and if another launcher started the processes.

    Args:
        environment: the environment variables of this process.
        devices: the trainer's devices per node.
        num_nodes: the trainer's number of nodes.
        parallel: whether the trainer's strategy joins several processes.

    Raises:
        ValueError: naming the numbers.
    """
    tasks = _number(environment, "SLURM_NTASKS")
    interactive = environment.get("SLURM_JOB_NAME") in _INTERACTIVE
    if tasks is None or interactive or "TORCHELASTIC_RUN_ID" in environment:
        return
    nodes, per_node = _number(environment, "SLURM_NNODES"), _number(environment, "SLURM_NTASKS_PER_NODE")
    found = [f"SLURM_NTASKS={tasks}"]
    found += [] if nodes is None else [f"SLURM_NNODES={nodes}"]
    found += [] if per_node is None else [f"SLURM_NTASKS_PER_NODE={per_node}"]
    if not parallel:
        if tasks > 1:
            raise ValueError(
                f"SLURM started {tasks} tasks ({', '.join(found)}), but with trainer.devices=1, trainer.num_nodes=1 "
                "each would train alone; set trainer.devices to a node's tasks and trainer.num_nodes to the nodes, "
                "or start one task"
            )
        return
    wrong_nodes = nodes is not None and nodes != num_nodes
    wrong_devices = per_node is not None and per_node != devices
    if tasks != devices * num_nodes or wrong_nodes or wrong_devices:
        raise ValueError(
            f"trainer.devices={devices} times trainer.num_nodes={num_nodes} are {devices * num_nodes} processes, but "
            f"SLURM started {', '.join(found)}; a node needs a task for each device: srun --nodes={num_nodes} "
            f"--ntasks-per-node={devices}"
        )


def _number(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name, "")
    return int(text) if text.isdecimal() else None
