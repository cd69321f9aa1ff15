/// Written by people, in units and scripts.
extension Shape {
    static let hands = [
        Shape("an image and nothing else", "-m 128 {qcow2}"),
        Shape(
            "a unit with a tap and no ids",
            """
            -name shop -M q35 -m 256 -nodefaults -drive file={raw},if=virtio,aio=native,cache=none,format=raw
            -nic tap,ifname={tap},model=virtio-net-pci,script=no,downscript=no -serial unix:{dir}/shop.console,server=on,wait=off
            -monitor unix:{dir}/shop.monitor,server=on,wait=off -device i6300esb -action watchdog=reset -sandbox on
            """),
        Shape(
            "two nameless cards",
            "-m 128 -nographic -nic user,model=e1000 -nic tap,ifname={tap},script=no,downscript=no,model=virtio-net-pci"
        ),
        Shape("the defaults of 2009", "-m 128 -net nic,model=rtl8139 -net user -hda {qcow2}"),
        Shape(
            "three on a hub", .refused("hub"), "-m 128 -net nic,model=e1000 -net nic,model=rtl8139 -net user"),
        Shape(
            "the console and the monitor on stdio",
            "-nographic -m 128 -serial mon:stdio -drive if=none,id=r,file={raw},format=raw -device virtio-blk-pci,drive=r"
        ),
        Shape(
            "a copy-on-read overlay",
            "-m 128 -nodefaults -blockdev driver=copy-on-read,node-name=top,file.driver=qcow2,file.file.driver=file,file.file.filename={qcow2} -device virtio-blk-pci,drive=top"
        ),
        Shape(
            "throttled by nodes in a -drive",
            "-m 128 -nodefaults -object throttle-group,id=g -drive driver=throttle,throttle-group=g,file.driver=qcow2,file.file.filename={qcow2},if=virtio,id=d"
        ),
        Shape(
            "a drive in JSON",
            #"-m 128 -nodefaults -drive 'file=json:{"driver":"qcow2",,"file":{"driver":"file",,"filename":"{qcow2}"}},if=virtio,id=d'"#
        ),
        Shape(
            "an emulated NVMe disk", .refused("nvme"),
            "-m 128 -nodefaults -drive file={raw},if=none,id=n,format=raw -device nvme,drive=n,serial=1"),
        Shape(
            "an NVMe controller that QEMU drives itself", .refused("unseen"), starts: false,
            "-m 4096 -nodefaults -blockdev driver=nvme,device=0000:01:00.0,namespace=1,node-name=fast -device virtio-blk-pci,drive=fast,id=d0"
        ),
        Shape("a qxl card", starts: false, "-m 128 -nodefaults -vga qxl"),
        Shape("virtio graphics", "-m 128 -nodefaults -vga virtio -device usb-ehci -device usb-tablet"),
        Shape(
            "a fake disk of nothing", .refused("no size"),
            "-m 128 -nodefaults -drive file.driver=null-co,file.size=0,file.read-zeroes=on,format=raw,if=virtio"),
        Shape(
            "a disk behind a network block device", .refused("lies on nbd"), starts: false,
            "-m 128 -nodefaults -blockdev driver=nbd,server.type=unix,server.path=/run/n.sock,node-name=nb -device virtio-blk-pci,drive=nb,id=d0"
        ),
        Shape(
            "two cards, one of them with the kernel's vhost", starts: false,
            "-m 128 -netdev tap,id=a,ifname=t0,vhost=on -device virtio-net-pci,netdev=a -netdev tap,id=b,ifname=t1 -device virtio-net-pci,netdev=b"
        ),
        Shape(
            "memory to plug in later",
            "-m 128,slots=2,maxmem=1G -nodefaults -object memory-backend-ram,id=m1,size=64M -device pc-dimm,memdev=m1,id=dimm1"
        ),
    ]
}
