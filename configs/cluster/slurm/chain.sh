#!/bin/bash
# Submit the three stages; each starts after the one before it has succeeded:
#   bash configs/cluster/slurm/chain.sh OUT CONFIGS [options of `vlad-cli fit` for every stage]
# CONFIGS is a folder with stage0_align.yaml, stage1_tlg.yaml and stage2_vfe.yaml, such as configs or configs/mini.
# Options of sbatch are given in SBATCH_OPTIONS ("--nodes=4 --gpus-per-node=8"), its account, partition and time in
# SBATCH_ACCOUNT, SBATCH_PARTITION and SBATCH_TIMELIMIT. A preempted stage is queued again under the same job id, and
# the stages after it keep waiting. A failed stage keeps them from starting (--kill-on-invalid-dep removes them).
# To continue after a failure, run it again: a finished stage only reads its checkpoint and ends.
set -eu
out=${1:?the first argument is the folder of the run}
configs=${2:?the second argument is the folder of the configurations}
shift 2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
read -r -a options <<<"${SBATCH_OPTIONS:-}"
mkdir -p "$out/slurm"

before=()
for stage in stage0_align stage1_tlg stage2_vfe; do
    config=$configs/$stage.yaml
    if [ ! -f "$config" ]; then
        echo "chain.sh: no $config" >&2
        exit 2
    fi
    job=$(sbatch --parsable --job-name="${stage%%_*}" --output="$out/slurm/%x-%j.log" --kill-on-invalid-dep=yes \
        "${before[@]}" "${options[@]}" "$here/stage.sbatch" "$out" --config "$config" "$@")
    job=${job%%;*} # with several clusters, sbatch adds the cluster's name
    echo "${stage%%_*} $job"
    before=(--dependency="afterok:$job")
done
