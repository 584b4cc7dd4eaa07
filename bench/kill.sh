#!/usr/bin/env bash
# Kills the daemon with -9 while 20 sessions send through it to a sink, starts
# it again each time, and counts: every acknowledged message must arrive.
# Duplicates are counted too: they are messages that the sink had taken when
# the daemon died before it could note that.
#
# usage: bench/kill.sh [MESSAGES [KILLS]]      (2000 and 3)
set -euo pipefail
cd "$(dirname "$0")/.."
messages=${1:-2000} kills=${2:-3}
port=${PORT:-2587} sinkport=${SINKPORT:-2687}
dir=$(mktemp -d)
pids=()
cleanup() {
	for p in "${pids[@]}"; do kill -9 "$p" 2>/dev/null || true; done
	rm -rf "$dir"
}
trap cleanup EXIT
go build -o "$dir/" ./cmd/smtpd ./bench/smtpload
mkdir "$dir/spool"
cat >"$dir/smtpd.conf" <<E2
listen on 127.0.0.1 port $port hostname kill.test
smtp limit max-mails 100000
action "out" relay host smtp://127.0.0.1:$sinkport
match from any for domain "relay.test" action "out"
E2
user=()
if [ "$(id -u)" = 0 ]; then
	user=(--user nobody)
	chmod 755 "$dir"
fi
start() {
	"$dir/smtpd" -d -f "$dir/smtpd.conf" --spool "$dir/spool" "${user[@]}" >>"$dir/log" 2>&1 &
	daemon=$!
	pids+=("$daemon")
}

"$dir/smtpload" sink --addr 127.0.0.1:$sinkport --received "$dir/received" --idle 20s &
sink=$!
pids+=("$sink")
start
: >"$dir/acked"
"$dir/smtpload" send --addr 127.0.0.1:$port -n "$messages" -s 20 --reconnect 60s --acked "$dir/acked" &
send=$!
pids+=("$send")
for i in $(seq "$kills"); do
	# Somewhere in the i-th part of the run.
	at=$((messages * i / (kills + 1) + RANDOM % (messages / (kills + 1) / 2)))
	while [ "$(wc -l <"$dir/acked")" -lt "$at" ]; do
		kill -0 "$send" 2>/dev/null || { echo "the load ended before kill $i"; exit 1; }
		sleep 0.01
	done
	kill -9 "$daemon" 2>/dev/null || { echo "the daemon was gone before kill $i:"; tail "$dir/log"; exit 1; }
	wait "$daemon" 2>/dev/null || true
	start
	echo "killed and started again ($i of $kills)"
done
wait "$send"
wait "$sink"
"$dir/smtpload" compare "$dir/acked" "$dir/received"
