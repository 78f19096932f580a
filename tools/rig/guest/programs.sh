#!/bin/sh
# Builds the guest's SSH server and sudo from Debian's sources, inside the builder root. Both are static and
# without what the guest does not need: Debian's own sudo loads eleven libraries, 1.6 s in the interpreter.
#   /rig/recipe   this folder          /rig/out   gets dropbear, dropbearkey, sudo
set -eu
apt-get -q update
mkdir /rig/out/source
cd /rig/out/source
apt-get -q source dropbear sudo

(
    cd dropbear-*/
    cp /rig/recipe/dropbear/curve25519.c /rig/recipe/dropbear/localoptions.h .
    patch -p1 < /rig/recipe/dropbear/random.patch
    ./configure --enable-static --disable-pam --disable-zlib --disable-syslog --disable-harden \
        --disable-lastlog --disable-utmp --disable-utmpx --disable-wtmp --disable-wtmpx --disable-pututline \
        --disable-pututxline CFLAGS=-O2 LIBS=-lsodium
    make -j"$(nproc)" PROGRAMS="dropbear dropbearkey"
    strip dropbear dropbearkey
    cp dropbear dropbearkey /rig/out/
)
(
    cd sudo-*/
    ./configure --prefix=/usr --sysconfdir=/etc --enable-static-sudoers --disable-shared --disable-openssl \
        --disable-zlib --disable-nls --disable-log-client --disable-log-server --disable-intercept \
        --without-pam --without-lecture --without-sendmail --with-logging=syslog CFLAGS=-O2
    make -j"$(nproc)" LDFLAGS=-all-static SUDO_LDFLAGS=-all-static
    strip -o /rig/out/sudo src/sudo
)
cd /rig/out
rm -r source
