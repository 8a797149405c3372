#!/bin/sh
# One file of JSON lines over N processes of this machine: parallel.sh requests.jsonl answers.jsonl [N [options of run.py]]
# Interrupted, the same command goes on. Exit code 1 if a line failed. Needs GNU parallel.
set -eu
requests=$1 answers=$2 n=${3:-2} code=0
[ $# -gt 3 ] && shift 3 || shift $#
here=${TWOFILE:-$(cd "$(dirname "$0")/.." && pwd)}
parts=$(seq -f "$answers.%.0f" 0 $((n - 1)))

# one seed for all, or else each part would have its own and the texts would depend on N
seq 0 $((n - 1)) | parallel -j "$n" python "$here/run.py" "$here/model.bin" --batch "$requests" \
    -o "$answers.{}" --shard "{}/$n" --resume -t 1 -s 1 -q "$@" || code=1

# line 1 of each part, line 2 of each part, ...: the order of the requests
ls $parts > /dev/null
paste -d '\n' $parts | sed '/^$/d' > "$answers"
rm $parts
exit $code
