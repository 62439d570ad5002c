#!/usr/bin/env bash
# Boots a Debian in QEMU with systemd, cgroup v2 and AppArmor, and runs tests/vm/inside.sh in it: once, once more after
# the machine has lost its power, and again after systemd has rebooted it. Takes the folder of the release binaries and
# a folder to work in.
set -euo pipefail
binaries=$(realpath "$1")
work=$2
here=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$work"
work=$(realpath "$work")
root=$work/root
image=$work/disk.img
packages=linux-image-cloud-amd64,systemd-sysv,dbus,udev,apparmor,containerd,runc,nftables,iproute2,iptables,ca-certificates
packages+=,busybox-static,curl,procps,kmod

if [[ ! -e $work/root.ready ]]; then
    rm -rf "$root"
    # The mirror that this host's apt uses, whatever it is.
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | head -n 1)
    debootstrap --variant=minbase --include="$packages" bookworm "$root" ${mirror:+"$mirror"} >"$work/debootstrap.log"
    touch "$work/root.ready"
fi

make -C "$here" --no-print-directory install DESTDIR="$root" >/dev/null
install -m 755 "$(command -v docker || echo "$binaries/../tools/docker")" "$root/usr/bin/docker"
install -D -m 755 "$here/tests/vm/inside.sh" "$root/opt/gantry-test/inside.sh"
rm -rf "$root/opt/gantry-test/busybox" && mkdir -p "$root/opt/gantry-test/busybox/bin"
cp "$root/bin/busybox" "$root/opt/gantry-test/busybox/bin/sh"
for name in sleep echo cat ls true wget httpd seq dd; do
    ln -sf sh "$root/opt/gantry-test/busybox/bin/$name"
done
chroot "$root" groupadd --force --system docker
cat >"$root/etc/systemd/system/gantry-test.service" <<UNIT
[Unit]
Description=The tests of Gantry in a virtual machine
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/opt/gantry-test/inside.sh
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
[Install]
WantedBy=graphical.target multi-user.target
UNIT
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -sf ../gantry-test.service "$root/etc/systemd/system/multi-user.target.wants/gantry-test.service"
printf '/dev/vda / ext4 defaults 0 1\n' >"$root/etc/fstab"
echo gantry-vm >"$root/etc/hostname"
# containerd is gantryd's own here.
chroot "$root" systemctl mask containerd.service serial-getty@ttyS0.service >/dev/null 2>&1 || true

rm -f "$image"
truncate -s 6G "$image"
mke2fs -q -t ext4 -d "$root" "$image"

kvm=()
if [[ -w /dev/kvm ]]; then kvm=(-enable-kvm -cpu host); fi
boot() { # name, seconds: until the guest ends, or says that its power may be cut
    local log=$work/$1.log pid
    : >"$log"
    qemu-system-x86_64 "${kvm[@]}" -m 2048 -smp 2 -nographic -no-reboot -nic none \
        -kernel "$(ls "$root"/boot/vmlinuz-* | tail -n 1)" -initrd "$(ls "$root"/boot/initrd.img-* | tail -n 1)" \
        -append "root=/dev/vda rw console=ttyS0 apparmor=1 security=apparmor quiet" \
        -drive file="$image",format=raw,if=virtio,cache=writeback -device virtio-rng-pci \
        </dev/null >"$log" 2>&1 &
    pid=$!
    for ((second = 0; second < $2; second++)); do
        kill -0 "$pid" 2>/dev/null || break
        if grep -qaE 'VM-TEST CUT|KVM internal error' "$log"; then break; fi
        sleep 1
    done
    kill -9 "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
    grep -a 'VM-TEST' "$log" || true
}

boot first "${VM_SECONDS:-900}"
if grep -qa 'KVM internal error' "$work/first.log"; then
    # A KVM within another machine may lack instructions that the guest's kernel uses: slower, and complete.
    kvm=()
    boot first "${VM_SECONDS:-1800}"
fi
grep -qa 'VM-TEST CUT' "$work/first.log" || { tail -n 60 "$work/first.log"; exit 1; }
boot second "${VM_SECONDS:-900}"
grep -qa 'VM-TEST REBOOT' "$work/second.log" || { tail -n 60 "$work/second.log"; exit 1; }
boot third "${VM_SECONDS:-900}"
if grep -qa 'VM-TEST FAILED' "$work"/{first,second,third}.log || ! grep -qa 'VM-TEST DONE' "$work/third.log"; then
    tail -n 60 "$work/third.log"
    exit 1
fi
