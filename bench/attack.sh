#!/usr/bin/env bash
# Attacks a daemon that relays: smuggling, connections that are left, clients
# that send a byte a second. See bench/attack.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
chmod 755 "$dir"
go build -o "$dir/" ./cmd/smtpd ./bench/attack
user=()
[ "$(id -u)" != 0 ] || user=(--user nobody)
"$dir/attack" --trickle "${user[@]}" "$dir/smtpd"
