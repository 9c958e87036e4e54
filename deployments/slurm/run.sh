#!/bin/sh
#SBATCH --job-name=paced
#SBATCH --gpus=8
#SBATCH --time=3-00:00:00
#SBATCH --requeue
#SBATCH --output=%x-%j.out
# A run whose samples and targets are drawn by 16 jobs of one GPU each beside its own 8 GPUs, which also train:
#     sbatch deployments/slurm/run.sh RECIPE.yaml [--set a.b=value ...]
# All nodes mount /shared; PACED is installed there, and PATH leads to it.
export PACED_STORE="${PACED_STORE:-/shared/paced/store}" PACED_HOME="${PACED_HOME:-/shared/paced/home}"
exec paced run "$@" --set "runtime.fleet={kind: slurm, copies: 16, here: true, \
command: [sbatch, --gpus=1, --time=12:00:00, --output=paced-copy-%A_%a.out]}"
