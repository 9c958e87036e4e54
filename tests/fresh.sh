#!/usr/bin/env bash
# README's two commands as a newcomer's machine runs them: a fresh clone of what is committed, an empty environment, a
# home of its own, no configuration of pip, packages from the index alone (torch with its CUDA libraries on Linux, some
# 3 GB). Then the wheel and the sdist, each in an environment of its own. Takes about an hour; `make fresh`.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d "${TMPDIR:-/tmp}/paced-fresh.XXXXXX")
trap 'rm -rf "$folder"' EXIT
python=$("${PYTHON:-python3.11}" -c 'import os, sys; print(os.path.realpath(sys.executable))')

# How the index is reached is the machine's (certificates, proxies); what is taken from it is not.
clean() {
    local kept=() name
    for name in SSL_CERT_FILE SSL_CERT_DIR PIP_CERT https_proxy HTTPS_PROXY no_proxy NO_PROXY; do
        [ -z "${!name:-}" ] || kept+=("$name=${!name}")
    done
    env -i HOME="$folder/home" PATH="$(dirname "$python"):/usr/local/bin:/usr/bin:/bin" LANG=C.UTF-8 \
        PIP_CONFIG_FILE=/dev/null "${kept[@]}" "$@"
}
step() {
    local began=$SECONDS
    echo "== $*"
    clean "$@"
    echo "== $((SECONDS - began)) s: $*"
}

mkdir "$folder/home"
git clone --quiet "$here" "$folder/paced"
cd "$folder/paced"
step make demo PYTHON="$python"
step .venv/bin/pip list --format=freeze
step du -sh .venv
step make test PYTHON="$python"

step .venv/bin/python -m build --outdir "$folder/dist"
for file in "$folder"/dist/*.whl "$folder"/dist/*.tar.gz; do
    mkdir "$folder/${file##*.}" && cd "$folder/${file##*.}"
    step "$python" -m venv env
    step env/bin/pip install --quiet "$file"
    step env/bin/pip list --format=freeze
    step env/bin/paced demo
done
