#!/bin/bash
# A job of batchrun on slurm: sbatch slurm.sh
#
# Change: the nodes, the processors, the paths (on a disk that all nodes share, with file locks), and -c.
# Submitted again after its time is up, it goes on where it was.
#SBATCH --job-name=batchrun
#SBATCH --nodes=5
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --signal=B:INT@120
set -euo pipefail

export RAY_USAGE_STATS_ENABLED=0
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$(srun --nodes=1 --ntasks=1 -w "$head" hostname --ip-address | cut -d ' ' -f 1):6379

srun --nodes=1 --ntasks=1 -w "$head" ray start --head --port=6379 --num-cpus=0 --include-dashboard=false --block &
sleep 20
srun --nodes=$((SLURM_JOB_NUM_NODES - 1)) --ntasks=$((SLURM_JOB_NUM_NODES - 1)) -x "$head" \
    ray start --address "$address" --num-cpus="$SLURM_CPUS_PER_TASK" --block &
sleep 20

# The key is in a file of yours alone (chmod 600): it is in no argument, and in no environment of a node.
batchrun run requests.jsonl -o results/ --ray "$address" -c 400 --api-key-file "$HOME/.gateway-key" &
driver=$!
trap 'kill -INT "$driver"' INT TERM
wait "$driver" || wait "$driver"
