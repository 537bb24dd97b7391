#!/usr/bin/env bash
# A container engine for CI, and a base image for ours.
#
#   eval "$(deploy/ci/start-engine.sh)"   an engine that answers; sets BASE_IMAGE, and what clients need
#   deploy/ci/start-engine.sh status      what there is; exit code 0 when containers can be run, 1 when not
#   deploy/ci/start-engine.sh down        stops the engine that this script started, and no other
#
# An engine that answers is used as it is. Otherwise, on Debian or Ubuntu as root, docker.io is installed and dockerd started
# without a single firewall rule: containers reach each other and the host, not the internet. Where the public base image cannot
# be pulled, one is made here from this machine's Node 24, npm, busybox and the libraries that they load.
# Safe to run twice, also at once. Assignments go to stdout, words to stderr.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
public_base=${PUBLIC_BASE_IMAGE:-node:24-slim}
local_base=manyhands-base:local
state=${MANYHANDS_ENGINE_DIR:-/var/tmp/manyhands-engine}
log=$state/dockerd.log
pid_file=$state/dockerd.pid

say() { printf '%s\n' "engine: $*" >&2; }
fail() { say "$*"; exit 1; }
answers() { timeout 10 docker info >/dev/null 2>&1; }

# The dockerd that this script started, if it is alive.
our_engine() {
  local pid
  pid=$(cat "$pid_file" 2>/dev/null) || return 1
  [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = dockerd ] && echo "$pid"
}

install_engine() {
  command -v dockerd >/dev/null && command -v docker >/dev/null && return
  command -v apt-get >/dev/null || fail "no engine answers and this is not Debian or Ubuntu: start Docker, or set DOCKER_HOST"
  [ "$(id -u)" = 0 ] || fail "no engine answers and this user may not install one: start Docker, run this as root, or set DOCKER_HOST"
  say "installing docker.io"
  apt-get update -q >&2
  DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends docker.io >&2
}

# After a kill -9 these name processes that are no more, or by now others.
remove_stale_pid_files() {
  local file pid
  for file in /var/run/docker.pid /var/run/docker/containerd/containerd.pid; do
    pid=$(cat "$file" 2>/dev/null) || continue
    case $(cat "/proc/$pid/comm" 2>/dev/null || true) in
      dockerd | containerd) ;;
      *) rm -f "$file" ;;
    esac
  done
}

start_engine() {
  remove_stale_pid_files
  say "starting dockerd (log: $log)"
  # 9>&-: the engine must not hold the lock for as long as it lives.
  setsid nohup dockerd --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false \
    --bip 172.30.0.1/24 --default-address-pool base=172.30.0.0/16,size=24 >"$log" 2>&1 9>&- </dev/null &
  echo $! >"$pid_file"
  for _ in $(seq 120); do
    answers && return
    our_engine >/dev/null || fail "dockerd ended: $(tail -n 1 "$log")"
    sleep 0.5
  done
  fail "dockerd does not answer after a minute: $(tail -n 1 "$log")"
}

