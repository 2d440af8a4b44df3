#!/usr/bin/env bash
# Makes .venv and installs what one kind of target needs: `scripts/setup.sh demo` or `scripts/setup.sh dev`.
# By uv when there is one, else by python3 and pip. PYTHON=... picks the interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."

kind=${1:?usage: scripts/setup.sh demo|dev}
case "$kind" in
    demo) extras=sqlite ;;
    dev) extras=all ;;
    *) echo "scripts/setup.sh: unknown kind '$kind': say demo or dev" >&2; exit 2 ;;
esac
venv=.venv
wanted='Python 3.11, 3.12 or 3.13'

say() { printf '\033[2m%s\033[0m\n' "$*" >&2; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }
suits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; }

find_python() {
    local candidate
    if [ -n "${PYTHON:-}" ]; then
        suits "$PYTHON" || fail "PYTHON=$PYTHON is not $wanted"
        echo "$PYTHON"
        return
    fi
    for candidate in python3 python3.13 python3.12 python3.11; do
        if suits "$candidate"; then echo "$candidate"; return; fi
    done
    fail "no $wanted found. On Debian: apt-get install python3 python3-venv; or name one: make PYTHON=/path/to/python"
}

# Debian splits ensurepip off into python3-venv, so `python3 -m venv` may fail on a fresh machine.
venv_by_python() {
    local python package
    python=$(find_python)
    rm -rf "$venv"
    if "$python" -c 'from ensurepip import version' 2>/dev/null; then
        "$python" -m venv "$venv"
        return
    fi
    package="python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        say "installing $package: $python cannot make virtual environments without it"
        export DEBIAN_FRONTEND=noninteractive
        if { apt-get install -qq -y "$package" || { apt-get update -qq && apt-get install -qq -y "$package"; }; } >/dev/null &&
            "$python" -m venv "$venv"; then
            return
        fi
        rm -rf "$venv"
    fi
    if "$python" -m pip --version >/dev/null 2>&1; then
        say "making $venv with the pip of $python"
        "$python" -m venv --without-pip "$venv"
        "$python" -m pip --python "$venv/bin/python" install -q pip && return
        rm -rf "$venv"
    fi
    fail "$python cannot make a virtual environment. On Debian: sudo apt-get install $package; or install uv"
}

started=$SECONDS
if [ -x "$venv/bin/python" ] && ! suits "$venv/bin/python"; then
    say "$venv is not $wanted: making it again"
    rm -rf "$venv"
fi

if command -v uv >/dev/null; then
    [ -x "$venv/bin/python" ] || uv venv --quiet --python "${PYTHON:->=3.11,<3.14}" "$venv"
    say "installing what is needed for $kind into $venv, by uv"
    uv pip install --quiet --python "$venv/bin/python" --group "$kind" --editable ".[$extras]"
else
    [ -x "$venv/bin/python" ] && "$venv/bin/python" -m pip --version >/dev/null 2>&1 || venv_by_python
    say "installing what is needed for $kind into $venv, by pip; the first time takes a minute"
    pip=("$venv/bin/python" -m pip --disable-pip-version-check -qq)
    # Dependency groups came with pip 25.1.
    "${pip[@]}" install --upgrade 'pip>=25.1'
    "${pip[@]}" install --group "$kind" --editable ".[$extras]"
fi

[ "$kind" = demo ] || touch "$venv/.ready-demo"
touch "$venv/.ready-$kind"
say "ready after $((SECONDS - started)) s"
