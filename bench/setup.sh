#!/bin/sh
# Puts the peers that bench/peers.py measures below a folder: Debian's Postfix
# unpacked (it conflicts with other mail servers when installed), OpenSMTPD as
# installed by apt, and the accounts they need. Run as root on Debian.
#
# usage: bench/setup.sh FOLDER
set -eu
dir=${1:?usage: bench/setup.sh FOLDER}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq -y opensmtpd swaks >/dev/null
if [ ! -x "$dir/postfix/usr/sbin/postfix" ]; then
	(cd "$dir" && apt-get download postfix >/dev/null && dpkg -x postfix_*.deb postfix)
	apt-get install -qq -y libicu72 libnsl2 libtirpc3 libdb5.3 >/dev/null
fi
for u in bpostfix benchuser; do
	id "$u" >/dev/null 2>&1 || useradd -m -s /bin/sh "$u"
done
getent group bpostdrop >/dev/null || groupadd bpostdrop
echo "peers are below $dir"
