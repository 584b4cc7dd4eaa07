#!/bin/sh
# Tries smtpd-conf.el in Emacs, without anybody's settings. Needs smtpd-check
# in the PATH. Says so, and is content, if there is no Emacs with eglot.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
if ! command -v emacs >/dev/null; then
	echo "emacs is not installed: nothing was tried"
	exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME="$work"
cd "$work"
start='(progn (require (quote package)) (package-initialize))'
if ! emacs --batch --eval "$start" --eval "(require 'eglot)" 2>/dev/null; then
	echo "this emacs has no eglot: nothing was tried"
	exit 0
fi
cat >smtpd.conf <<'CONF'
listen on 192.0.2.1
table   domains {"example.org"}
action "in" maildir
match from any for domain <domains> action "tmp"
CONF
emacs --batch --eval "$start" -L "$here" -l "$here/check.el"
echo "$(emacs --version | head -n 1): all as it should be"
