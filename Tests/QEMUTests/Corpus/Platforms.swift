/// Written by platforms that start QEMU by themselves.
extension Shape {
    private static let proxmoxHead = """
        -name db,debug-threads=on -no-shutdown -chardev socket,id=qmp,path={dir}/204.qmp,server=on,wait=off
        -mon chardev=qmp,mode=control -pidfile {dir}/204.pid -smbios type=1,uuid=64f0c7a1-90b2-4a3b-8a8e-1f2d3c4b5a69
        -smp 2,sockets=1,cores=2,maxcpus=2 -nodefaults -boot menu=on,strict=on,reboot-timeout=1000 -vnc unix:{dir}/204.vnc
        -cpu qemu64 -m 256
        """

    static let platforms = [
        Shape(
            "Proxmox 9: a throttle over qcow2 in one node, io_uring",
            """
            \(proxmoxHead) -object '{"id":"throttle-drive-scsi0","limits":{},"qom-type":"throttle-group"}'
            -device pci-bridge,id=pci.1,chassis_nr=1,bus=pci.0,addr=0x1e -device pci-bridge,id=pci.2,chassis_nr=2,bus=pci.0,addr=0x1f
            -device piix3-usb-uhci,id=uhci,bus=pci.0,addr=0x1.0x2 -device usb-tablet,id=tablet,bus=uhci.0,port=1 -device VGA,id=vga,bus=pci.0,addr=0x2
            -device virtio-balloon-pci,id=balloon0,bus=pci.0,addr=0x3,free-page-reporting=on -iscsi initiator-name=iqn.1993-08.org.debian:01:ab
            -device ide-cd,bus=ide.1,unit=0,id=ide2,bootindex=200 -device virtio-scsi-pci,id=scsihw0,bus=pci.0,addr=0x5
            -blockdev '{"driver":"throttle","node-name":"drive-scsi0","throttle-group":"throttle-drive-scsi0","file":{"driver":"qcow2","node-name":"f0","cache":{"direct":false,"no-flush":false},"detect-zeroes":"on","discard":"ignore","file":{"driver":"file","node-name":"e0","filename":"{qcow2}","aio":"threads","cache":{"direct":false,"no-flush":false},"detect-zeroes":"on","discard":"ignore"}}}'
            -device scsi-hd,bus=scsihw0.0,channel=0,scsi-id=0,lun=0,drive=drive-scsi0,id=scsi0,device_id=drive-scsi0,bootindex=100,write-cache=on
            -netdev type=tap,id=net0,ifname={tap},script=no,downscript=no,vhost=off
            -device virtio-net-pci,mac=A2:C0:43:77:08:A0,netdev=net0,bus=pci.0,addr=0x12,id=net0,rx_queue_size=1024,tx_queue_size=256,bootindex=300
            -machine type=pc-i440fx-7.2 -device vmgenid,guid=3b2f7a54-0d5c-4a32-a2ac-2e1a1b0c9d8e
            """),
        Shape(
            "Proxmox 8: -drive with cache=none, virtio-scsi-single",
            """
            \(proxmoxHead) -object iothread,id=iothread-virtioscsi0 -device virtio-scsi-pci,id=virtioscsi0,bus=pci.0,addr=0x1e,iothread=iothread-virtioscsi0
            -drive file={raw},if=none,id=drive-scsi0,format=raw,cache=none,aio=native,detect-zeroes=unmap,discard=on
            -device scsi-hd,bus=virtioscsi0.0,channel=0,scsi-id=0,lun=0,drive=drive-scsi0,id=scsi0,rotation_rate=1,bootindex=100
            -drive if=none,id=drive-ide2,media=cdrom,aio=threads -device ide-cd,bus=ide.1,unit=0,drive=drive-ide2,id=ide2
            -machine accel=tcg,type=pc-i440fx-7.2
            """),
        Shape(
            "Proxmox 8: a card with two queues",
            """
            \(proxmoxHead) -netdev type=tap,id=net1,ifname={tap},script=no,downscript=no,vhost=off,queues=2
            -device virtio-net-pci,mac=A2:C0:43:77:08:A1,netdev=net1,mq=on,vectors=6 -machine type=pc-i440fx-7.2
            """),
        Shape(
            "Proxmox q35: devices in a file, OVMF's variables in a disk",
            """
            \(proxmoxHead) -readconfig {cfg} -drive if=pflash,unit=0,format=raw,readonly=on,file={flash}
            -drive if=pflash,unit=1,id=drive-efidisk0,format=raw,file={vars}
            -machine type=pc-q35-7.2 -device qemu-xhci,id=xhci,bus=pcie.0,addr=0x1b
            """),
        Shape(
            "Proxmox: vhost, as it is set up at first (refused where the process has the kernel's worker open)",
            starts: false,
            """
            \(proxmoxHead) -netdev type=tap,id=net0,ifname=tap204i0,script=/usr/libexec/qemu-server/pve-bridge,vhost=on
            -device virtio-net-pci,netdev=net0,id=net0 -machine type=pc
            """),
        Shape(
            "Proxmox NUMA with two nodes",
            """
            \(proxmoxHead) -object memory-backend-ram,id=ram-node0,size=128M -numa node,nodeid=0,cpus=0,memdev=ram-node0
            -object memory-backend-ram,id=ram-node1,size=128M -numa node,nodeid=1,cpus=1,memdev=ram-node1 -machine type=pc-i440fx-7.2
            """),
        Shape(
            "Ganeti: short booleans, two monitors, an alias for the balloon",
            """
            -enable-kvm -name web1.example.org -m 256 -smp 1 -pidfile {dir}/web1.pid -device virtio-balloon -D {dir}/web1.log
            -machine pc-i440fx-5.2 -monitor unix:{dir}/web1.monitor,server,nowait -qmp unix:{dir}/web1.kvmd,server,nowait
            -boot c -vnc 127.0.0.1:61,to=99 -usb -device usb-tablet -no-shutdown -serial none
            -netdev type=tap,id=nic-9f1,ifname={tap},script=no,downscript=no -device virtio-net-pci,id=nic-9f1,bus=pci.0,addr=0xd,netdev=nic-9f1,mac=aa:00:00:12:34:56
            -drive file={raw},format=raw,if=none,aio=threads,cache=none,discard=ignore,id=disk-2a7,auto-read-only=off
            -device virtio-blk-pci,id=disk-2a7,bus=pci.0,addr=0xc,drive=disk-2a7
            """),
        Shape(
            "CloudStack: a console over TCP, disks on NFS",
            """
            -name guest=i-2-17-VM -S -machine pc-i440fx-7.2 -m 256 -nodefaults -uuid 0f4b0be4-33f2-4d37-8ce4-78cf2dd61cf0
            -drive file={qcow2},format=qcow2,if=none,id=drive-virtio-disk0,cache=writeback -device virtio-blk-pci,drive=drive-virtio-disk0,id=virtio-disk0
            -chardev socket,id=charserial0,host=127.0.0.1,port=0,server=on,wait=off -device isa-serial,chardev=charserial0,id=serial0
            -vga cirrus
            """),
        Shape(
            "OpenNebula: one disk read-only, context on a CD",
            """
            -name guest=one-31 -S -machine pc-q35-7.2 -m 256 -nodefaults -boot order=c
            -blockdev '{"driver":"qcow2","node-name":"fmt1","file":{"driver":"file","filename":"{qcow2}","discard":"unmap"}}' -device virtio-blk-pci,drive=fmt1,id=virtio-disk0
            -blockdev '{"driver":"raw","node-name":"fmt2","read-only":true,"file":{"driver":"file","filename":"{cd}"}}' -device ide-cd,drive=fmt2,id=sata0-0-0
            -device e1000,id=net0 -vga std
            """),
    ]
}
