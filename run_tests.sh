#!/usr/bin/env bash
# Runs the tests.
#
#   ./run_tests.sh             all but the slow ones
#   ./run_tests.sh --all       all, with those that train for minutes
#   ./run_tests.sh -k sharpen  whatever pytest takes
#
# Without options of pytest's it first gets the browser that the report's tests drive, if it can.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

selection=(-m "not slow" -n auto --dist loadfile) # a process a core
case "${1-}" in
    --all) selection=(-n auto --dist loadfile); shift ;;
    -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit ;;
esac

[ $# -gt 0 ] || source scripts/browser.sh
source scripts/venv.sh
exec .venv/bin/python -m pytest ${selection[@]+"${selection[@]}"} "$@"
