# shellcheck shell=bash
# What the parts of deploy/test share. Sourced, from the root of the repository.

# The image under test; `deploy/test/image` builds it.
IMAGE=localhost/etl:test

title() { printf '\n=== %s\n' "$*"; }
say() { printf '%s\n' "$*"; }
fail() {
  printf 'FAILED: %s\n' "$*"
  exit 1
}
# Said of what this machine cannot do; greppable in a transcript.
skip() { printf 'SKIPPED: %s\n' "$*"; }

# need COMMAND [PACKAGE]: the command is there, or Debian's package that brings it is installed.
need() {
  local command=$1 package=${2:-$1}
  command -v "$command" >/dev/null && return
  if ! command -v apt-get >/dev/null || [[ $(id -u) != 0 ]]; then
    skip "$command is missing and cannot be installed here (Debian's package is $package)"
    return 1
  fi
  say "installing Debian's $package"
  [[ -n ${APT_UPDATED-} ]] || { apt-get update -qq && export APT_UPDATED=1; }
  DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends "$package" >/dev/null
}
