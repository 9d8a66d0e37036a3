# Sourced by the other commands: makes .venv beside setup.py, once, with microgpt installed in it, and enters it.
# A stamp holds the checksum of what the installation was made from, so a second run starts at once and an edited
# kernel is built again.

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
    command -v "${CC:-cc}" >/dev/null || command -v gcc >/dev/null ||
        die "no C compiler found; on Debian and Ubuntu: apt install build-essential, on macOS: xcode-select --install"
}

fingerprint() {
    cat setup.py pyproject.toml bin/setup.sh csrc/*.[ch] csrc/*.py | cksum
    echo "$1"
    .venv/bin/python --version 2>&1
}

# install EXTRA: microgpt with one group of extras, "" or "dev".
install() {
    local stamp=".venv/installed-${1:-run}" log=.venv/install.log python
    if [ -x .venv/bin/python ] && [ -f "$stamp" ] && [ "$(fingerprint "$1")" = "$(cat "$stamp")" ]; then return; fi
    if [ ! -x .venv/bin/python ]; then
        python=$(find_python) || exit 1
        check_machine "$python"
        echo "making .venv with $("$python" --version) ..."
        "$python" -m venv .venv || die "could not make .venv with $python"
    fi
    echo "installing microgpt and building its C kernels (about a minute; log: $log) ..."
    if ! .venv/bin/python -m pip install --disable-pip-version-check -e ".${1:+[$1]}" >"$log" 2>&1; then
        tail -n 5 "$log" >&2
        die "installation failed; the whole log is in $log"
    fi
    fingerprint "$1" >"$stamp"
}
