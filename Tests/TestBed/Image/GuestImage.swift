import Foundation

/// A kernel and an initramfs that boot to the guest's services in a few seconds:
/// echo on TCP port 7, `dirtier` on 8, `disk-writer` on 9, shell commands on 10, streams in bulk on 11, redis on 6379; and
/// `guest-agent` where the machine has a port for one.
/// Built once from Debian's packages and the C sources in `Guest/`, then found again by what it was built from.
public struct GuestImage: Sendable {
    /// Which of Debian's kernels. `cloud` starts faster and has no driver for e1000 and for the watchdog i6300esb;
    /// `generic` has them.
    public enum Kernel: String, Sendable, CaseIterable {
        case cloud
        case generic

        var package: String { self == .cloud ? "linux-image-cloud-amd64" : "linux-image-amd64" }
        var modules: [String] {
            let common = [
                "virtio_pci", "virtio_net", "virtio_blk", "virtio_scsi", "virtio_balloon", "virtio_console", "ata_piix",
                "ahci",
                "sd_mod",
            ]
            return self == .cloud ? common : common + ["e1000", "i6300esb"]
        }
    }

    public let kernel: Kernel
    /// The bzImage for `-kernel` and the cpio archive for `-initrd`.
    public let kernelPath: String
    public let initrdPath: String

    /// `$ROMULUS_CACHE`, or a folder of the user's cache; shared by clones of the repository.
    public static var defaultCache: String {
        let environment = ProcessInfo.processInfo.environment
        if let path = environment["ROMULUS_CACHE"] { return path }
        return (environment["XDG_CACHE_HOME"] ?? "\(environment["HOME"] ?? "/var/tmp")/.cache") + "/romulus-test-bed"
    }

    /// Builds the image, or finds it in the cache. Any number of processes may call this at once: one builds.
    public static func build(
        kernel: Kernel = .cloud, cacheDirectory: String = defaultCache
    ) throws -> GuestImage {
        let files = FileManager.default
        try files.createDirectory(atPath: cacheDirectory, withIntermediateDirectories: true)
        let lock = try FileLock("\(cacheDirectory)/lock-\(kernel.rawValue)")
        defer { lock.release() }
        let package = try KernelPackage.concrete(of: kernel)
        let key = try contentKey(package: package)
        let directory = "\(cacheDirectory)/\(kernel.rawValue)-\(key)"
        let image = GuestImage(
            kernel: kernel, kernelPath: "\(directory)/vmlinuz", initrdPath: "\(directory)/initramfs.cpio")
        if files.fileExists(atPath: directory) {
            try files.setAttributes([.modificationDate: Date()], ofItemAtPath: directory)
            return image
        }
        let work = try TemporaryDirectory("image", under: cacheDirectory)
        defer { work.remove() }
        try assemble(kernel: kernel, package: package, in: work.path)
        try files.moveItem(atPath: "\(work.path)/result", toPath: directory)
        prune(cacheDirectory)
        return image
    }

    /// Removes images, and what interrupted builds left, that no one has used for two weeks.
    private static func prune(_ cacheDirectory: String) {
        let files = FileManager.default
        let limit = Date(timeIntervalSinceNow: -14 * 86400)
        for name in (try? files.contentsOfDirectory(atPath: cacheDirectory)) ?? [] where !name.hasPrefix("lock-") {
            let path = "\(cacheDirectory)/\(name)"
            let facts = try? files.attributesOfItem(atPath: path)
            if let date = facts?[.modificationDate] as? Date, date < limit { try? files.removeItem(atPath: path) }
        }
    }

    private static let bed = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    /// The C sources and the init script, where this repository lies.
    private static let sources = bed.appendingPathComponent("Guest")
    static let tools = [
        "echo-server", "dirtier", "disk-writer", "command-server", "stream-server", "disk-reader", "guest-agent",
    ]
    private static let programs = ["/bin/busybox", "/usr/bin/redis-server"]
    /// Compiles one of the guest's tools; what it makes runs on any Linux machine.
    public static func compileTool(_ tool: String, to path: String) throws(BedError) {
        try compile(sources.appendingPathComponent("\(tool).c").path, to: path)
    }

