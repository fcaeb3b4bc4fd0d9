#!/bin/sh
# Runs inside the golden guest's file system: a user who is logged in on the console, a network, and nothing else.
set -eu
echo guest > /etc/hostname
printf '127.0.0.1 localhost guest\n' > /etc/hosts
useradd --create-home --shell /bin/bash traveller
ln -sf /run/systemd/resolve/resolv.conf /etc/resolv.conf
cat > /home/traveller/.bash_profile <<'PROFILE'
export PS1='guest$ ' LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
stty -ixon
PROFILE
chown traveller: /home/traveller/.bash_profile
touch /home/traveller/.hushlogin
# For tests that need the superuser.
echo root:root | chpasswd

systemctl enable systemd-networkd.service serial-getty@hvc0.service
systemctl set-default multi-user.target
# One console, no timers, nothing that waits: each of these costs seconds in an emulated machine.
systemctl mask getty@tty1.service serial-getty@ttyS0.service serial-getty@ttyS1.service console-getty.service getty-static.service \
    systemd-networkd-wait-online.service systemd-timesyncd.service systemd-journal-flush.service \
    systemd-update-utmp.service systemd-update-utmp-runlevel.service systemd-random-seed.service \
    systemd-machine-id-commit.service systemd-binfmt.service systemd-firstboot.service systemd-sysusers.service \
    systemd-hwdb-update.service systemd-journal-catalog-update.service systemd-update-done.service ldconfig.service \
    systemd-pcrphase.service systemd-pcrphase-initrd.service systemd-pcrphase-sysinit.service systemd-pcrmachine.service \
    systemd-backlight@.service systemd-rfkill.service systemd-pstore.service systemd-quotacheck.service \
    e2scrub_reap.service e2scrub_all.timer apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer \
    systemd-tmpfiles-clean.timer modprobe@drm.service modprobe@fuse.service modprobe@configfs.service \
    modprobe@efi_pstore.service sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount \
    modprobe@loop.service modprobe@dm_mod.service systemd-modules-load.service systemd-network-generator.service \
    systemd-logind.service dbus.service dbus.socket kmod-static-nodes.service systemd-remount-fs.service \
    systemd-fsckd.socket systemd-initctl.socket systemd-journald-audit.socket systemd-tmpfiles-setup-dev.service \
    cryptsetup.target integritysetup.target veritysetup.target remote-fs.target swap.target \
    sys-fs-fuse-connections.mount dev-hugepages.mount dev-mqueue.mount proc-sys-fs-binfmt_misc.automount
# A fixed machine id would be shared by all clones; an empty one costs a first-boot pass. systemd makes one in /run.
: > /etc/machine-id
rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/* /usr/share/zoneinfo/right /usr/lib/firmware
depmod -a "$(ls /lib/modules)" 
update-initramfs -u -k all
