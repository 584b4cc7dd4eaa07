#!/usr/bin/env bash
# Attacks a daemon that relays: smuggling, 10 000 connections in every state,
# TLS that is none, clients that send a byte a second. See bench/attack.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
chmod 755 "$dir"
go build -o "$dir/" ./cmd/smtpd ./bench/attack
user=()
if [ "$(id -u)" = 0 ]; then # the only one whose keys are used
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=attack.test \
		-keyout "$dir/pki.key" -out "$dir/pki.crt" 2>/dev/null
	user=(--user nobody --pki "$dir/pki")
fi
conns=10000
ulimit -n "$(ulimit -Hn)"
[ "$(ulimit -n)" = unlimited ] || [ "$(ulimit -n)" -ge 15000 ] || conns=$(($(ulimit -n) / 2))
"$dir/attack" --trickle --conns "$conns" "${user[@]}" "$dir/smtpd"
