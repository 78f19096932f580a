#!/bin/bash
# Builds the guest image `tiny`, inside the builder root, without mounting anything.
#   /rig/recipe   this folder
#   /rig/kernel   the kernel, unpacked
#   /rig/programs the SSH server and sudo
#   /rig/out      gets disk.raw, and id_rsa and id_rsa.pub (for root, admin and vagrant in the guest)
set -euo pipefail

out=/rig/out
work=$out/work
root=$work/root
mkdir -p "$work/debs" "$root"

# --- Programs: from Debian sid, since VirtualBox's guest utilities are only there ----------------------
packages=(libc6 openssh-sftp-server virtualbox-guest-utils libstdc++6 libgcc-s1)
apt-get -q update
cd "$work/debs"
apt-get -q download "${packages[@]}"
for deb in *.deb; do dpkg-deb --extract "$deb" "$work/unpacked"; done

# Only what is used goes into the image: a small disk is quick to read.
install -d "$root"/{bin,sbin,lib64,proc,sys,dev,tmp,run,mnt,root,home,var/log,var/lib,etc/dropbear}
install -d "$root"/usr/{bin,sbin,lib/openssh,lib/x86_64-linux-gnu}
ln -s usr/lib "$root/lib"
chmod 1777 "$root/tmp"
cp "$work/unpacked/usr/lib/openssh/sftp-server" "$root/usr/lib/openssh/"
cp "$work/unpacked/usr/sbin/VBoxService" "$root/usr/sbin/"
cp -a "$work"/unpacked/usr/lib/x86_64-linux-gnu/*.so* "$root/usr/lib/x86_64-linux-gnu/"
ln -s ../usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 "$root/lib64/"
ln -s openssh/sftp-server "$root/usr/lib/sftp-server"
cp /rig/programs/dropbear "$root/usr/sbin/"
cp /rig/programs/sudo "$root/usr/bin/"
cp /bin/busybox "$root/bin/busybox"
for applet in $(busybox --list); do
    [ -e "$root/usr/bin/$applet" ] || [ -e "$root/bin/$applet" ] || ln -s busybox "$root/bin/$applet"
done
for applet in init poweroff reboot halt getty; do ln -s ../bin/busybox "$root/sbin/$applet"; done
for source in /rig/recipe/src/*.c; do
    gcc -O2 -static -Wall -Werror -o "$root/sbin/$(basename "$source" .c)" "$source"
done
ldconfig -r "$root"

# --- Accounts: root, admin (sudo without a password), vagrant (sudo asks for it) ------------------------
cp -a /rig/recipe/files/. "$root/"
chown -R 0:0 "$root"
hash=$(openssl passwd -1 -salt tiny vagrant) # quick to check: modern ones take 4 s in the interpreter, on purpose
for user in root admin vagrant; do echo "$user:$hash:20000:0:99999:7:::"; done > "$root/etc/shadow"
chmod 600 "$root/etc/shadow"
chmod 440 "$root/etc/sudoers"
chmod 4755 "$root/usr/bin/sudo"
chmod 755 "$root"/etc/dhcp* "$root/usr/bin/cloud-init"
ssh-keygen -q -t rsa -b 2048 -m PEM -N '' -C tiny -f "$out/id_rsa"
for home in root home/admin home/vagrant; do
    install -d -m 700 "$root/$home/.ssh"
    install -m 600 "$out/id_rsa.pub" "$root/$home/.ssh/authorized_keys"
done
chown -R 1000:1000 "$root/home/admin"
chown -R 1001:1001 "$root/home/vagrant"
/rig/programs/dropbearkey -t ed25519 -f "$root/etc/dropbear/dropbear_ed25519_host_key"

# A program that lacks a library would only be noticed by whoever needs it in a test.
for program in usr/lib/openssh/sftp-server usr/sbin/VBoxService; do
    if chroot "$root" /lib64/ld-linux-x86-64.so.2 --list "/$program" 2>&1 | grep 'not found'; then exit 1; fi
done

# --- The disk: boot loader and kernel before the only partition, which is ext4 --------------------------
loader_sectors=8 partition_lba=40960 root_megabytes=256
kernel_sectors=$((($(stat -c %s /rig/kernel/kernel.bin) + 511) / 512))
# The partition by its number on the disk with this label: its name differs between storage controllers.
command_line='root=PARTUUID=74696e79-01 rootfstype=ext4 rootwait rw console=tty0 console=ttyS0,115200 loglevel=6'
command_line+=' tsc=reliable lpj=4000000 no_timer_check rodata=off'
cd "$work"
[ $((loader_sectors + kernel_sectors)) -lt $partition_lba ]
truncate -s $((partition_lba * 512 + (root_megabytes << 20))) disk.raw
gcc -c -o boot.o -DLOADER_SECTORS=$loader_sectors -DKERNEL_LBA=$loader_sectors -DKERNEL_SECTORS=$kernel_sectors \
    "-DCOMMAND_LINE=\"$command_line\"" /rig/recipe/boot.S
ld -Ttext=0x7c00 --oformat binary -o boot.bin boot.o
dd if=boot.bin of=disk.raw conv=notrunc status=none
dd if=/rig/kernel/kernel.bin of=disk.raw bs=512 seek=$loader_sectors conv=notrunc status=none
printf 'label: dos\nlabel-id: 0x74696e79\n%d,,83,*\n' $partition_lba | sfdisk -q disk.raw
mke2fs -q -t ext4 -d "$root" -U 74696e79-0000-4000-8000-000000000000 -J size=4 \
    -E lazy_itable_init=0,root_owner=0:0 root.ext4 "${root_megabytes}M"
dd if=root.ext4 of=disk.raw bs=1M oflag=seek_bytes seek=$((partition_lba * 512)) conv=notrunc,sparse status=none
mv disk.raw "$out/disk.raw"
