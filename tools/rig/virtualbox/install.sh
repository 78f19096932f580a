#!/bin/sh
# Installs VirtualBox into a fresh Debian sid; runs inside it.
set -eu

# virtualbox depends on virtualbox-dkms, which would build the kernel module that cannot be used here:
# an empty package stands in.
mkdir -p /tmp/dkms/DEBIAN
cat > /tmp/dkms/DEBIAN/control <<'CONTROL'
Package: virtualbox-dkms
Version: 99.0
Architecture: all
Maintainer: none <none@localhost>
Description: stands in for the kernel module, which the rig does without
CONTROL
dpkg-deb --build /tmp/dkms /tmp/dkms.deb
dpkg --install /tmp/dkms.deb

apt-get -q update
apt-get -q install -y --no-install-recommends virtualbox

# Machines have no window here: the 3D libraries that VirtualBox's other front ends pull in are of no use.
cd /usr/lib/x86_64-linux-gnu
rm -f libLLVM.so.* libLLVM-*.so* libgallium-* libz3.so.*

apt-get clean
rm -rf /tmp/* /var/lib/apt/lists/* /usr/share/doc /usr/share/man /usr/share/locale
