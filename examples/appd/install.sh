#!/bin/sh
# Installs appd: install.sh [--prefix DIR]. Needs root.
set -eu
prefix=/opt/appd
[ "${1:-}" = --prefix ] && prefix=$2
if [ "$(id -u)" != 0 ]; then
    echo "install.sh: must be run as root" >&2
    exit 77
fi
if [ -e "$prefix/VERSION" ]; then
    echo "install.sh: appd $(cat "$prefix/VERSION") is installed already in $prefix" >&2
    exit 3
fi
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$prefix/www" /etc/appd
cp "$here/appd" "$prefix/appd"
chmod 755 "$prefix/appd"
[ -e /etc/appd/greeting ] || echo "hello from appd" > /etc/appd/greeting
echo 1.0 > "$prefix/VERSION"
echo "installed appd 1.0 in $prefix"
