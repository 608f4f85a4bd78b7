#!/bin/bash
# A real SLURM cluster on this machine for the tests: a controller and two nodes on the loopback interface, under a folder
# of its own. usage: cluster.sh up FOLDER | down FOLDER; needs root, slurm-wlm and munge.
set -euo pipefail
command=${1:?up or down}
folder=${2:?a folder for the cluster}
nodes=2
port=${VLAD_SLURM_PORT:-17817}
export SLURM_CONF=$folder/slurm.conf

down() {
    for file in "$folder"/run/slurmd.*.pid "$folder/run/slurmctld.pid" "$folder/munge/pid"; do
        if [ -s "$file" ]; then kill "$(cat "$file")" 2>/dev/null || true; fi
    done
    for file in "$folder"/run/slurmd.*.pid "$folder/run/slurmctld.pid" "$folder/munge/pid"; do
        for _ in $(seq 100); do
            if ! { [ -s "$file" ] && kill -0 "$(cat "$file")" 2>/dev/null; }; then break; fi
            sleep 0.1
        done
        if [ -s "$file" ]; then kill -9 "$(cat "$file")" 2>/dev/null || true; fi
    done
}

# munged insists on folders that nobody else may write to, and on its own user
start_munge() {
    mkdir -p "$folder"/munge
    head -c 128 /dev/urandom >"$folder/munge/key"
    chmod 0400 "$folder/munge/key"
    chmod 0711 "$folder/munge"
    chown -R munge: "$folder/munge"
    step runuser -u munge -- munged --force --key-file="$folder/munge/key" --socket="$folder/munge/socket" \
        --pid-file="$folder/munge/pid" --log-file="$folder/munge/log" --seed-file="$folder/munge/seed"
}

write_configuration() {
    local host memory
    host=$(hostname -s)
    memory=$(($(awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo) / nodes - 256))
    cat >"$SLURM_CONF" <<CONF
ClusterName=vlad-tests
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket,cred_expire=5
CredType=cred/munge
MpiDefault=none
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2
SlurmctldPidFile=$folder/run/slurmctld.pid
SlurmdPidFile=$folder/run/slurmd.%n.pid
SlurmdSpoolDir=$folder/state/%n
StateSaveLocation=$folder/state/controller
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.%n.log
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
KillWait=60
InactiveLimit=0
OverTimeLimit=0
MessageTimeout=60
SlurmctldTimeout=300
SlurmdTimeout=300
CONF
    for i in $(seq "$nodes"); do
        mkdir -p "$folder/state/node$i"
        echo "NodeName=node$i NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + i)) CPUs=1 RealMemory=$memory" >>"$SLURM_CONF"
    done
    echo "PartitionName=main Nodes=node[1-$nodes] Default=YES MaxTime=INFINITE State=UP" >>"$SLURM_CONF"
}

up() {
    mkdir -p "$folder"/{run,log,state/controller}
    chmod 0755 "$folder"
    start_munge
    write_configuration
    step slurmctld
    for i in $(seq "$nodes"); do step slurmd -N "node$i"; done
    for _ in $(seq 120); do
        if [ "$(sinfo --noheader --Node --states=idle --format=%N | wc -l)" = "$nodes" ]; then return 0; fi
        sleep 0.5
    done
    sinfo --Node --long >&2 || true
    fail "the nodes did not come up within a minute"
}

# What a daemon says before it goes to the background, and its log, are all there is to see of why it did not start.
fail() {
    for log in "$folder"/log/* "$folder/munge/log"; do
        if [ -s "$log" ]; then echo "== $log" && tail -n 20 "$log"; fi
    done >&2
    down
    echo "cluster.sh: $1" >&2
    exit 1
}

step() {
    "$@" || fail "$* ended with exit status $?"
}

case $command in
up) up ;;
down) down ;;
*)
    echo "cluster.sh: up or down, not $command" >&2
    exit 2
    ;;
esac
