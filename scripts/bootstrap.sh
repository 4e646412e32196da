# Sourced by scripts/lab and scripts/test: sets $lab_python to an interpreter in which the lab is installed.
# The stamp is written last, so an interrupted installation is simply done again, and it is the hash of what was
# installed from, so a changed pyproject.toml or constraints.txt installs again.

lab_fail() { printf 'error: %s\n' "$*" >&2; exit 2; }

lab_stamp() {
  cat "$root/pyproject.toml" "$root/constraints.txt" <(printf '%s' "$root") | cksum
}

lab_install() {
  local python=${PYTHON:-python3}
  command -v "$python" >/dev/null || lab_fail "no $python; install Python 3.11 or newer, or set PYTHON to one"
  "$python" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    lab_fail "$("$python" --version) is too old; the lab needs Python 3.11 or newer: set PYTHON to one"
  [[ $root != *:* ]] || lab_fail "$root: no Python environment can be made where the path has a colon;" \
    "move the lab, or set LAB_PYTHON to an interpreter of an environment with its libraries"
  # A half-written package can look installed: after an interruption start from an empty environment.
  if [ -e "$venv/.lab-installing" ] || ! "$venv/bin/python" -I -m pip --version >/dev/null 2>&1; then
    echo "lab: making $venv with $("$python" --version) ..." >&2
    "$python" -I -m venv --clear "$venv" || lab_fail "python -m venv failed (on Debian: apt install python3-venv)"
  fi
  touch "$venv/.lab-installing"
  echo "lab: installing from pyproject.toml and constraints.txt (1 to 10 minutes the first time) ..." >&2
  local quiet=()
  [ -t 2 ] || quiet=(-qq) # on a terminal pip shows its progress
  "$venv/bin/python" -I -m pip install --disable-pip-version-check ${quiet[@]+"${quiet[@]}"} \
    --constraint "$root/constraints.txt" --editable "$root[dev]" >&2 ||
    lab_fail "pip could not install the lab; its message is above (run the same command again to retry)"
  rm "$venv/.lab-installing"
  echo "lab: ready" >&2
}

# In PYTHONPATH the current folder would come before the standard library: `PYTHONPATH=$PYTHONPATH:/my/code` names it
# by an empty entry.  The lab looks there last, for functions of the user's.
lab_elsewhere() {
  local entry kept=
  while IFS= read -rd: entry; do
    [ -z "$entry" ] || [ "$entry" -ef . ] || kept+=${kept:+:}$entry
  done <<<"$1:"
  printf '%s' "$kept"
}

unset PYTHONOPTIMIZE PYTHONINSPECT # transformers reads docstrings, and nobody sits at the keyboard
[ -z "${PYTHONPATH+set}" ] || PYTHONPATH=$(lab_elsewhere "$PYTHONPATH")
if [ -n "${LAB_PYTHON:-}" ]; then
  lab_python=$LAB_PYTHON
  "$lab_python" -P -c 'import importlib.util as u, sys
sys.exit(sys.version_info < (3, 11) or any(u.find_spec(n) is None for n in ("torch", "transformers", "typer", "yaml")))' \
    2>/dev/null || lab_fail "LAB_PYTHON=$lab_python is no Python 3.11 with the lab's libraries; pip install -e . there"
  export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
else
  venv=$root/.venv
  stamp=$venv/.lab-installed
  lab_python=$venv/bin/python
  if [ ! -x "$lab_python" ] || [ "$(cat "$stamp" 2>/dev/null)" != "$(lab_stamp)" ]; then
    exec 9>"$root/.venv.lock"
    flock 9 2>/dev/null || true # two first uses at once: the second waits, then finds it done
    if [ ! -x "$lab_python" ] || [ "$(cat "$stamp" 2>/dev/null)" != "$(lab_stamp)" ]; then
      rm -f "$stamp"
      lab_install
      lab_stamp >"$stamp.tmp" && mv "$stamp.tmp" "$stamp"
    fi
    exec 9>&-
  fi
fi
