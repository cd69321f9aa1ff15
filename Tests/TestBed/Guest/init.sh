#!/bin/sh
# First process of the test guest. Words of the kernel command line:
#   bed.ip=ADDRESS/PREFIX  bed.gateway=ADDRESS  bed.ready=WORD   (the word that ends the line READY on the console)
export PATH=/bin:/sbin:/usr/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /dev/pts /dev/shm /tmp /data
mount -t tmpfs tmpfs /dev/shm

while read -r module; do
    insmod "/modules/$module" || echo "insmod $module failed"
done < /modules/order

address= gateway= ready=
for word in $(cat /proc/cmdline); do
    case "$word" in
    bed.ip=*) address="${word#bed.ip=}" ;;
    bed.gateway=*) gateway="${word#bed.gateway=}" ;;
    bed.ready=*) ready="${word#bed.ready=}" ;;
    esac
done
hostname guest
ip link set lo up
if [ -n "$address" ] && [ -e /sys/class/net/eth0 ]; then
    ip address add "$address" dev eth0
    ip link set eth0 up
    [ -z "$gateway" ] || ip route add default via "$gateway"
fi

# A guest with a watchdog hangs when it did not feed it for 4 s.
[ ! -e /dev/watchdog ] || watchdog -t 1 -T 4 /dev/watchdog

# A write error of a test's own making must not flood the console, and the console must not slow the guest.
echo 1 > /proc/sys/kernel/printk
echo 1 > /proc/sys/vm/overcommit_memory
/bin/echo-server 7 &
/bin/dirtier 8 &
/bin/disk-writer 9 &
/bin/command-server 10 &
/bin/stream-server 11 &
/bin/guest-agent &
redis-server --port 6379 --bind 0.0.0.0 --protected-mode no --save '' --appendonly no --dir /data \
    --hz 1 --daemonize no > /tmp/redis.log 2>&1 &

tries=0
until [ "$(netstat -ltn 2>/dev/null | grep -cE ':(7|8|9|10|11|6379) ')" -ge 6 ] || [ $tries -ge 200 ]; do
    tries=$((tries + 1))
    usleep 20000
done
echo "ROMULUS-GUEST READY $ready"
while :; do wait; sleep 3600; done