    /// Compiles one of the tools that run on a host of the bed.
    static func compileHostTool(_ tool: String, to path: String) throws(BedError) {
        try compile(bed.appendingPathComponent("Host/\(tool).c").path, to: path)
    }

    /// Compiles what is loaded into a program of a host.
    static func compileHostLibrary(_ library: String, to path: String) throws(BedError) {
        try compile(bed.appendingPathComponent("Host/\(library).c").path, to: path, as: ["-shared", "-fPIC"])
    }

    private static func compile(_ source: String, to path: String, as kind: [String] = ["-static"]) throws(BedError) {
        try Child.run(["gcc", "-O2"] + kind + ["-pthread", "-Wall", "-Wextra", "-Werror", "-s", "-o", path, source])
    }

    /// Raise this when the way in which the archive is put together changes.
    private static let recipe = 3

    private static func contentKey(package: String) throws -> String {
        var key = Fingerprint()
        key.add(Data("\(recipe) \(package)".utf8))
        for name in try FileManager.default.contentsOfDirectory(atPath: sources.path).sorted() {
            key.add(Data(name.utf8))
            key.add(try Data(contentsOf: sources.appendingPathComponent(name)))
        }
        for program in programs {
            let path = URL(fileURLWithPath: program).resolvingSymlinksInPath().path
            guard let facts = try? FileManager.default.attributesOfItem(atPath: path),
                let size = facts[.size] as? Int, let date = facts[.modificationDate] as? Date
            else { throw BedError("\(program) is missing; run `make install-packages`.") }
            key.add(Data("\(path) \(size) \(Int(date.timeIntervalSince1970))".utf8))
        }
        return key.description
    }

    private static func assemble(kernel: Kernel, package: String, in work: String) throws {
        let unpacked = try KernelPackage.unpack(package, in: work)
        let result = "\(work)/result"
        try FileManager.default.createDirectory(atPath: result, withIntermediateDirectories: true)
        try FileManager.default.moveItem(atPath: unpacked.kernelPath, toPath: "\(result)/vmlinuz")

        var archive = InitramfsArchive()
        for directory in ["dev", "proc", "sys", "tmp", "data"] { archive.addDirectory(directory) }
        archive.add("init", try Data(contentsOf: sources.appendingPathComponent("init.sh")), isExecutable: true)
        let modules = try KernelModules(under: unpacked.modulesPath).loadOrder(for: kernel.modules)
        for module in modules {
            archive.add("modules/\(module.fileName)", try Data(contentsOf: URL(fileURLWithPath: module.path)))
        }
        archive.add("modules/order", Data(modules.map { "\($0.fileName)\n" }.joined().utf8))
        for tool in tools {
            let built = "\(work)/\(tool)"
            try compileTool(tool, to: built)
            archive.add("bin/\(tool)", try Data(contentsOf: URL(fileURLWithPath: built)), isExecutable: true)
        }
        archive.add("bin/busybox", try Data(contentsOf: URL(fileURLWithPath: programs[0])), isExecutable: true)
        for applet in try Child.run([programs[0], "--list"]).split(separator: "\n") where applet != "busybox" {
            archive.addLink("bin/\(applet)", to: "busybox")
        }
        try archive.addProgram("/usr/bin/redis-server", as: "bin/redis-server")
        try archive.finished().write(to: URL(fileURLWithPath: "\(result)/initramfs.cpio"))
    }
}

/// FNV-1a of 64 bits: names a cache entry, protects nothing.
struct Fingerprint: CustomStringConvertible {
    private var value: UInt64 = 0xcbf2_9ce4_8422_2325

    mutating func add(_ data: Data) {
        for byte in data { value = (value ^ UInt64(byte)) &* 0x100_0000_01b3 }
    }

    var description: String {
        let digits = String(value, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }
}