# A tar of what Node needs, piped into `docker import`.
make_local_base() {
  local node npm tree
  node=${MANYHANDS_BASE_NODE:-$root/node_modules/node/bin/node}
  [ -x "$node" ] || node=$(command -v node) || fail "no Node to make a base image from: run npm ci first"
  npm=$(dirname "$(dirname "$(readlink -f "$(command -v npm)")")")
  if ! command -v busybox >/dev/null || ldd "$(command -v busybox)" >/dev/null 2>&1; then
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || fail "a base image needs busybox-static: install it"
    apt-get update -q >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends busybox-static >&2
  fi
  say "making $local_base from $("$node" --version), npm and busybox"
  tree=$(mktemp -d "$state/base.XXXXXX")
  mkdir -p "$tree"/{bin,usr/bin,usr/local/bin,usr/local/lib/node_modules,etc/ssl/certs,root,tmp,home/node}
  chmod 1777 "$tree/tmp"
  cp "$(command -v busybox)" "$tree/bin/busybox"
  "$tree/bin/busybox" --list | grep -vx busybox | while read -r applet; do ln -s /bin/busybox "$tree/bin/$applet"; done
  ln -s /bin/busybox "$tree/usr/bin/env"
  cp -L "$node" "$tree/usr/local/bin/node"
  cp -R "$npm" "$tree/usr/local/lib/node_modules/npm"
  ln -s ../lib/node_modules/npm/bin/npm-cli.js "$tree/usr/local/bin/npm"
  ln -s ../lib/node_modules/npm/bin/npx-cli.js "$tree/usr/local/bin/npx"
  # Libraries lie where the loader looks for them; librt and libpthread also for addons built on older systems.
  { ldd "$node" | grep -o '/[^ ]*'; ls /lib/*-linux-gnu/lib{rt,pthread,resolv}.so.* /lib/*-linux-gnu/libnss_{dns,files}.so.2; } 2>/dev/null |
    sort -u | while read -r library; do
      mkdir -p "$tree$(dirname "$library")"
      cp -L "$library" "$tree$library"
    done
  cp -L /etc/ssl/certs/ca-certificates.crt "$tree/etc/ssl/certs/"
  printf 'root:x:0:0:root:/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh\n' >"$tree/etc/passwd"
  printf 'root:x:0:\nnode:x:1000:\n' >"$tree/etc/group"
  printf 'hosts: files dns\n' >"$tree/etc/nsswitch.conf"
  tar -C "$tree" --owner=0 --group=0 -c . |
    docker import --change 'ENV PATH=/usr/local/bin:/usr/bin:/bin' --change 'ENV NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt' \
      --change 'CMD ["node"]' - "$local_base" >/dev/null
  rm -rf "$tree"
}

has_image() { docker image inspect "$1" >/dev/null 2>&1; }

# The image that ours are built on.
base_image() {
  if [ -n "${BASE_IMAGE:-}" ]; then echo "$BASE_IMAGE"
  elif has_image "$public_base"; then echo "$public_base"
  elif has_image "$local_base"; then echo "$local_base"
  else return 1
  fi
}

up() {
  answers || { install_engine; answers || start_engine; }
  if ! base_image >/dev/null; then
    timeout 120 docker pull -q "$public_base" >/dev/null 2>&1 || make_local_base
  fi
  say "$(docker info --format '{{.ServerVersion}} ({{.Driver}}, cgroup v{{.CgroupVersion}}, {{.NCPU}} CPUs)'), base image $(base_image)"
  printf 'export BASE_IMAGE=%q\n' "$(base_image)"
  if [ "$(base_image)" = "$local_base" ]; then
    # testcontainers' own helper cannot be pulled either, and the host is not where it would look.
    printf 'export TESTCONTAINERS_RYUK_DISABLED=true TESTCONTAINERS_HOST_OVERRIDE=127.0.0.1\n'
  fi
  [ -z "${DOCKER_HOST:-}" ] || printf 'export DOCKER_HOST=%q\n' "$DOCKER_HOST"
}

status() {
  if ! answers; then
    say "none answers"
    return 1
  fi
  local whose=found
  our_engine >/dev/null && whose="started by this script, pid $(our_engine)"
  say "$(docker info --format '{{.ServerVersion}}') ($whose); base image $(base_image || echo 'missing')"
}

down() {
  local pid
  if ! pid=$(our_engine); then
    say "none that this script started"
    return
  fi
  kill "$pid"
  for _ in $(seq 60); do
    our_engine >/dev/null || break
    sleep 0.5
  done
  our_engine >/dev/null && fail "dockerd ($pid) does not stop"
  rm -f "$pid_file"
  say "stopped"
}

mkdir -p "$state"
exec 9>"$state/lock"
flock 9
case ${1:-up} in
  up) up ;;
  status) status ;;
  down) down ;;
  *) fail "unknown command $1: must be up, status or down" ;;
esac
