#!/bin/sh
# Builds the guest's kernel from Debian's source, inside the builder root.
#   /rig/recipe   this folder
#   /rig/out      gets kernel.bin (unpacked, as it lies in memory), System.map and the configuration used
set -eu
mkdir /rig/out/source
cd /rig/out/source
tar xf /usr/src/linux-source-6.1.tar.xz --strip-components=1
patch -p1 < /rig/recipe/kernel.patch
iasl -tc -p /rig/out/source/dsdt /rig/recipe/dsdt.asl # makes dsdt.hex, which the configuration names

make -s tinyconfig
./scripts/kconfig/merge_config.sh -m .config /rig/recipe/kernel.config
make -s olddefconfig

# An option that a kernel does not know, or whose conditions are not met, is dropped silently: say so.
grep '^CONFIG_' /rig/recipe/kernel.config | while IFS='=' read -r option value; do
    taken=$(sed -n "s/^$option=//p" .config)
    [ "${taken:-n}" = "$value" ] || { echo "the kernel made of $option=$value: ${taken:-n}"; exit 1; }
done

# The same sources give the same image, whoever builds it and when.
export KBUILD_BUILD_USER=rig KBUILD_BUILD_HOST=rig KBUILD_BUILD_TIMESTAMP='Thu, 01 Jan 2026 00:00:00 +0000'
make -s -j"$(nproc)" vmlinux
objcopy -O binary vmlinux /rig/out/kernel.bin
cp .config System.map /rig/out/
cd /rig/out
rm -r source
