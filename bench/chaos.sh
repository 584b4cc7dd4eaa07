#!/usr/bin/env bash
# Kills processes of the daemon with -9, at random, while 20 sessions send
# through it to a sink and two into a maildir, and counts: every acknowledged
# message must arrive, and the longest time in which none was acknowledged must
# be below a second. Needs root: without it there is only one process.
#
# usage: bench/chaos.sh [SECONDS [SEED]]      (60 and the time)
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60} seed=${2:-$(date +%s)}
[ "$(id -u)" = 0 ] || { echo "chaos.sh needs root"; exit 1; }
port=${PORT:-2588} sinkport=${SINKPORT:-2688}
RANDOM=$((seed % 32768))
dir=$(mktemp -d)
chmod 711 "$dir"
pids=()
cleanup() {
	for p in "${pids[@]}"; do kill -9 "$p" 2>/dev/null || true; done
	rm -rf "$dir"
}
trap cleanup EXIT
go build -o "$dir/" ./cmd/smtpd ./bench/smtpload
mkdir "$dir/mail"
chown nobody "$dir/mail"
cat >"$dir/smtpd.conf" <<EOF
table users { "u" = "$(id -u nobody):$(id -g nobody):$dir/mail" }
listen on 127.0.0.1 port $port hostname chaos.test
smtp limit max-mails 1000000
action "out" relay host smtp://127.0.0.1:$sinkport
action "in" maildir userbase <users>
match from any for domain "relay.test" action "out"
match from any for domain "local.test" action "in"
EOF
"$dir/smtpload" sink --addr 127.0.0.1:$sinkport --received "$dir/received" --idle 40s >"$dir/sink" &
sink=$!
pids+=("$sink")
"$dir/smtpd" -d -f "$dir/smtpd.conf" --spool "$dir/spool" >"$dir/log" 2>&1 &
daemon=$!
pids+=("$daemon")
until grep -q 'smtpd serving' "$dir/log"; do
	kill -0 "$daemon" || { cat "$dir/log"; exit 1; }
	sleep 0.05
done

load() { "$dir/smtpload" send --addr 127.0.0.1:$port -n 100000000 --for "${seconds}s" --reconnect 60s "$@"; }
load -s 20 --acked "$dir/acked" >"$dir/send" &
send=$!
load -s 2 --rcpt u@local.test --acked "$dir/acked.local" >"$dir/send.local" &
local=$!
pids+=("$send" "$local")
kills=0
while kill -0 "$send" 2>/dev/null; do
	sleep "0.$((RANDOM % 8 + 2))"
	all=$(cat /proc/"$daemon"/task/*/children 2>/dev/null || true) # a thread may end meanwhile
	read -ra children <<<"$(tr '\n' ' ' <<<"$all")"
	[ ${#children[@]} -gt 0 ] || continue
	victim=${children[RANDOM % ${#children[@]}]}
	role=$(tr '\0' '\n' <"/proc/$victim/cmdline" 2>/dev/null | sed -n 's/^--role=//p') || continue
	[ -n "$role" ] || continue # just forked, or gone
	kill -9 "$victim" 2>/dev/null || continue
	kills=$((kills + 1))
	printf '%s ' "$role"
done
echo
wait "$send" "$local"
kill -0 "$daemon" || { echo "the daemon is gone:"; tail -20 "$dir/log"; exit 1; }
wait "$sink"
echo "killed $kills, seed $seed"
cat "$dir/send" "$dir/send.local" "$dir/sink"
"$dir/smtpload" compare "$dir/acked" "$dir/received"
find "$dir/mail/Maildir/new" -type f -exec sed -n 's/^X-Load-Id: \([0-9]*\).*/\1/p' {} + >"$dir/received.local"
"$dir/smtpload" compare "$dir/acked.local" "$dir/received.local"
if grep -h quarantined "$dir/log"; then
	echo "a message was quarantined that killed nobody"
	exit 1
fi
gap=$(sed -n 's/.*gap_ms=//p' "$dir/send")
[ "$gap" -lt 1000 ] || { echo "no message was acknowledged for $gap ms"; exit 1; }
