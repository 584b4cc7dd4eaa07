#!/usr/bin/env bash
# Opens every page of smtpctl web in a headless Chromium, in front of a daemon
# with mail that is held, that fails and that was delivered. Needs chromium,
# node with npm, openssl, and root; what npm fetches stays in a directory of
# its own. The screenshots are left in $SHOTS, which is named at the end.
set -euo pipefail
cd "$(dirname "$0")/../../.."
for need in chromium node npm openssl; do
	command -v "$need" >/dev/null || { echo "web: no $need here, not tested"; exit 0; }
done
[ "$(id -u)" = 0 ] || { echo "web: only root starts this daemon, not tested"; exit 0; }
dir=$(mktemp -d)
shots=${SHOTS:-$(mktemp -d)}
mkdir -p "$shots"
daemon='' page=''
cleanup() {
	for pid in $page $daemon; do
		kill "$pid" 2>/dev/null || true
		wait "$pid" 2>/dev/null || true
	done
	rm -rf "$dir"
}
trap cleanup EXIT
chmod 755 "$dir"
go build -o "$dir/" ./cmd/smtpd ./cmd/smtpctl ./contrib/filter-helo
ln -s smtpctl "$dir/sendmail"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 12 -subj /CN=mx.example.org \
	-addext subjectAltName=DNS:mx.example.org,DNS:mail.example.org -keyout "$dir/pki.key" -out "$dir/pki.crt" 2>/dev/null
install -d -o nobody "$dir/box"
echo "anna $(id -u nobody):$(id -g nobody):$dir/box" >"$dir/users"
printf 'friend@partner.example\n' >"$dir/friends"
cat >"$dir/smtpd.conf" <<EOF
pki "mx" cert "$dir/pki.crt"
pki "mx" key "$dir/pki.key"
table users file:$dir/users
table friends file:$dir/friends
filter "check" proc-exec "$dir/filter-helo"
listen on 127.0.0.1 port 10725 tls pki "mx" filter "check"
action box maildir "$dir/box" userbase <users>
action sink relay host smtp://127.0.0.1:10726
action dead relay host smtp://127.0.0.2:1
match from any mail-from <friends> for domain home.example action box
match from any for domain home.example action box
match from any for domain sink.example action sink
match from any mail-from regex "^never-.*@example\\.org\$" for any reject
match for any action dead
EOF
"$dir/smtpd" -d -f "$dir/smtpd.conf" --spool "$dir/spool" --user nobody --queue-user nobody 2>"$dir/log" &
daemon=$!
export SMTPD_SPOOL=$dir/spool
until grep -q "smtpd serving" "$dir/log"; do
	kill -0 $daemon || { cat "$dir/log"; exit 1; }
	sleep 0.1
done
"$dir/smtpctl" web -w -l 127.0.0.1:0 >"$dir/addresses" 2>"$dir/web.log" &
page=$!
until grep -q "to change" "$dir/addresses"; do
	kill -0 $page || { cat "$dir/web.log"; exit 1; }
	sleep 0.1
done
npm install --silent --no-fund --no-audit --prefix "$dir/npm" playwright-core >/dev/null
if ! MODULES=$dir/npm/node_modules BIN=$dir SHOTS=$shots READ=$(sed -n 's/^to read: *//p' "$dir/addresses") \
	CHANGE=$(sed -n 's/^to change: *//p' "$dir/addresses") node internal/web/browser/test.mjs; then
	cat "$dir/web.log"
	tail -40 "$dir/log"
	exit 1
fi
echo "screenshots are in $shots"
