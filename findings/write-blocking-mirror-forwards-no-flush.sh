#!/bin/sh
# QEMU: a mirror in copy mode write-blocking hands on the writes of its user, and not the flushes.
#
# Version:  qemu-storage-daemon and qemu-io 7.2+dfsg-7+deb12u18+b3 (Debian 12).
# Guess:    with copy-mode=write-blocking, where a write is done only when the target has it, a flush is done only when the target
#           was flushed as well: a power cut of both leaves on the target what the source's user had flushed.
# Seen:     of write, flush, write, flush the target gets both writes, each before it is answered, and no flush between them.
#           One flush comes when the job ends.
# Matters:  who takes a mirror's target for a copy with the barriers of its source. What was flushed is there in the target's
#           cache only; the target has to be written out by somebody else.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
for package in qemu-system-common qemu-utils; do
    apt-get -o APT::Sandbox::User=root download "$package=1:7.2+dfsg-7+deb12u18+b3" > /dev/null
done
for package in liburing2=2.3-3 libaio1=0.3.113-4 libfuse3-3=3.14.0-4; do apt-get -o APT::Sandbox::User=root download "$package" > /dev/null; done
for file in *.deb; do dpkg-deb -x "$file" root; done
PATH=$folder/root/usr/bin:$PATH
LD_LIBRARY_PATH=$folder/root/usr/lib/x86_64-linux-gnu:$folder/root/lib/x86_64-linux-gnu
export PATH LD_LIBRARY_PATH
qemu-storage-daemon --version | head -n 1

cat > look.py <<'END'
import json, os, socket, struct, subprocess, time

for name, size in (("source", 1 << 20), ("target", 1 << 20), ("log", 0)):
    with open(name, "wb") as file:
        file.truncate(size)
# What reaches the target is written down by a filter above it (block/blklogwrites.c).
daemon = subprocess.Popen([
    "qemu-storage-daemon", "--chardev", "socket,id=m,path=qmp,server=on,wait=off", "--monitor", "chardev=m",
    "--blockdev", "file,node-name=source,filename=source", "--blockdev", "file,node-name=below,filename=target",
    "--blockdev", "file,node-name=log,filename=log", "--blockdev", "blklogwrites,node-name=target,file=below,log=log"])
line = socket.socket(socket.AF_UNIX)
for _ in range(200):
    try:
        line.connect("qmp")
        break
    except OSError:
        time.sleep(0.05)
stream = line.makefile("rw")


def ask(command, **arguments):
    stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
    stream.flush()
    while True:
        answer = json.loads(stream.readline())
        if "return" in answer:
            return
        assert "error" not in answer, answer


stream.readline()
ask("qmp_capabilities")
ask("blockdev-mirror", **{
    "job-id": "copy", "device": "source", "target": "target", "sync": "none", "copy-mode": "write-blocking",
    "filter-node-name": "top"})
ask("nbd-server-start", addr={"type": "unix", "data": {"path": os.getcwd() + "/nbd"}})
ask("block-export-add", **{"type": "nbd", "id": "export", "node-name": "top", "name": "disk", "writable": True})
words = ["write -P 7 0 64k", "flush", "write -P 8 64k 64k", "flush"]
subprocess.run(
    ["qemu-io", "-f", "raw", "-t", "writeback"] + [part for word in words for part in ("-c", word)]
    + ["nbd+unix:///disk?socket=" + os.getcwd() + "/nbd"], check=True, stdout=subprocess.DEVNULL)
ask("quit")
daemon.wait()

# Header: magic, version, entries, sector size; an entry: sector, sectors, flags (1: flush, 4: discard), length.
with open("log", "rb") as file:
    log = file.read()
_, _, entries, size = struct.unpack_from("<QQQI", log)
place, seen = size, []
for _ in range(entries):
    _, sectors, flags, _ = struct.unpack_from("<QQQQ", log, place)
    seen.append("flush" if flags & 1 else "write")
    place += size + (0 if flags & 4 else sectors * 512)
print(" ".join(seen))
END
seen=$(python3 look.py)
echo "the target got: $seen"
[ "$seen" = "write write flush" ] || {
    echo "this behaves in another way now" >&2
    exit 1
}
