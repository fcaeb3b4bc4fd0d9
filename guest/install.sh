#!/bin/sh
# Installs the clock helper into this machine, or into the file system at ROOT.
# usage: install.sh [ROOT]     (as root)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=${1:-}
install -D -m 755 "$here/waystation-clock" "$root/usr/local/sbin/waystation-clock"
install -D -m 644 "$here/waystation-clock.service" "$root/etc/systemd/system/waystation-clock.service"
install -D -m 644 "$here/90-waystation-clock.rules" "$root/etc/udev/rules.d/90-waystation-clock.rules"
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -sf ../waystation-clock.service "$root/etc/systemd/system/multi-user.target.wants/waystation-clock.service"
if [ -z "$root" ]; then
    systemctl daemon-reload
    udevadm control --reload
    systemctl restart waystation-clock.service
fi
