#!/bin/bash
# Runs in the virtual machine, as root, after the boot. Each law prints a line; the second boot follows a power cut, the
# third one systemd's own reboot.
cd /opt/gantry-test || exit 1
say() { echo "VM-TEST $*"; }
failed=0
law() { # words, command...
    local words=$1 out
    shift
    if out=$("$@" 2>&1); then
        say "ok: $words"
    else
        failed=1
        say "FAILED: $words"
        printf '%s\n' "$out" | tail -n 8 | sed 's/^/VM-TEST     /'
    fi
}
holds() { [[ $1 == *"$2"* ]] || { echo "expected '$2' in: $1"; return 1; }; }
is() { [[ $1 == "$2" ]] || { echo "expected '$2', found: $1"; return 1; }; }
soon() { for _ in $(seq 100); do "$@" >/dev/null 2>&1 && return 0; sleep 0.2; done; "$@"; }

service() { systemctl start gantry.service && is "$(systemctl is-active gantry.service)" active; }
info() { docker info --format '{{.CgroupVersion}} {{.CgroupDriver}} {{.SecurityOptions}}'; }
unified() { holds "$(info)" "2 systemd"; }
armoured() { holds "$(info)" name=apparmor; }
image() { tar -C busybox -c . | docker import -c 'CMD ["sh"]' - busybox >/dev/null; }
hello() { is "$(docker run --rm busybox echo hello)" hello; }
confined() { holds "$(docker run --rm busybox cat /proc/self/attr/current)" docker-default; }
confined_exec() {
    docker run -d --name armour busybox sleep 600 >/dev/null
    holds "$(docker exec armour cat /proc/1/attr/current)" docker-default && docker rm -f armour >/dev/null
}
unconfined() { is "$(docker run --rm --security-opt apparmor=unconfined busybox cat /proc/self/attr/current)" unconfined; }
limits() {
    local id slice
    id=$(docker run -d --memory 64m --cpus 0.5 --pids-limit 50 busybox sleep 600)
    slice=$(find /sys/fs/cgroup -type d -name "*$id*" | head -n 1)
    is "$(cat "$slice/memory.max" "$slice/cpu.max" "$slice/pids.max" | tr '\n' ' ')" "67108864 50000 100000 50 " &&
        holds "$slice" system.slice && docker update --memory 96m --memory-swap -1 "$id" >/dev/null &&
        is "$(cat "$slice/memory.max")" 100663296 &&
        holds "$(docker stats --no-stream --format '{{.MemUsage}}' "$id")" 96MiB && docker rm -f "$id" >/dev/null
}
killed_for_memory() {
    docker run --name big --memory 8m --memory-swap 8m busybox sh -c 'x=a; while :; do x=$x$x$x; done'
    is "$(docker inspect -f '{{.State.OOMKilled}} {{.State.ExitCode}}' big)" "true 137" && docker rm big >/dev/null
}
paused() {
    docker run -d --name still busybox sleep 600 >/dev/null && docker pause still >/dev/null &&
        is "$(docker inspect -f '{{.State.Status}}' still)" paused && docker unpause still >/dev/null &&
        docker rm -f still >/dev/null
}
published() {
    docker run -d --name web -p 8080:80 busybox sh -c 'echo page > /index.html; exec httpd -f -p 80 -h /' >/dev/null
    soon holds "$(curl -s --retry 20 --retry-connrefused --retry-delay 1 http://127.0.0.1:8080/index.html)" page &&
        holds "$(curl -s 'http://[::1]:8080/index.html')" page
}
killed() { # containers, their ports and the cgroups outlive gantryd
    local pid id
    id=$(docker inspect -f '{{.Id}} {{.State.Pid}}' web)
    pid=$(systemctl show -p MainPID --value gantry.service)
    kill -9 "$pid"
    holds "$(curl -s http://127.0.0.1:8080/index.html)" page || return 1
    soon docker version
    is "$(docker inspect -f '{{.Id}} {{.State.Pid}}' web)" "$id"
}
restarted() {
    systemctl restart gantry.service && is "$(docker inspect -f '{{.State.Status}}' web)" running &&
        holds "$(curl -sS http://127.0.0.1:8080/index.html 2>&1)" page
}
journal() { # systemd's own is the judge
    docker run --rm --log-driver journald --log-opt tag=in-the-vm busybox sh -c 'echo to the journal; echo badly >&2' >/dev/null 2>&1
    soon holds "$(journalctl -t in-the-vm -o cat)" "to the journal" &&
        is "$(journalctl -t in-the-vm -p err -o cat)" badly
}
bounded() { # by project quotas, on a disk and with an engine of their own
    local own="docker -H unix:///run/bounded.sock" pid
    truncate -s 600M /bounded.img && mkfs.ext4 -q -F -O quota,project -E quotatype=prjquota /bounded.img || return 1
    mkdir -p /bounded && mount -o loop,prjquota /bounded.img /bounded || return 1
    gantryd --data-root /bounded/data --exec-root /run/bounded --pidfile /run/bounded.pid -H unix:///run/bounded.sock \
        >/bounded.log 2>&1 &
    pid=$!
    soon $own version || { tail -n 5 /bounded.log; return 1; }
    tar -C busybox -c . | $own import -c 'CMD ["sh"]' - busybox >/dev/null || return 1
    fill() { $own run --rm "${@:2}" busybox dd if=/dev/zero of=/v/full bs=1M count="$1" 2>&1; }
    holds "$($own run --rm --storage-opt size=20M busybox dd if=/dev/zero of=/full bs=1M count=40 2>&1)" uota &&
        $own run --rm --storage-opt size=20M busybox dd if=/dev/zero of=/full bs=1M count=10 &&
        $own run --rm busybox dd if=/dev/zero of=/full bs=1M count=40 &&
        $own volume create -o size=20m small && holds "$(fill 40 -v small:/v)" uota && fill 10 -v small:/v
    local result=$?
    $own ps -aq | xargs -r $own rm -f
    kill "$pid" && wait "$pid"
    pkill -f /run/bounded/ ; sleep 0.5
    umount -l /bounded
    return $result
}
is_running() { is "$(docker inspect -f "{{.State.Status}}" "$1")" running; }
socket() { systemctl stop gantry.service gantry.socket && systemctl start gantry.socket && soon docker version; }
records() {
    docker run -d --name always --restart always busybox sleep 600 >/dev/null &&
        docker create --name rests -v kept:/kept busybox echo after-the-cut >/dev/null && docker network ls >/dev/null
}

