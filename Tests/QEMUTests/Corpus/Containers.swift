/// Written by managers of system containers, which start VMs beside them.
extension Shape {
    static let containers = [
        Shape(
            "Incus: most of the machine in a file, disks and cards plugged in by the monitor",
            """
            -S -name c1 -uuid 5a1b9d0e-6d6c-4e3f-8d5c-77b6a5d2e101 -cpu qemu64 -nographic -serial chardev:console -nodefaults -no-user-config
            -sandbox on,obsolete=deny,elevateprivileges=allow,spawn=allow,resourcecontrol=deny -readconfig {cfg}
            -chardev ringbuf,id=console,size=1048576 -pidfile {dir}/qemu.pid -D {dir}/qemu.log
            -drive file={flash},if=pflash,format=raw,unit=0,readonly=on -m 256 -machine q35
            """),
        Shape(
            "LXD: the host's directory over virtio-9p", .refused("host directory"),
            """
            -S -name c2 -machine q35 -m 256 -nodefaults -nographic -serial none -fsdev local,id=qemu_config,path={dir},security_model=none,readonly=on
            -device virtio-9p-pci,fsdev=qemu_config,mount_tag=config,id=dev-config
            """),
        Shape(
            "LXD: vsock for its agent", .refused("vsock"), starts: false,
            """
            -S -name c3 -machine q35 -m 256 -nodefaults
            -device vhost-vsock-pci,guest-cid=37,id=qemu_vsock
            """),
        Shape(
            "Kata: nvdimm root and virtiofs", .refused("storage that is not mirrored"), starts: false,
            """
            -name sandbox-7d -uuid 88b1 -machine q35,nvdimm=on -m 256M,slots=10,maxmem=2G -nodefaults
            -object memory-backend-file,id=mem0,mem-path=/opt/kata/rootfs.img,size=128M,readonly=on -device nvdimm,id=nv0,memdev=mem0
            """),
        Shape(
            "microvm of a function runner",
            """
            -M microvm,x-option-roms=off,pit=off,pic=off,isa-serial=on,rtc=on -m 128 -nodefaults -no-user-config -serial stdio
            -drive id=root,file={raw},format=raw,if=none -device virtio-blk-device,drive=root
            -netdev user,id=n0 -device virtio-net-device,netdev=n0
            """),
    ]
}
