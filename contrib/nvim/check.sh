#!/bin/sh
# Tries smtpd.lua in Neovim, without anybody's settings. Needs smtpd-check in
# the PATH. Says so, and is content, if there is no Neovim.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
if ! command -v nvim >/dev/null; then
	echo "nvim is not installed: nothing was tried"
	exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work" XDG_CONFIG_HOME="$work" XDG_DATA_HOME="$work" XDG_STATE_HOME="$work" XDG_CACHE_HOME="$work"
cat >"$work/smtpd.conf" <<'CONF'
listen on 192.0.2.1
table   domains {"example.org"}
action "in" maildir
match from any for domain <domains> action "tmp"
CONF
cd "$work"
nvim --headless -n -u NONE -i NONE -c "luafile $here/smtpd.lua" -c "luafile $here/check.lua"
echo "$(nvim --version | head -n 1): all as it should be"
