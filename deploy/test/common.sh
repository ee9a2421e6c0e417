# shellcheck shell=bash
# What the parts of deploy/test share. Sourced, from the root of the repository.

# The image under test; `deploy/test/image` builds it.
IMAGE=localhost/etl:test
# The same with all extras; `deploy/test/extras` builds it.
EXTRAS_IMAGE=localhost/etl-extras:test
BASE=localhost/etl-base:test
# Images and containers of these tests stand in a store of their own, beside whatever the machine has.
STORE=(--root "${ETL_TEST_STORE:-/var/tmp/etl-containers}/images" --runroot "${ETL_TEST_STORE:-/var/tmp/etl-containers}/run"
  --storage-driver overlay)

# Without systemd, a daemon or a user session: as it is in a build machine's container.
podman() { command podman "${STORE[@]}" --runtime runc --cgroup-manager cgroupfs --events-backend none "$@"; }

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
  type -P "$command" >/dev/null && return # not a function of that name, such as podman above
  if ! command -v apt-get >/dev/null || [[ $(id -u) != 0 ]]; then
    skip "$command is missing and cannot be installed here (Debian's package is $package)"
    return 1
  fi
  say "installing Debian's $package"
  [[ -n ${APT_UPDATED-} ]] || { apt-get update -qq && export APT_UPDATED=1; }
  # Two parts may ask at once.
  DEBIAN_FRONTEND=noninteractive apt-get install -o DPkg::Lock::Timeout=300 -qq --no-install-recommends "$package" >/dev/null
}

# can_build_images: root on Linux, with the tools that the images of these tests need.
can_build_images() {
  if [[ $(uname) != Linux || $(id -u) != 0 ]]; then
    skip "build and run need root on Linux here (namespaces of their own)"
    return 1
  fi
  local command
  for command in buildah podman runc:runc unshare:util-linux ip:iproute2; do
    need "${command%:*}" "${command#*:}" || return 1
  done
  mkdir -p "${STORE[1]%/images}"
}

# make_base: the local base image is there; who comes while another makes it waits.
make_base() {
  local lock
  exec {lock}>"${STORE[1]%/images}/base.lock"
  flock "$lock"
  podman image exists "$BASE" && exec {lock}>&- && return
  local begun
  begun=$(now)
  deploy/test/base "$BASE"
  say "base image of Debian's packages: $(since "$begun") s"
  exec {lock}>&-
}

# need_extras: the image with all extras is there; who comes while `deploy/test/extras` makes it waits.
need_extras() {
  flock "${STORE[1]%/images}/extras.lock" true
  podman image exists "$EXTRAS_IMAGE" || deploy/test/extras
}

# need_kubectl: a kubectl whose kustomize can read `patches` and `replacements`; older ones cannot.
need_kubectl() {
  need kubectl kubernetes-client || return 1
  local kustomize
  kustomize=$(kubectl version --client 2>/dev/null | sed -n 's/^Kustomize Version: //p')
  if [[ $(printf '%s\n' v5.0.0 "${kustomize:-v0}" | sort -V | head -1) != v5.0.0 ]]; then
    skip "this kubectl has kustomize ${kustomize:-of an unknown version}, 5.0 is needed; Debian 13 has it"
    return 1
  fi
  say "kubectl with kustomize $kustomize"
}

# The commands of docs/deploy.md under the mark `runs: NAME`.
documented() { awk -v mark="<!-- runs: $1 -->" '$0 == mark {m = 1; next} m && /^```/ {if (f) exit; f = 1; next} f' docs/deploy.md; }

# Seconds since the epoch with a fraction, for what takes less than a second.
now() { date +%s.%N; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN {printf "%.1f", b - a}'; }

# The tools that only these tests need, from requirements/deploy.txt; made once.
TOOLS=.cache/deploy
tools() {
  [[ $TOOLS/.stamp -nt requirements/deploy.txt ]] && return
  say "installing requirements/deploy.txt into $TOOLS"
  .venv/bin/python -m venv --clear "$TOOLS" &&
    "$TOOLS/bin/python" -m pip install -qq --no-input --disable-pip-version-check --require-hashes \
      -r requirements/deploy.txt && touch "$TOOLS/.stamp"
}
