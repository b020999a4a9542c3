# Makes .venv with the pinned versions when it is missing or out of date; sourced from the project's root.

stamp=.venv/ready
wanted=$(cat constraints.txt pyproject.toml | cksum)

find_python() {
    local name
    for name in python3 python3.14 python3.13 python3.12 python3.11 python; do
        if command -v "$name" >/dev/null &&
            "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    echo "ntmbench needs Python 3.11 or newer, and found none on PATH" >&2
    return 1
}

if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$wanted" ]; then
    python=$(find_python)
    echo "setting up .venv (once)" >&2
    "$python" -m venv .venv
    # torch is named so that pip never asks for another version than the pinned one
    .venv/bin/python -m pip install --quiet --disable-pip-version-check \
        --constraint constraints.txt "torch$(sed -n 's/^torch\(==.*\)/\1/p' constraints.txt)"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check \
        --constraint constraints.txt --editable '.[dev]'
    echo "$wanted" >"$stamp"
fi
