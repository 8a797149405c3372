#!/bin/sh
#SBATCH --job-name=twofile
#SBATCH --array=0-7
#SBATCH --cpus-per-task=4
#SBATCH --requeue
# A file of JSON lines over the tasks of an array: sbatch examples/slurm.sh requests.jsonl answers
# Task i writes answers.i.jsonl: its shard comes from Slurm's variables, its threads from the cores Slurm gives it. A task
# that is stopped and queued again goes on.
set -eu
here=${TWOFILE:-${SLURM_SUBMIT_DIR:-.}}
exec python "$here/run.py" "$here/model.bin" --batch "$1" -o "$2.$SLURM_ARRAY_TASK_ID.jsonl" --resume -s 1 -q
