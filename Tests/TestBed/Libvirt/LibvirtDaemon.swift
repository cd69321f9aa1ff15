import Foundation
import Synchronization

/// A libvirtd of a host of the bed: with folders of its own in place of the machine's, and the host's network.
public final class LibvirtDaemon: Sendable {
    public let host: BedHost
    private let directory: String
    private let process = Mutex<Child?>(nil)

    /// Folders of libvirt, by what stands in their place below `directory`.
    private static let folders = [
        "etc": "/etc/libvirt", "lib": "/var/lib/libvirt", "log": "/var/log/libvirt", "cache": "/var/cache/libvirt",
        "run": "/run/libvirt",
    ]

    /// Starts it, and waits until it answers.
    /// - Parameter hook: the program that is asked before each start of a domain, as `/etc/libvirt/hooks/qemu.d/romulus`; its text.
    public static func start(on host: BedHost, hook: String? = nil) async throws -> LibvirtDaemon {
        let daemon = LibvirtDaemon(host)
        try daemon.makeFolders(hook)
        try await daemon.restart()
        return daemon
    }

    private init(_ host: BedHost) {
        self.host = host
        directory = "\(host.stateDirectory)/libvirt"
    }

    /// The daemon as it is reached from outside of its folders.
    public var uri: String { "qemu+unix:///system?socket=\(directory)/run/libvirt-sock" }

    private func makeFolders(_ hook: String?) throws {
        let files = FileManager.default
        for name in ["etc/hooks/qemu.d", "lib/qemu", "log/qemu", "cache", "run"] {
            try files.createDirectory(atPath: "\(directory)/\(name)", withIntermediateDirectories: true)
        }
        // What a test machine may lack: a security driver, cgroups of its own, systemd, and a /dev that can be taken apart.
        try """
        user = "root"
        group = "root"
        security_driver = "none"
        namespaces = []
        cgroup_controllers = []
        stdio_handler = "file"
        remember_owner = 0
        """.write(toFile: "\(directory)/etc/qemu.conf", atomically: true, encoding: .utf8)
        try """
        auth_unix_rw = "none"
        auth_unix_ro = "none"
        log_outputs = "3:stderr"
        """.write(toFile: "\(directory)/etc/libvirtd.conf", atomically: true, encoding: .utf8)
        if let hook {
            try hook.write(toFile: "\(directory)/etc/hooks/qemu.d/romulus", atomically: true, encoding: .utf8)
            try files.setAttributes([.posixPermissions: 0o755], ofItemAtPath: "\(directory)/etc/hooks/qemu.d/romulus")
        }
    }

    /// Starts the daemon, for the first time or after it was killed; domains that run are not touched.
    public func restart() async throws {
        let mounts = Self.folders.sorted { $0.key < $1.key }.map { "mount --bind \(directory)/\($0.key) \($0.value)" }
        let script = (["mkdir -p /run/libvirt"] + mounts + ["exec libvirtd --pid-file \(directory)/run/libvirtd.pid"])
            .joined(separator: " && ")
        let child = try host.spawn(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", script], name: "libvirtd")
        try await eventually("libvirtd of host \(host.name) answers", within: .seconds(60)) {
            guard child.isRunning else { throw BedError("libvirtd of host \(host.name) ended: \(child.errors)") }
            return (try? virsh(["list"])) != nil ? true : nil
        }
        process.withLock { $0 = child }
    }

    /// Kills the daemon; domains that run are not touched.
    public func kill() async throws { try await process.withLock(\.self)?.killAndWait() }

    /// Runs virsh, and returns what it printed.
    @discardableResult public func virsh(_ arguments: [String]) throws(BedError) -> String {
        try Child.run(["virsh", "--quiet", "--connect", uri] + arguments, limit: .seconds(60))
    }

    /// Runs virsh, and returns how it ended.
    public func outcome(_ arguments: [String]) throws(BedError) -> Child.Outcome {
        try Child.outcome(of: ["virsh", "--quiet", "--connect", uri] + arguments)
    }

    /// Defines a domain from XML.
    public func define(_ xml: String) throws {
        let path = "\(directory)/domain.xml"
        try xml.write(toFile: path, atomically: true, encoding: .utf8)
        try virsh(["define", path])
    }
}

/// The test guest as a domain of libvirt.
public struct LibvirtGuest: Sendable {
    public var name = "web"
    public var uuid = "8d0b7a86-7f07-4d2e-9a55-c5f2a8e9f001"
    public var machine = "q35"
    public var memoryMiB = 256
    public var disk: GuestDisk
    public var address = "10.78.1.10"
    public var serialPath: String
    private let readyWord = "\(getpid()).\(UInt32.random(in: 0...UInt32.max))"

    public init(disk: GuestDisk, on host: BedHost) {
        self.disk = disk
        serialPath = "\(host.logDirectory)/web.serial"
    }

    /// As an operator's tools write it: the card in the bridge by libvirt, nothing for Romulus.
    public func xml(_ image: GuestImage) -> String {
        let command =
            "console=ttyS0 quiet panic=-1 net.ifnames=0 random.trust_cpu=on no_timer_check bed.ip=\(address)/16"
            + " bed.gateway=10.78.0.1 bed.ready=\(readyWord)"
        return """
            <domain type='qemu'>
              <name>\(name)</name>
              <uuid>\(uuid)</uuid>
              <memory unit='MiB'>\(memoryMiB)</memory>
              <vcpu>2</vcpu>
              <os>
                <type arch='x86_64' machine='\(machine)'>hvm</type>
                <kernel>\(image.kernelPath)</kernel>
                <initrd>\(image.initrdPath)</initrd>
                <cmdline>\(command)</cmdline>
              </os>
              <features><acpi/></features>
              <devices>
                <emulator>/usr/bin/qemu-system-x86_64</emulator>
                <disk type='file' device='disk'>
                  <driver name='qemu' type='\(disk.format.rawValue)'/>
                  <source file='\(disk.path)'/>
                  <target dev='vda' bus='virtio'/>
                </disk>
                <interface type='bridge'>
                  <mac address='52:54:00:00:01:0a'/>
                  <source bridge='br0'/>
                  <target dev='tap0'/>
                  <model type='virtio'/>
                  <driver name='qemu'/>
                </interface>
                <serial type='file'><source path='\(serialPath)'/><target port='0'/></serial>
                <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
                <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
                <memballoon model='virtio'/>
              </devices>
            </domain>
            """
    }

    /// Waits until the guest's services listen.
    public func waitUntilReady(within limit: Duration = .seconds(120)) async throws {
        try await eventually("READY of \(name)", within: limit) {
            let console = String(decoding: FileManager.default.contents(atPath: serialPath) ?? Data(), as: UTF8.self)
            return console.contains("ROMULUS-GUEST READY \(readyWord)") ? true : nil
        }
    }
}
