/// Written by tools for desktops, builds and tests.
extension Shape {
    static let tools = [
        Shape(
            "quickemu: SPICE, audio, a shared folder over 9p", .refused("host directory"),
            """
            -name jammy,process=jammy -machine q35,smm=off,vmport=off -smp cores=2,threads=1,sockets=1 -m 256 -device virtio-balloon
            -display none -audiodev none,id=audio0 -device intel-hda -device hda-micro,audiodev=audio0 -rtc base=localtime,clock=host,driftfix=slew
            -spice disable-ticketing=on,unix=on,addr={dir}/j.sock -device virtio-serial-pci -chardev socket,id=agent0,path={dir}/agent.sock,server=on,wait=off
            -device virtserialport,chardev=agent0,name=org.qemu.guest_agent.0 -device virtio-rng-pci,rng=rng0 -object rng-random,id=rng0,filename=/dev/urandom
            -device qemu-xhci,id=spicepass -device usb-ehci,id=input -device usb-kbd,bus=input.0 -device usb-tablet,bus=input.0
            -fsdev local,id=fsdev0,path={dir},security_model=mapped-xattr -device virtio-9p-pci,fsdev=fsdev0,mount_tag=Public
            -device virtio-blk-pci,drive=SystemDisk -drive id=SystemDisk,if=none,format=qcow2,file={qcow2}
            """),
        Shape(
            "quickemu without the folder",
            """
            -name jammy,process=jammy -machine q35,smm=off,vmport=off -smp cores=2,threads=1,sockets=1 -m 256 -device virtio-balloon
            -audiodev none,id=audio0 -device intel-hda -device hda-micro,audiodev=audio0 -rtc base=localtime,clock=host,driftfix=slew
            -device virtio-vga,xres=1280,yres=800 -device virtio-net,netdev=nic -netdev user,hostname=jammy,id=nic
            -global driver=cfi.pflash01,property=secure,value=off -drive if=pflash,format=raw,unit=0,file={flash},readonly=on
            -device virtio-blk-pci,drive=SystemDisk -drive id=SystemDisk,if=none,format=qcow2,file={qcow2}
            -monitor unix:{dir}/mon.socket,server,nowait -serial unix:{dir}/ser.socket,server,nowait
            """),
        Shape(
            "GNS3: the old way to write a card and a disk",
            """
            -name win -m 256M -smp cpus=2,sockets=1 -machine smm=off -boot order=c -drive file={qcow2},format=qcow2,if=ide,index=0,media=disk,id=drive0
            -serial none -vnc none -monitor none -net none -device e1000,mac=0c:5a:11:22:00:00,netdev=gns3-0 -netdev user,id=gns3-0
            """),
        Shape(
            "avocado: pvpanic, debug console, an unused throttle group",
            """
            -S -name avocado-vm1 -sandbox on -machine q35,memory-backend=mem-m -m 256M -object '{"size":268435456,"id":"mem-m","qom-type":"memory-backend-ram"}'
            -nodefaults -device VGA,bus=pcie.0,addr=0x2 -device pvpanic,ioport=0x505,id=idX -smp 2,maxcpus=4,cores=2,threads=1,dies=1,sockets=2
            -chardev socket,path={dir}/mon1,wait=off,server=on,id=qmp_id_q1 -mon chardev=qmp_id_q1,mode=control
            -chardev file,id=seabioslog,path={dir}/seabios.log -device isa-debugcon,chardev=seabioslog,iobase=0x402
            -object '{"qom-type":"throttle-group","id":"group1"}' -object iothread,id=iothread0 -device virtio-scsi-pci,id=virtio_scsi_pci0,bus=pcie.0,iothread=iothread0
            -blockdev node-name=file_image1,driver=file,auto-read-only=on,discard=unmap,aio=threads,filename={qcow2},cache.direct=on,cache.no-flush=off
            -blockdev node-name=drive_image1,driver=qcow2,read-only=off,cache.direct=on,cache.no-flush=off,file=file_image1
            -device scsi-hd,id=image1,drive=drive_image1,write-cache=on -rtc base=utc,clock=host,driftfix=slew -boot menu=off,order=cdn,once=c,strict=off
            """),
        Shape(
            "packer: discard, an answer file on a floppy",
            """
            -name build-9 -machine type=pc,accel=kvm -m 256M -smp 2 -drive file={qcow2},if=virtio,cache=writeback,discard=ignore,format=qcow2
            -cdrom {cd} -boot once=d -fda {floppy} -netdev user,id=user.0 -device virtio-net,netdev=user.0 -vnc 127.0.0.1:62
            """),
        Shape(
            "vagrant: libvirt's old -drive form",
            """
            -name guest=default -S -machine pc,usb=off -m 256 -nodefaults -drive file={raw},format=raw,if=none,id=drive-virtio-disk0
            -device virtio-blk-pci,bus=pci.0,addr=0x5,drive=drive-virtio-disk0,id=virtio-disk0,bootindex=1
            -device virtio-net-pci,id=net0 -vga cirrus
            """),
        Shape(
            "osbuild: a throttled drive",
            """
            -m 256 -nographic -drive file={raw},format=raw,if=virtio,throttling.iops-total=4000,throttling.group=build,id=d0
            -nic user,model=virtio-net-pci
            """),
        Shape(
            "minikube: two ISO images and a second disk",
            """
            -name minikube -cpu qemu64 -m 256 -smp 2 -boot d -nographic -cdrom {cd} -drive file={raw},if=virtio,format=raw -drive file={qcow2},if=virtio,format=qcow2
            -device virtio-rng-pci -nic user,model=virtio,hostfwd=tcp:127.0.0.1:0-:22 -qmp unix:{dir}/monitor,server,nowait
            """),
    ]
}
