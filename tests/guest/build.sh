#!/bin/sh
# Makes the golden guest from Debian's packages: OUT/disk.img (ext4, sparse), OUT/vmlinuz, OUT/initrd.img.
# usage: build.sh OUT     (unprivileged: mmdebstrap in a user namespace, the file system under fakeroot)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=$1
mkdir -p "$out"

# The guest runs emulated inside an emulated machine in the rig: every unit that is not needed costs seconds.
packages=linux-image-cloud-amd64,initramfs-tools,systemd,systemd-sysv,udev,kmod,iproute2,iputils-ping,procps
packages=$packages,python3-minimal,python3,sqlite3,nano,less,ncurses-base,lz4,e2fsprogs

mmdebstrap --variant=minbase --quiet --aptopt='Acquire::Retries "5"' --include="$packages" \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
    --setup-hook='mkdir -p "$1/etc/initramfs-tools/conf.d"' \
    --setup-hook="copy-in $here/initramfs/modules /etc/initramfs-tools/" \
    --setup-hook="copy-in $here/initramfs/waystation /etc/initramfs-tools/conf.d/" \
    --customize-hook="sync-in $here/overlay /" \
    --customize-hook="$here/../../guest/install.sh \"\$1\"" \
    --customize-hook="copy-in $here/configure.sh /root" \
    --customize-hook='chroot "$1" /bin/sh /root/configure.sh && rm "$1/root/configure.sh"' \
    bookworm "$out/root.tar"

size=$(cat "$here/disk-mib")
# shellcheck disable=SC2016
fakeroot -- sh -eu -c '
    out=$1 size=$2
    rm -rf "$out/root" && mkdir "$out/root"
    tar -C "$out/root" -xf "$out/root.tar"
    cp -L "$out/root/vmlinuz" "$out/vmlinuz"
    cp -L "$out/root/initrd.img" "$out/initrd.img"
    # They boot from the parcel, not from the disk.
    rm -rf "$out/root/boot" "$out/root/vmlinuz"* "$out/root/initrd.img"* && mkdir "$out/root/boot"
    rm -f "$out/disk.img"
    mke2fs -q -t ext4 -L guest -m 0 -O ^metadata_csum_seed -E lazy_itable_init=0,lazy_journal_init=0 -J size=16 \
        -d "$out/root" "$out/disk.img" "${size}M"
    rm -rf "$out/root" "$out/root.tar"
' sh "$out" "$size"
