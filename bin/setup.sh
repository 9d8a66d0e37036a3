# Sourced by the other commands: makes .venv beside setup.py, once, with microgpt installed in it.  Stamps hold
# the checksum of what the installation was made from, so a second run starts at once and an edited kernel is
# built again.  PYTHON names the Python, CC the C compiler, VENV another place than .venv, for others of both.

VENV=${VENV:-.venv} KERNELS=build/kernels.stamp
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

die() { echo "microgpt: $*" >&2; exit 1; }

find_python() {
    local name
    for name in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.10}; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then echo "$name"; return; fi
    done
    die "Python 3.10 or newer is needed; install it, or name it: PYTHON=/path/python3 $0"
}

check_machine() {
    "$1" -c 'import venv, ensurepip' 2>/dev/null ||
        die "Python's venv module is missing; on Debian and Ubuntu: apt install python3-venv"
    "$1" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' ||
        die "Python's C headers are missing; on Debian and Ubuntu: apt install python3-dev"
}

check_compiler() {
    local name=${CC:-cc}
    command -v "${name%% *}" >/dev/null && return
    [ -z "${CC:-}" ] || die "CC=$CC: there is no such compiler; install it or leave CC out"
    command -v gcc >/dev/null ||
        die "no C compiler found; on Debian and Ubuntu: apt install build-essential, on macOS: xcode-select --install"
}

# The kernels lie in the tree, where every venv uses them: this is what they were compiled from, and by.
kernels() {
    cat setup.py pyproject.toml bin/setup.sh csrc/*/*.[ch] csrc/*.py | cksum
    echo "${CC:-} ${CFLAGS:-}"
    "$VENV/bin/python" --version 2>&1
}

fingerprint() {
    kernels
    echo "$1"
}

is_installed() {
    [ -x "$VENV/bin/python" ] && [ -f "$VENV/installed-${1:-run}" ] && [ -f "$KERNELS" ] &&
        [ "$(fingerprint "$1")" = "$(cat "$VENV/installed-${1:-run}")" ] && [ "$(kernels)" = "$(cat "$KERNELS")" ]
}

# install EXTRA: microgpt with one group of extras, "" or "dev".
install() {
    local log=$VENV/install.log python
    if is_installed "$1"; then return; fi
    check_compiler
    if [ ! -x "$VENV/bin/python" ]; then
        python=$(find_python) || exit 1
        check_machine "$python"
        echo "making $VENV with $("$python" --version) ..."
        "$python" -m venv "$VENV" || die "could not make $VENV with $python"
    fi
    echo "installing microgpt and building its C kernels (about a minute; log: $log) ..."
    rm -f "$KERNELS" microgpt/*/_*.so  # what another compiler or Python has left could be loaded instead
    # --no-compile: most of scipy is never imported, and Python compiles what is
    if ! "$VENV/bin/python" -m pip install --disable-pip-version-check --no-compile -e ".${1:+[$1]}" >"$log" 2>&1; then
        tail -n 5 "$log" >&2
        die "installation failed; the whole log is in $log"
    fi
    mkdir -p "$(dirname "$KERNELS")"
    kernels >"$KERNELS"
    fingerprint "$1" >"$VENV/installed-${1:-run}"
}

# Into a venv that `install` has made: the outside implementations to test against, as setup.py pins them.
# PyTorch without CUDA, which is ten times as large: from where pip looks, else from its makers.
install_oracles() {
    local log=$VENV/oracles.log stamp=$VENV/installed-oracles pip torch wanted
    pip=("$VENV/bin/python" -m pip install --disable-pip-version-check)
    wanted=$("$VENV/bin/python" -c 'from importlib.metadata import requires as r
print(*(line.split(";")[0] for line in r("microgpt-cpu") if "oracles" in line))') || die "microgpt is not installed"
    if [ "$wanted" = "$(cat "$stamp" 2>/dev/null)" ]; then return; fi
    torch=${wanted%% *}
    echo "installing ${wanted// /, } (log: $log) ..."
    # shellcheck disable=SC2086  # wanted is several words
    if ! { "${pip[@]}" "$torch+cpu" || "${pip[@]}" --index-url https://download.pytorch.org/whl/cpu "$torch"; } \
        >"$log" 2>&1 || ! "${pip[@]}" $wanted >>"$log" 2>&1; then
        die "outside implementations cannot be installed; the log is in $log"
    fi
    echo "$wanted" >"$stamp"
}