polite() { # on its own signal it takes a second, says so in a file, and has a code of its own
    local script='trap "sleep 1; echo asked > /shared/asked; exit 7" USR1; echo > /shared/ready; while :; do sleep 0.2; done'
    mkdir -p shared
    docker run -d --name polite --stop-signal USR1 -v /opt/gantry-test/shared:/shared busybox sh -c "$script" >/dev/null &&
        docker run -d --name again --restart always --stop-signal KILL busybox sleep 600 >/dev/null && soon test -e shared/ready
}
asked() {
    is "$(cat shared/asked)" asked &&
        is "$(docker inspect -f '{{.State.Status}} {{.State.ExitCode}}' polite)" "exited 7"
}

if [[ ! -e /opt/gantry-test/cut ]]; then
    say "first boot, $(uname -r), $(stat -fc %T /sys/fs/cgroup)"
    law "the service starts and is ready" service
    law "cgroup v2 with the systemd driver is seen" unified
    law "AppArmor is seen" armoured
    law "an image is imported" image
    law "docker run prints" hello
    law "a container is confined by docker-default" confined
    law "an exec is confined by docker-default" confined_exec
    law "apparmor=unconfined is obeyed" unconfined
    law "limits are in the cgroup, updates and stats too" limits
    law "a container over its memory is OOMKilled" killed_for_memory
    law "pause and unpause by the freezer of v2" paused
    law "the journal gets a container's lines" journal
    law "quotas bound a container and a volume" bounded
    law "a published port answers on v4 and v6" published
    law "a killed gantryd is started again and nothing ended" killed
    law "systemctl restart leaves containers running" restarted
    law "socket activation" socket
    law "records for the power cut" records
    ((failed)) && journalctl -u gantry.service --no-pager | tail -n 40
    touch cut && sync cut .
    say CUT
    sleep 600
elif [[ ! -e /opt/gantry-test/rebooted ]]; then
    say "second boot, after the power cut"
    law "the service is ready" service
    law "restart=always runs again" soon is_running always
    law "containers and volumes are there" docker start -a rests
    law "a container starts on the bridge" hello
    law "all are removed" sh -c 'docker rm -f $(docker ps -aq) && docker volume rm kept'
    law "containers for the reboot" polite
    ((failed)) && journalctl -u gantry.service -b --no-pager | tail -n 40
    touch rebooted && sync rebooted .
    say REBOOT
    systemctl reboot
else
    say "third boot, after systemd's reboot"
    law "the service is ready" service
    law "a container was stopped by its own signal before the host went down" asked
    law "restart=always runs again" soon is_running again
    law "all are removed" sh -c 'docker rm -f $(docker ps -aq)'
    ((failed)) && journalctl -u gantry.service -b -1 --no-pager | tail -n 40
    say DONE
    systemctl poweroff
fi
