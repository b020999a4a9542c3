#!/usr/bin/env bash
# Runs the whole benchmark and writes the report: every task with every built-in model.
#
#   ./run_all.sh                      the standard profile, ten seeds: long, and can be stopped and started again
#   ./run_all.sh --smoke              some minutes; shows that everything works, its figures mean nothing
#   ./run_all.sh --paper              the paper's sizes and a million sequences a run
#   ./run_all.sh --standard --dry-run what it would cost
#   ./run_all.sh --smoke --seeds 0-4  what `ntmbench sweep` takes can follow, but for --out
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

profile=standard
out=results
more=()
case "${1-}" in
    --smoke) profile=smoke; out=results/smoke; more=(--seeds 0); shift ;;
    --standard) shift ;;
    --paper) # whose lstm and gru are the large ones already
        profile=paper
        shift
        case " $*" in
            *" --models"*) ;;
            *) more=(--models lstm,gru,ntm,ntm-gru,ntm-ff) ;;
        esac
        ;;
    -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit ;;
esac

case " $*" in
    *" --out"*) echo "run_all.sh keeps its runs in $out; for another folder use: ntmbench sweep" >&2; exit 2 ;;
esac

source scripts/venv.sh
code=0
.venv/bin/ntmbench sweep --profile "$profile" --out "$out" ${more[@]+"${more[@]}"} "$@" || code=$?
case " $*" in
    *" --dry-run"* | *" --help"*) exit "$code" ;;
esac
if [ "$code" -le 1 ]; then # 1: some runs failed, and the report says which
    .venv/bin/ntmbench report "$out"
fi
exit "$code"
