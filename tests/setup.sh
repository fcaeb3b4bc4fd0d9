#!/bin/sh
# Installs from Debian's packages what building, the demo and the tests need, on Debian 12 and 13. Does nothing where all of
# it is there.
set -eu

# Building: Kerberos headers and libclang for libgssapi's bindings.
packages="build-essential pkg-config libkrb5-dev libclang-dev clang"
# image-build: packages, initrd, UKI, FAT file system.
packages="$packages mmdebstrap fakeroot cpio zstd lz4 kmod mtools dosfstools systemd-boot-efi sbsigntool openssl debian-archive-keyring perl-base"
# The rig: emulated PCs and their firmware, the realm, disks, the command line's name service.
packages="$packages qemu-system-x86 ovmf ipxe-qemu krb5-kdc krb5-admin-server krb5-user krb5-pkinit python3-kdcproxy e2fsprogs fdisk libnss-wrapper python3-impacket"
packages="$packages nftables iproute2 dnsmasq-base busybox-static socat swtpm libfaketime"
# Disks and initial RAM disks that the import judges.
packages="$packages qemu-utils xfsprogs btrfs-progs ntfs-3g cryptsetup-bin xorriso xz-utils bzip2 lzop"

missing=
for package in $packages; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

as_root=
if [ "$(id -u)" != 0 ]; then
    as_root=sudo
    command -v sudo >/dev/null || { echo "setup: run this as root, or install sudo; missing:$missing" >&2; exit 1; }
fi
# The emulator must match qemu-utils: where those came from backports, Debian's own replace them.
case $(dpkg-query -W -f '${Version}' qemu-utils 2>/dev/null || true) in
*bpo*) missing="$missing qemu-utils/$(. /etc/os-release && echo "$VERSION_CODENAME")" ;;
esac
$as_root apt-get -o Acquire::Retries=5 update -q
echo "setup: installing$missing"
# shellcheck disable=SC2086
$as_root env DEBIAN_FRONTEND=noninteractive apt-get -o Acquire::Retries=5 install -q -y --no-install-recommends --allow-downgrades $missing
