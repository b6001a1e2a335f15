# shellcheck shell=bash
# Shared by quickstart and scripts/*: what a fresh machine lacks, installed once. Sourced, not run.

say() { printf '\033[1m·\033[0m %s\n' "$*"; }
die() {
  printf '%s\n' "$*" >&2
  exit 1
}

# As root, or again through sudo with the caller's variables.
become_root() {
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die "Run this as root: it installs packages, creates home folders and uses the container engine."
    exec sudo --preserve-env "$@"
  fi
}

# install_packages COMMAND=PACKAGE…: installs the packages whose command (or, with a slash, whose file) is not there.
install_packages() {
  local missing=() pair need
  for pair in "$@"; do
    need=${pair%%=*}
    case $need in
      */*) [ -e "$need" ] || missing+=("${pair#*=}") ;;
      *) command -v "$need" >/dev/null || missing+=("${pair#*=}") ;;
    esac
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null || die "Please install: ${missing[*]} (this is automatic on Debian and Ubuntu only)."
  [ "$(id -u)" -eq 0 ] || die "These packages are missing; please install them as root: apt-get install ${missing[*]}"
  say "Installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  local log
  log=$(mktemp)
  # A policy that starts no services: the platform starts what it needs itself, and an nginx of the distribution
  # would take port 80.
  local policy=/usr/sbin/policy-rc.d wanted_policy=
  # Where systemd runs, services are wanted (Docker), but no mailboxes on port 143: the tests start their own.
  local quiet=
  case " ${missing[*]} " in *" dovecot-imapd "*) quiet=dovecot ;; esac
  if [ ! -e $policy ] && [ ! -d /run/systemd/system ]; then
    wanted_policy='exit 101'
  elif [ ! -e $policy ] && [ -n "$quiet" ]; then
    wanted_policy="case \"\$1\" in $quiet*) exit 101 ;; esac"
  fi
  if ! (
    # Gone again however this ends: left behind, it would keep every other service of the machine from starting.
    if [ -n "$wanted_policy" ]; then
      trap 'rm -f $policy' EXIT
      printf '#!/bin/sh\n%s\n' "$wanted_policy" >$policy && chmod +x $policy
    fi
    apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"
  ) >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    die "The packages could not be installed; see above."
  fi
  if [ -n "$quiet" ] && [ -d /run/systemd/system ]; then # nor after the machine's next start
    systemctl disable --quiet "$quiet.service" "$quiet.socket"
  fi
  rm -f "$log"
}

# Refuses distributions that are too old; of others than Debian and Ubuntu nothing is known.
check_system() {
  local ID='' VERSION_ID=''
  # shellcheck source=/dev/null
  [ ! -r /etc/os-release ] || . /etc/os-release
  case "$ID:${VERSION_ID%%.*}" in
    debian:[0-9] | debian:1[01]) die "Debian 12 or newer is needed; this is $VERSION_ID." ;;
    ubuntu:1[0-9] | ubuntu:2[01]) die "Ubuntu 22.04 or newer is needed; this is $VERSION_ID." ;;
  esac
}

# python_that CODE: the first Python from 3.11 on for which the code does not fail.
python_that() {
  local candidate
  for candidate in python3.13 python3.12 python3.11 python3; do
    if command -v "$candidate" >/dev/null &&
      "$candidate" -c "import sys; sys.version_info >= (3, 11) or sys.exit(1); $1" 2>/dev/null; then
      # Of an environment that is active, what it was made from: it may be the one that is to be made anew.
      "$candidate" -c 'import shutil, sys; venv = sys.prefix != sys.base_prefix
print(sys._base_executable if venv else shutil.which(sys.argv[1]))' "$candidate"
      return
    fi
  done
  return 1
}

any_python() { python_that pass; }

# One that can make virtual environments.
find_python() { python_that 'import ensurepip, venv'; }

need_python() {
  PYTHON=$(find_python) && return
  install_packages /nonexistent/python3-venv=python3-venv
  PYTHON=$(find_python) && return
  install_packages /nonexistent/python3.11-venv=python3.11-venv # Ubuntu 22.04, whose python3 is 3.10
  PYTHON=$(find_python) || die "Python 3.11 or newer with the venv module is needed."
}

# make_venv FOLDER LOCK: a virtual environment with exactly what the lock file names; done again when that changes.
make_venv() {
  local venv=$1 lock=$2 stamp
  stamp="$(sha256sum "$lock" pyproject.toml | cut -d' ' -f1 | tr '\n' ' ')$PYTHON $PWD"
  if [ "$(cat "$venv/.made-from" 2>/dev/null)" = "$stamp" ]; then
    return
  fi
  say "Installing Python packages into $venv (about a minute)"
  rm -rf "$venv"
  "$PYTHON" -m venv "$venv"
  local pip=("$venv/bin/python" -m pip --disable-pip-version-check --quiet) log
  log=$(mktemp)
  if ! { "${pip[@]}" install --require-hashes -r "$lock" &&
    "${pip[@]}" install --no-deps --no-build-isolation --editable .; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    die "The Python packages could not be installed; see above."
  fi
  rm -f "$log"
  printf '%s' "$stamp" >"$venv/.made-from"
}

# An engine that was killed leaves its process ids behind; should another program have got such an id since, the engine
# would not start again. Where no dockerd runs, they are stale.
forget_dead_engine() {
  if ! grep -qsx dockerd /proc/[0-9]*/comm; then
    rm -f /var/run/docker.pid /var/run/docker/containerd/containerd.pid
  fi
}
