# Sourced by the other scripts: finds a Python, and keeps .venv in step with pyproject.toml.
# shellcheck shell=bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

die() { printf '%s\n' "$@" >&2; exit 1; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if command -v "$candidate" >/dev/null 2>&1 &&
            [ "$("$candidate" -c 'import sys; print(sys.version_info >= (3, 11))' 2>/dev/null)" = True ]; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    die "Meshdrill needs Python 3.11 or later, and none was found on PATH." \
        "Install one, or name it: PYTHON=/path/to/python $0"
}

# ensure_venv EXTRA: a .venv with the project (editable) and that extra, rebuilt only when its inputs changed.
ensure_venv() {
    local extra=$1 python stamp wanted
    stamp=.venv/.meshdrill-$extra
    wanted=$(cksum pyproject.toml constraints.txt)
    if [ -x .venv/bin/python ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
        return
    fi
    python=$(find_python)
    "$python" -c 'import venv, ensurepip' 2>/dev/null ||
        die "$("$python" --version) has no venv module. On Debian and Ubuntu: apt-get install python3-venv"
    printf 'Installing into .venv (%s)...\n' "$extra" >&2
    [ -x .venv/bin/python ] || "$python" -m venv .venv
    # A plain path instead of an import hook: a mesh starts some thirty Pythons, and each would load the hook first.
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat \
        --constraint constraints.txt --editable ".[$extra]" ||
        die "The install failed; what pip said stands above. Run $0 again once it is mended."
    printf '%s\n' "$wanted" >"$stamp"
}
