#!/usr/bin/env bash
# Runs the tests.
#
#   ./run_tests.sh             all but the slow ones
#   ./run_tests.sh --all       all, with those that train for minutes
#   ./run_tests.sh -k sharpen  whatever pytest takes
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

selection=(-m "not slow" -n auto --dist loadfile) # a process a core
case "${1-}" in
    --all) selection=(-n auto --dist loadfile); shift ;;
    -h | --help) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit ;;
esac

source scripts/venv.sh
exec .venv/bin/python -m pytest ${selection[@]+"${selection[@]}"} "$@"
