/// Written by libvirt for its users: itself, virt-manager, oVirt, Nova, KubeVirt and Harvester.
extension Shape {
    private static let libvirtHead = """
        -name guest=GUEST,debug-threads=on -S
        -object '{"qom-type":"secret","id":"masterKey0","format":"raw","file":"{dir}/master-key.aes"}'
        """
    private static let libvirtMonitor = """
        -no-user-config -nodefaults -chardev socket,id=charmonitor,path={dir}/libvirt.monitor,server=on,wait=off
        -mon chardev=charmonitor,id=monitor,mode=control -rtc base=utc,driftfix=slew -global kvm-pit.lost_tick_policy=delay
        -no-shutdown -boot strict=on
        """

    static let libvirt = [
        Shape(
            "libvirt pc, raw over virtio",
            """
            \(libvirtHead) -machine pc-i440fx-7.2,usb=off,dump-guest-core=off,memory-backend=pc.ram -accel kvm -cpu qemu64
            -m size=262144k -object '{"qom-type":"memory-backend-ram","id":"pc.ram","size":268435456}' -overcommit mem-lock=off
            -smp 2,sockets=2,cores=1,threads=1 -uuid 31a4d2e6-0f7b-4f0c-9e6e-9f3a1d2c0b01 \(libvirtMonitor)
            -device '{"driver":"piix3-usb-uhci","id":"usb","bus":"pci.0","addr":"0x1.0x2"}'
            -blockdev '{"driver":"file","filename":"{raw}","node-name":"libvirt-1-storage","cache":{"direct":true,"no-flush":false},"auto-read-only":true,"discard":"unmap"}'
            -blockdev '{"node-name":"libvirt-1-format","read-only":false,"cache":{"direct":true,"no-flush":false},"driver":"raw","file":"libvirt-1-storage"}'
            -device '{"driver":"virtio-blk-pci","bus":"pci.0","addr":"0x4","drive":"libvirt-1-format","id":"virtio-disk0","bootindex":1,"write-cache":"on"}'
            -netdev '{"type":"tap","ifname":"{tap}","script":"no","downscript":"no","id":"hostnet0"}'
            -device '{"driver":"virtio-net-pci","netdev":"hostnet0","id":"net0","mac":"52:54:00:4a:00:01","bus":"pci.0","addr":"0x3"}'
            -chardev pty,id=charserial0 -device '{"driver":"isa-serial","chardev":"charserial0","id":"serial0","index":0}'
            -audiodev '{"id":"audio1","driver":"none"}' -vnc none -device '{"driver":"cirrus-vga","id":"video0","bus":"pci.0","addr":"0x2"}'
            -device '{"driver":"virtio-balloon-pci","id":"balloon0","bus":"pci.0","addr":"0x5"}'
            -sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny -msg timestamp=on
            """),
        Shape(
            "virt-manager q35, qcow2, qxl and spice channels", starts: false,
            """
            \(libvirtHead) -machine pc-q35-7.2,usb=off,vmport=off,hpet=off -accel kvm -cpu host,migratable=on -m 1024 -smp 2
            \(libvirtMonitor) -device '{"driver":"pcie-root-port","port":8,"chassis":1,"id":"pci.1","bus":"pcie.0","addr":"0x2"}'
            -device '{"driver":"virtio-serial-pci","id":"virtio-serial0","bus":"pci.1"}'
            -blockdev '{"driver":"file","filename":"/var/lib/libvirt/images/desk.qcow2","node-name":"libvirt-2-storage"}'
            -blockdev '{"node-name":"libvirt-2-format","driver":"qcow2","file":"libvirt-2-storage","backing":null}'
            -device '{"driver":"virtio-blk-pci","drive":"libvirt-2-format","id":"virtio-disk0"}'
            -device '{"driver":"ide-cd","bus":"ide.0","id":"sata0-0-0"}'
            -chardev spicevmc,id=charchannel1,name=vdagent
            -device '{"driver":"virtserialport","bus":"virtio-serial0.0","nr":2,"chardev":"charchannel1","id":"channel1","name":"com.redhat.spice.0"}'
            -spice port=0,disable-ticketing=on,image-compression=off,seamless-migration=on
            -device '{"driver":"qxl-vga","id":"video0","max_outputs":1,"ram_size":67108864,"vram_size":67108864,"vgamem_mb":16,"bus":"pcie.0","addr":"0x1"}'
            """),
        Shape(
            "virt-manager with two USB redirections", .refused("not replicated"),
            """
            \(libvirtHead) -machine pc-q35-7.2,usb=off -m 256 \(libvirtMonitor) -device '{"driver":"qemu-xhci","id":"usb","bus":"pcie.0"}'
            -chardev spicevmc,id=charredir0,name=usbredir -device '{"driver":"usb-redir","chardev":"charredir0","id":"redir0","bus":"usb.0"}'
            -spice unix=on,addr={dir}/spice.sock,disable-ticketing=on
            """),
        Shape(
            "libvirt with a vTPM for Windows", .refused("TPM"), starts: false,
            """
            \(libvirtHead) -machine pc-q35-7.2,smm=on -m 4096 \(libvirtMonitor)
            -chardev socket,id=chrtpm,path=/run/libvirt/qemu/swtpm/3-win.sock -tpmdev emulator,id=tpm-tpm0,chardev=chrtpm
            -device '{"driver":"tpm-crb","tpmdev":"tpm-tpm0","id":"tpm0"}'
            """),
        Shape(
            "libvirt with a passed network card", .refused("passed-through"), starts: false,
            """
            \(libvirtHead) -machine pc-q35-7.2 -m 4096 \(libvirtMonitor)
            -device '{"driver":"vfio-pci","host":"0000:3b:02.1","id":"hostdev0","bus":"pcie.0","addr":"0x3"}'
            """),
        Shape(
            "libvirt with a throttled disk on a backing chain",
            """
            \(libvirtHead) -machine pc-q35-7.2 -m 256 \(libvirtMonitor)
            -object '{"qom-type":"throttle-group","id":"throttle-vda","limits":{"iops-total":500}}'
            -blockdev '{"driver":"file","filename":"{raw}","node-name":"libvirt-2-storage","read-only":true}'
            -blockdev '{"node-name":"libvirt-2-format","read-only":true,"driver":"raw","file":"libvirt-2-storage"}'
            -blockdev '{"driver":"file","filename":"{qcow2}","node-name":"libvirt-1-storage","discard":"unmap"}'
            -blockdev '{"node-name":"libvirt-1-format","driver":"qcow2","file":"libvirt-1-storage","backing":"libvirt-2-format"}'
            -blockdev '{"driver":"throttle","node-name":"libvirt-vda-throttle","throttle-group":"throttle-vda","file":"libvirt-1-format"}'
            -device '{"driver":"virtio-blk-pci","drive":"libvirt-vda-throttle","id":"virtio-disk0"}'
            """),
        Shape(
            "oVirt: hot-pluggable memory, NUMA, virtio-scsi with iothread, VGA",
            """
            \(libvirtHead) -machine pc-q35-7.2,usb=off -accel kvm -cpu qemu64 -m size=262144k,slots=16,maxmem=2097152k
            -smp 1,maxcpus=8,sockets=8,dies=1,cores=1,threads=1 -object '{"qom-type":"iothread","id":"iothread1"}'
            -object '{"qom-type":"memory-backend-ram","id":"ram-node0","size":268435456}' -numa node,nodeid=0,cpus=0-7,memdev=ram-node0
            -smbios type=1,manufacturer=oVirt,product=RHEL,version=8.7,serial=41d2,uuid=11111111-2222-3333-4444-555555555555
            \(libvirtMonitor) -device '{"driver":"qemu-xhci","p2":8,"p3":8,"id":"ua-usb","bus":"pcie.0","addr":"0x4"}'
            -device '{"driver":"virtio-scsi-pci","iothread":"iothread1","id":"ua-scsi","bus":"pcie.0","addr":"0x5"}'
            -blockdev '{"driver":"file","filename":"{raw}","aio":"native","node-name":"libvirt-1-storage","cache":{"direct":true,"no-flush":false}}'
            -blockdev '{"node-name":"libvirt-1-format","driver":"raw","file":"libvirt-1-storage","cache":{"direct":true,"no-flush":false}}'
            -device '{"driver":"scsi-hd","bus":"ua-scsi.0","channel":0,"scsi-id":0,"lun":0,"device_id":"d4f1","drive":"libvirt-1-format","id":"ua-disk","serial":"d4f1","werror":"stop","rerror":"stop"}'
            -device '{"driver":"VGA","id":"ua-video","vgamem_mb":16,"bus":"pcie.0","addr":"0x1"}' -device '{"driver":"i6300esb","id":"ua-watchdog","bus":"pcie.0","addr":"0x6"}'
            -watchdog-action reset -object '{"qom-type":"rng-random","id":"objua-rng","filename":"/dev/urandom"}'
            -device '{"driver":"virtio-rng-pci","rng":"objua-rng","id":"ua-rng","bus":"pcie.0","addr":"0x7"}' -device '{"driver":"vmcoreinfo"}'
            """),
        Shape(
            "oVirt: a shared iSCSI LUN passed through", .refused("passes a host disk"), starts: false,
            """
            \(libvirtHead) -machine pc-q35-7.2 -m 4096 \(libvirtMonitor) -device '{"driver":"virtio-scsi-pci","id":"ua-scsi"}'
            -blockdev '{"driver":"host_device","filename":"/dev/mapper/36001405","node-name":"libvirt-1-backend"}'
            -device '{"driver":"scsi-block","bus":"ua-scsi.0","drive":"libvirt-1-backend","id":"ua-lun"}'
            """),
        Shape(
            "Nova: memfd, qcow2 on an image cache, console log",
            """
            -name guest=instance-0000002a,debug-threads=on -S -machine pc-q35-7.2,memory-backend=pc.ram -accel kvm -m size=262144k
            -object '{"qom-type":"memory-backend-memfd","id":"pc.ram","share":true,"x-use-canonical-path-for-ramblock-id":false,"size":268435456}'
            -smp 1 -smbios 'type=1,manufacturer=OpenStack Foundation,product=OpenStack Nova,family=Virtual Machine' \(libvirtMonitor)
            -device pcie-root-port,port=16,chassis=1,id=pci.1,bus=pcie.0,multifunction=on,addr=0x2
            -blockdev '{"driver":"file","filename":"{raw}","node-name":"libvirt-2-storage","read-only":true}'
            -blockdev '{"node-name":"libvirt-2-format","read-only":true,"driver":"raw","file":"libvirt-2-storage"}'
            -blockdev '{"driver":"file","filename":"{qcow2}","node-name":"libvirt-1-storage","cache":{"direct":true,"no-flush":false}}'
            -blockdev '{"node-name":"libvirt-1-format","driver":"qcow2","file":"libvirt-1-storage","backing":"libvirt-2-format","cache":{"direct":true,"no-flush":false}}'
            -device virtio-blk-pci,bus=pci.1,addr=0x0,drive=libvirt-1-format,id=virtio-disk0,bootindex=1
            -chardev pty,id=charserial0,logfile={dir}/console.log,logappend=on
            -device isa-serial,chardev=charserial0,id=serial0 -device virtio-vga,id=video0,max_outputs=1,bus=pcie.0,addr=0x1
            -device vmcoreinfo
            """),
        Shape(
            "Nova: a volume on Ceph", .refused("lies on rbd"), starts: false,
            """
            -name guest=instance-0000002b -S -machine pc-q35-7.2 -m 4096 \(libvirtMonitor)
            -blockdev '{"driver":"rbd","pool":"volumes","image":"volume-77aa","server":[{"host":"10.1.1.1","port":"6789"}],"node-name":"libvirt-1-storage"}'
            -blockdev '{"node-name":"libvirt-1-format","driver":"raw","file":"libvirt-1-storage"}'
            -device virtio-blk-pci,drive=libvirt-1-format,id=virtio-disk0
            """),
        Shape(
            "Nova: vhost-user interfaces of a DPDK switch", .refused("bypasses QEMU"), starts: false,
            """
            -name guest=instance-0000002c -S -machine pc-q35-7.2 -m 4096 \(libvirtMonitor)
            -chardev socket,id=charnet0,path=/var/run/openvswitch/vhu1,server=on -netdev vhost-user,chardev=charnet0,id=hostnet0
            -device virtio-net-pci,netdev=hostnet0,id=net0
            """),
        Shape(
            "KubeVirt: root ports, container disk, cloud-init, agent channel",
            """
            -name guest=default_web,debug-threads=on -S -machine pc-q35-7.2,usb=off,dump-guest-core=off,acpi=on -accel kvm -m size=262144k
            -object '{"qom-type":"iothread","id":"iothread1"}' \(libvirtMonitor)
            -device '{"driver":"pcie-root-port","port":16,"chassis":1,"id":"pci.1","bus":"pcie.0","multifunction":true,"addr":"0x2"}'
            -device '{"driver":"pcie-root-port","port":17,"chassis":2,"id":"pci.2","bus":"pcie.0","addr":"0x2.0x1"}'
            -device '{"driver":"pcie-root-port","port":18,"chassis":3,"id":"pci.3","bus":"pcie.0","addr":"0x2.0x2"}'
            -device '{"driver":"virtio-serial-pci-non-transitional","id":"virtio-serial0","bus":"pci.2","addr":"0x0"}'
            -blockdev '{"driver":"file","filename":"{raw}","node-name":"libvirt-2-storage","cache":{"direct":true,"no-flush":false},"discard":"unmap"}'
            -blockdev '{"node-name":"libvirt-2-format","driver":"raw","file":"libvirt-2-storage","cache":{"direct":true,"no-flush":false},"discard":"unmap"}'
            -device '{"driver":"virtio-blk-pci-non-transitional","bus":"pci.3","addr":"0x0","drive":"libvirt-2-format","id":"ua-rootdisk","write-cache":"on","werror":"stop","rerror":"stop","iothread":"iothread1"}'
            -blockdev '{"driver":"file","filename":"{cd}","node-name":"libvirt-1-storage","read-only":true}'
            -blockdev '{"node-name":"libvirt-1-format","driver":"raw","read-only":true,"file":"libvirt-1-storage"}'
            -device '{"driver":"ide-cd","bus":"ide.1","drive":"libvirt-1-format","id":"ua-cloudinit"}'
            -netdev '{"type":"tap","ifname":"{tap}","script":"no","downscript":"no","id":"hostua-default"}'
            -device '{"driver":"virtio-net-pci-non-transitional","host_mtu":1450,"netdev":"hostua-default","id":"ua-default","mac":"02:00:00:aa:00:07","bus":"pci.1","addr":"0x0","romfile":""}'
            -chardev socket,id=charserial0,path={dir}/virt-serial0,server=on,wait=off,logfile={dir}/virt-serial0-log,logappend=on
            -device '{"driver":"isa-serial","chardev":"charserial0","id":"serial0"}'
            -chardev socket,id=charchannel0,path={dir}/org.qemu.guest_agent.0,server=on,wait=off
            -device '{"driver":"virtserialport","bus":"virtio-serial0.0","nr":1,"chardev":"charchannel0","id":"channel0","name":"org.qemu.guest_agent.0"}'
            -vnc vnc=unix:{dir}/virt-vnc,audiodev=audio1 -audiodev '{"id":"audio1","driver":"none"}' -sandbox on
            """),
        Shape(
            "Harvester: a shared directory by virtiofs", .refused("outside of QEMU"), starts: false,
            """
            -name guest=default_share -S -machine pc-q35-7.2,memory-backend=mem -m 4096
            -object memory-backend-memfd,id=mem,size=4G,share=on \(libvirtMonitor)
            -chardev socket,id=chr-vu-fs0,path=/var/run/kubevirt/virtiofs.sock -device vhost-user-fs-pci,id=fs0,chardev=chr-vu-fs0,tag=share
            """),
    ]
}
