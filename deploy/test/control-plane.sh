# shellcheck shell=bash
# A control plane on loopback, with keys that last as long as it does: etcd, kube-apiserver and kube-controller-manager.
# Sourced, after common.sh, by the parts that need a cluster. Its programs are in ETL_TEST_KUBE, else in .cache/kubernetes.

PATH=$(realpath -m "${ETL_TEST_KUBE:-.cache/kubernetes}"):$PATH

# can_control PART PROGRAM...: the programs of the control plane are there, and these.
can_control() {
  local part=$1 tool missing=()
  shift
  for tool in kube-apiserver kube-controller-manager "$@"; do
    type -P "$tool" >/dev/null || missing+=("$tool")
  done
  if ((${#missing[@]})); then
    skip "$part: no ${missing[*]}; docs/deploy.md says where to get them for ETL_TEST_KUBE"
    return 1
  fi
  need_kubectl || return 1
  for tool in "etcd etcd-server" openssl; do
    # shellcheck disable=SC2086 # a program and its package
    need $tool || { skip "$part: $tool is needed"; return 1; }
  done
  [[ -x .venv/bin/etl ]] || fail "no .venv: make setup first"
}

# in_folder FOLDER: whatever is started writes there, and is stopped when the script ends.
in_folder() {
  work=$1
  started=()
  umask 077
  read -r client peer api controllers < <(.venv/bin/python -c 'import socket
servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(4)]
print(*(s.getsockname()[1] for s in servers))')
  export KUBECONFIG=$work/admin.conf KUBECACHEDIR=$work/cache
  trap stop EXIT
}
stop() {
  local i
  for ((i = ${#started[@]} - 1; i >= 0; i--)); do # who is asked is stopped after those who ask
    kill "${started[i]}" 2>/dev/null || true
    wait "${started[i]}" 2>/dev/null || true
  done
  rm -rf "$work"
}
# start NAME OPTION...: the program in the background, its log in the folder.
start() {
  "$@" >"$work/$1.log" 2>&1 &
  started+=($!)
}
# until_true SECONDS WHAT PROGRAM COMMAND...: the command succeeds within the time, or the program's log says why not.
until_true() {
  local deadline=$((SECONDS + $1)) what=$2 log=$work/$3.log
  shift 3
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < deadline)) || { tail -20 "$log"; fail "$what: not in time"; }
    sleep 0.2
  done
}
# access NAME USER [GROUP]: a kubeconfig, and a line for the API server, which reads them when it starts.
access() {
  local token
  token=$(openssl rand -hex 16)
  printf '%s\n' "$token,$2,$1${3:+,$3}" >>"$work/tokens.csv"
  cat >"$work/$1.conf" <<END
apiVersion: v1
kind: Config
current-context: test
contexts: [{name: test, context: {cluster: test, user: $1}}]
clusters: [{name: test, cluster: {server: "https://127.0.0.1:$api", certificate-authority: $work/tls/apiserver.crt}}]
users: [{name: $1, user: {token: $token}}]
END
}
# start_control_plane OPTION...: with these options of the API server.
start_control_plane() {
  local begun
  begun=$(now)
  openssl genrsa -out "$work/accounts.key" 2048 2>/dev/null
  access admin admin system:masters
  access manager system:kube-controller-manager
  start etcd --data-dir "$work/etcd" --listen-client-urls "http://127.0.0.1:$client" \
    --advertise-client-urls "http://127.0.0.1:$client" --listen-peer-urls "http://127.0.0.1:$peer"
  start kube-apiserver --etcd-servers "http://127.0.0.1:$client" --bind-address 127.0.0.1 --secure-port "$api" \
    --advertise-address 127.0.0.1 --endpoint-reconciler-type none --cert-dir "$work/tls" --token-auth-file "$work/tokens.csv" \
    --service-account-issuer https://kubernetes.default.svc --service-account-signing-key-file "$work/accounts.key" \
    --service-account-key-file "$work/accounts.key" --service-cluster-ip-range 10.0.0.0/24 "$@"
  until_true 90 "the API server is ready" kube-apiserver kubectl get --raw /readyz
  start kube-controller-manager --kubeconfig "$work/manager.conf" --bind-address 127.0.0.1 --secure-port "$controllers" \
    --cert-dir "$work/tls" --leader-elect=false --use-service-account-credentials \
    --service-account-private-key-file "$work/accounts.key" --root-ca-file "$work/tls/apiserver.crt"
  until_true 60 "the controllers work" kube-controller-manager kubectl -n default get serviceaccount default
  say "$(kube-apiserver --version), $(etcd --version | head -1): up after $(since "$begun") s"
}

# run_documented NAME [PATTERN]: the commands of docs/deploy.md under this mark, but for the lines of the pattern. They run in
# $work/checkout: what they write does not belong into this one.
run_documented() {
  local commands
  commands=$(documented "$1" | grep -v -e "${2:-^\$}")
  [[ -n $commands ]] || fail "docs/deploy.md has no commands for $1"
  (cd "$work/checkout" && timeout 240 bash -euc "$commands" >"$work/said" 2>&1) || fail "docs/deploy.md, $1: $(<"$work/said")"
  ! grep Warning "$work/said" || fail "docs/deploy.md, $1"
}
