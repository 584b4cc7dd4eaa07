#!/usr/bin/env bash
# test.sh PACKAGE: installs the package into an empty root, starts the daemon
# from there as a script would, without systemd, and sends a mail with the
# sendmail that came with it.
set -euo pipefail
package=$(realpath "$1")
root=$(mktemp -d)
chmod 755 "$root" # the mail is delivered as somebody else
daemon=
finish() {
	[ -z "$daemon" ] || kill "$daemon" 2>/dev/null || true
	wait 2>/dev/null || true
	rm -rf "$root"
}
trap finish EXIT

if [ "$(id -u)" = 0 ]; then
	mkdir -p "$root"/var/lib/dpkg/{info,updates} "$root"/var/log
	touch "$root"/var/lib/dpkg/{status,available}
	dpkg --root="$root" --log=/dev/null --force-depends --force-script-chrootless --install "$package"
	dpkg --root="$root" --verify smtpd
else
	dpkg-deb --extract "$package" "$root"
fi
for file in usr/sbin/smtpd usr/sbin/smtpctl usr/sbin/sendmail usr/bin/mailq usr/bin/smtpd-check etc/smtpd.conf etc/mail/aliases \
	usr/lib/systemd/system/smtpd.service usr/share/man/man8/smtpd.8 usr/share/man/man5/smtpd.conf.5; do
	[ -e "$root/$file" ] || [ -L "$root/$file" ] || { echo "the package lacks $file" >&2; exit 1; }
done

# The aliases of the package send the mail of root to nobody yet: it goes to a
# mailbox in the new root, of whoever runs the daemon there.
if [ "$(id -u)" = 0 ]; then user=nobody; else user=$(id -un); fi
mkdir "$root/box" && chmod 700 "$root/box"
[ "$(id -u)" != 0 ] || chown nobody "$root/box"
echo "root: $user" >>"$root/etc/mail/aliases"
sed -i "s|file:/etc|file:$root/etc|; /^listen on lo/d; s|maildir alias|maildir \"$root/box\" user $user alias|" "$root/etc/smtpd.conf"
"$root/usr/sbin/smtpd" -n -f "$root/etc/smtpd.conf"
"$root/usr/sbin/smtpd" -d -f "$root/etc/smtpd.conf" --spool "$root/var/spool/smtpd" --user "$user" 2>"$root/log" &
daemon=$!
export SMTPD_SPOOL=$root/var/spool/smtpd

# Until it serves sendmail keeps the mail for it: both are a delivery.
until grep -q 'smtpd serving' "$root/log"; do
	kill -0 "$daemon" 2>/dev/null || { cat "$root/log" >&2; exit 1; }
	sleep 0.1
done
printf 'Subject: from the package\n\nhello\n' | "$root/usr/sbin/sendmail" postmaster
until ls "$root"/box/new/* >/dev/null 2>&1; do
	kill -0 "$daemon" 2>/dev/null || { cat "$root/log" >&2; exit 1; }
	sleep 0.1
done
grep -qx hello "$root"/box/new/*
"$root/usr/sbin/smtpctl" show status
kill "$daemon"
wait "$daemon"
daemon=
[ "$(id -u)" != 0 ] || dpkg --root="$root" --log=/dev/null --force-script-chrootless --remove smtpd
[ ! -e "$root/usr/sbin/smtpd" ]
echo "the package works"
