#!/bin/sh
# QEMU: a frame that waits until the guest's card has a buffer for it is forgotten when the guest is stopped.
#
# Version:  qemu-system-x86 7.2+dfsg-7+deb12u18+b3 (Debian 12), its e1000, a netdev “socket”.
# Guess:    “stop” and “cont” are no event for the network: a frame that came before, and that the card had no room for, is
#           handed over once the guest runs again and has given it buffers, as it is when nobody stops the guest.
# Seen:     without a stop both frames arrive as soon as there are buffers. With “stop” and “cont” while they wait, none does,
#           and no counter and no message tells of it.
# Matters:  whoever stops a guest often, for checkpoints say, loses frames of guests that are slower than what is sent to them.
#           TCP repeats them; datagrams are gone.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir -p debs/partial root
: > status
# Its libraries, too, whatever this machine has.
apt-get -qq -o APT::Sandbox::User=root -o Dir::State::status="$folder/status" -o Dir::Cache::archives="$folder/debs" \
    -o Debug::NoLocking=1 --no-install-recommends --download-only -y install \
    "qemu-system-x86=1:7.2+dfsg-7+deb12u18+b3" > /dev/null
for file in debs/qemu-system-*.deb debs/lib*.deb; do
    case $file in
    debs/libc6_* | debs/libc-bin_*) ;;
    *) dpkg-deb -x "$file" root ;;
    esac
done
qemu=$folder/root/usr/bin/qemu-system-x86_64
LD_LIBRARY_PATH=$folder/root/usr/lib/x86_64-linux-gnu:$folder/root/lib/x86_64-linux-gnu
QEMU_MODULE_DIR=$folder/root/usr/lib/x86_64-linux-gnu/qemu
export LD_LIBRARY_PATH QEMU_MODULE_DIR
$qemu --version | head -n 1

cat > look.py <<'END'
import json, os, socket, struct, subprocess, sys, time

BAR, RING, BUFFERS = 0xE0000000, 0x100000, 0x200000  # where the card's registers and its memory lie


def arrivals(is_stopped):
    """Sends two frames to a card without buffers, gives it buffers, and returns which frames are in them."""
    for path in ("qtest", "qmp"):
        if os.path.exists(path):
            os.unlink(path)
    place = socket.socket(socket.AF_UNIX)
    place.bind("qtest")
    place.listen(1)
    ours, theirs = socket.socketpair()
    # The processor halts at its first instruction; the card is driven from outside.
    with open("bios", "wb") as file:
        file.write(b"\xf4" * (64 << 10))
    qemu = subprocess.Popen([
        sys.argv[1], "-accel", "tcg", "-machine", "pc", "-m", "16", "-nodefaults", "-display", "none", "-vga", "none",
        "-bios", "bios", "-qtest", "unix:qtest", "-qtest-log", "/dev/null", "-qmp", "unix:qmp,server=on,wait=off",
        "-netdev", "socket,id=n,fd=%d" % theirs.fileno(), "-device", "e1000,netdev=n,addr=2,romfile="],
        pass_fds=[theirs.fileno()], stderr=subprocess.DEVNULL)
    qtest = place.accept()[0].makefile("rw")
    line = socket.socket(socket.AF_UNIX)
    for _ in range(200):
        try:
            line.connect("qmp")
            break
        except OSError:
            time.sleep(0.05)
    monitor = line.makefile("rw")

    def ask(*words):
        qtest.write(" ".join(word if isinstance(word, str) else hex(word) for word in words) + "\n")
        qtest.flush()
        while True:
            answer = qtest.readline().split()
            if answer[0] != "IRQ":
                assert answer[0] == "OK", answer
                return int(answer[1], 16) if len(answer) > 1 else None

    def execute(command):
        monitor.write(json.dumps({"execute": command}) + "\n")
        monitor.flush()
        while "return" not in json.loads(monitor.readline()):
            pass

    monitor.readline()
    execute("qmp_capabilities")
    for register, value in ((0x10, BAR), (0x04, 6)):  # PCI: where the registers are, and that they answer
        ask("outl", 0xCF8, 0x80001000 | register)
        ask("outl", 0xCFC, value)
    for slot in range(8):
        ask("writeq", RING + 16 * slot, BUFFERS + 4096 * slot)
        ask("writeq", RING + 16 * slot + 8, 0)
    # RDBAL, RDBAH, RDLEN, RDH, RDT of 8 descriptors, none of them given to the card; RCTL: receive all there is.
    for register, value in ((0x2800, RING), (0x2804, 0), (0x2808, 128), (0x2810, 0), (0x2818, 0), (0x0100, 0x800A)):
        ask("writel", BAR + register, value)
    time.sleep(1.5)  # the card waits a second after it was told to receive
    for number in (1, 2):
        frame = b"\xff" * 6 + b"\x02\0\0\0\0\1" + b"\x88\xb5" + bytes([number]) * 60
        ours.sendall(struct.pack(">I", len(frame)) + frame)
    time.sleep(0.5)
    if is_stopped:
        execute("stop")
        execute("cont")
    ask("writel", BAR + 0x2818, 7)
    time.sleep(0.5)
    seen = [ask("readb", BUFFERS + 4096 * slot + 14) for slot in range(ask("readl", BAR + 0x2810))]
    execute("quit")
    qemu.wait()
    return seen


print("undisturbed", *arrivals(False), "stopped", *arrivals(True))
END
seen=$(python3 look.py "$qemu")
echo "frames that arrived: $seen"
[ "$seen" = "undisturbed 1 2 stopped" ] || {
    echo "this behaves in another way now" >&2
    exit 1
}
