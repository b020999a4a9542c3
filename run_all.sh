#!/usr/bin/env bash
# Runs the whole benchmark and writes the report: every task with lstm, gru and ntm.
#
#   ./run_all.sh                     the standard profile: long, and can be stopped and started again
#   ./run_all.sh --smoke             minutes; shows that everything works, its figures mean nothing
#   ./run_all.sh --paper             the paper's sizes and a million sequences a run
#   ./run_all.sh --smoke --seeds 0-2 what `ntmbench run` takes can follow, but for --out
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

profile=standard
out=results
case "${1-}" in
    --smoke) profile=smoke; out=results/smoke; shift ;;
    --standard) shift ;;
    --paper) profile=paper; shift ;;
    -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit ;;
esac

case " $*" in
    *" --out"*) echo "run_all.sh keeps its runs in $out; for another folder use: ntmbench run all" >&2; exit 2 ;;
esac

source scripts/venv.sh
.venv/bin/ntmbench run all --model lstm --model gru --model ntm \
    --profile "$profile" --out "$out" "$@"
.venv/bin/ntmbench report "$out"
