"""The checks that the first process makes from the facts of all processes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from vlad_lightning.cli.doctor.check import Check, same
from vlad_lightning.cli.doctor.facts import Facts

_LITTLE, _TOO_LITTLE = 20 * 2**30, 2**30  # bytes: a few checkpoints of 1 B parameters with AdamW; not even a small one


def compare(facts: Sequence[Facts], out: str) -> list[Check]:
    """Check ranks, versions, devices, disks, and what the configuration reads.

    Args:
        facts: the facts of every process, in the order of the ranks.
        out: the folder of the run.
    """
    return [_ranks(facts), *_versions(facts), *_devices(facts), *_disks(facts, out), *_sources(facts)]


def _ranks(facts: Sequence[Facts]) -> Check:
    name = "ranks"
    for fact in facts:
        if fact.world_size != len(facts):
            found = f"{fact.name} belongs to {fact.world_size} processes, rank 0 to {len(facts)}"
            return Check(name, "fail", found, "start all of them by one srun or one torchrun")
    nodes = Counter(fact.node for fact in facts)
    doubled = [process for process, n in Counter((fact.node, fact.local_rank) for fact in facts).items() if n > 1]
    if doubled:
        found = f"several processes are local rank {doubled[0][1]} on {doubled[0][0]}"
        return Check(name, "fail", found, "start all processes of a node by one launcher")
    found = f"{len(facts)} on {len(nodes)} node{'s' * (len(nodes) > 1)}: {', '.join(sorted(nodes))}"
    if len(set(nodes.values())) > 1:
        return Check(name, "fail", f"{found}; not equally many on each", "set --ntasks-per-node")
    return Check(name, "ok", found)


def _versions(facts: Sequence[Facts]) -> list[Check]:
    owners = [fact.name for fact in facts]
    advice = "use one environment on a shared file system, or one container image, on every node"
    return [same(f"version of {n}", [f.versions[n] for f in facts], owners, advice) for n in facts[0].versions]


def _devices(facts: Sequence[Facts]) -> list[Check]:
    if not any(fact.gpu for fact in facts):
        return [Check("GPUs", "ok", "none; training runs on the CPU")]
    owners = [fact.name for fact in facts]
    checks = [
        same("GPU", [f.gpu or "none" for f in facts], owners, "ask for one kind of GPU with --constraint"),
        same("GPU driver", [f.driver or "none" for f in facts], owners, "have the nodes updated, or leave them out"),
    ]
    shared = [device for device, n in Counter(fact.device for fact in facts if fact.device).items() if n > 1]
    if shared:
        users = ", ".join(fact.name for fact in facts if fact.device == shared[0])
        advice = "one task a GPU: --ntasks-per-node equal to --gpus-per-node, and no --gpus-per-task binding twice"
        checks.append(Check("GPU of each rank", "fail", f"{users} share one GPU", advice))
    return [*checks, *_bound(facts)]


def _bound(facts: Sequence[Facts]) -> list[Check]:
    """Check that each process sees its node's GPUs for all ranks; Lightning picks one by the local rank."""
    ranks = Counter(fact.node for fact in facts)
    few = [fact for fact in facts if 0 < fact.gpus < ranks[fact.node]]
    if not few:
        return []
    found = f"{few[0].name} sees {few[0].gpus}, and there are {ranks[few[0].node]} ranks on its node"
    advice = "use --gpus-per-node, without --gpus-per-task or --gpu-bind: training picks its GPU among those of all"
    return [Check("GPUs a rank sees", "fail", found, advice)]


def _disks(facts: Sequence[Facts], out: str) -> list[Check]:
    checks = []
    for name, folder, free in (
        ("disk of the run", out, [fact.free_out for fact in facts]),
        ("temporary disk", "", [fact.free_temporary for fact in facts]),
    ):
        least = min(range(len(facts)), key=free.__getitem__)
        found = f"{free[least] / 2**30:.1f} GiB free, least at {facts[least].name}"
        level = "fail" if free[least] < _TOO_LITTLE else "warn" if free[least] < _LITTLE else "ok"
        advice = f"make room{' in ' + folder if folder else ', or set TMPDIR'}" if level != "ok" else ""
        checks.append(Check(name, level, found, advice))  # type: ignore[arg-type]
    broken = [f"{fact.name}: {folder}: {why}" for fact in facts for folder, why in fact.broken.items()]
    advice = "use folders that every node may write to, on a file system with rename and fsync"
    if broken:
        return [*checks, Check("writing", "fail", "; ".join(broken), advice)]
    return [*checks, Check("writing", "ok", "write, fsync, rename and reading back work in both folders")]


def _sources(facts: Sequence[Facts]) -> list[Check]:
    """Merge the processes' checks of each source into one, which names the processes that do not see the source."""
    checks = []
    for seen in zip(*(fact.sources for fact in facts), strict=True):
        bad = [i for i, check in enumerate(seen) if check.level == "fail"]
        if bad and len(bad) < len(facts):
            found = f"{seen[bad[0]].found} at {', '.join(facts[i].name for i in bad)}"
            checks.append(replace(seen[bad[0]], found=found))
        else:
            checks.append(seen[0])
    return checks
