import Foundation

/// Debian's kernel as a package: which one, its files, its modules. Nothing of it is installed on this machine.
enum KernelPackage {
    struct Unpacked {
        let kernelPath: String
        let modulesPath: String
    }

    /// The package with the files, such as `linux-image-6.1.0-56-cloud-amd64`, and its version, as `NAME=VERSION`.
    static func concrete(of kernel: GuestImage.Kernel) throws(BedError) -> String {
        if let found = try? lookUp(kernel) { return found }
        try Child.run(["apt-get", "-qq", "update"], limit: .seconds(300))
        return try lookUp(kernel)
    }

    private static func lookUp(_ kernel: GuestImage.Kernel) throws(BedError) -> String {
        let text = try Child.run(["apt-cache", "show", "--no-all-versions", kernel.package])
        // Depends: linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2)
        guard let line = text.split(separator: "\n").first(where: { $0.hasPrefix("Depends:") }),
            let name = line.split(whereSeparator: { " ,(".contains($0) }).first(where: { $0.hasPrefix("linux-image-") }
            ),
            let version = text.split(separator: "\n").first(where: { $0.hasPrefix("Version:") })
        else { throw BedError("`apt-cache show \(kernel.package)` names no kernel package.") }
        return "\(name)=\(version.dropFirst("Version:".count).trimmingCharacters(in: .whitespaces))"
    }

    static func unpack(_ package: String, in work: String) throws -> Unpacked {
        let download = "\(work)/download"
        let root = "\(work)/root"
        for path in [download, root] {
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        }
        let command = ["env", "-C", download, "apt-get", "-qq", "download", package]
        do {
            try Child.run(command, limit: .seconds(600))
        } catch {
            // Lists that are older than the archive name files which are no longer there.
            try Child.run(["apt-get", "-qq", "update"], limit: .seconds(300))
            try Child.run(command, limit: .seconds(600))
        }
        guard let file = try FileManager.default.contentsOfDirectory(atPath: download).first else {
            throw BedError("`apt-get download \(package)` left no file.")
        }
        try Child.run(["dpkg", "-x", "\(download)/\(file)", root], limit: .seconds(300))
        guard
            let kernel = try FileManager.default.contentsOfDirectory(atPath: "\(root)/boot")
                .first(where: { $0.hasPrefix("vmlinuz-") }),
            let release = try FileManager.default.contentsOfDirectory(atPath: "\(root)/lib/modules").first
        else { throw BedError("\(file) holds no kernel.") }
        return Unpacked(kernelPath: "\(root)/boot/\(kernel)", modulesPath: "\(root)/lib/modules/\(release)")
    }
}

/// The modules of an unpacked kernel. `modules.dep` is made on installation only, so what a module needs is read from
/// the module itself (`depends=` in its `.modinfo` section).
struct KernelModules {
    struct Module {
        let path: String
        var fileName: String { URL(fileURLWithPath: path).lastPathComponent }
    }

    private var paths: [String: String] = [:]

    init(under root: String) throws {
        guard let all = FileManager.default.enumerator(atPath: root) else { throw BedError("\(root) is no directory.") }
        while let file = all.nextObject() as? String {
            guard file.hasSuffix(".ko") else { continue }
            paths[Self.name(of: file)] = "\(root)/\(file)"
        }
    }

    private static func name(of file: String) -> String {
        URL(fileURLWithPath: file).deletingPathExtension().lastPathComponent.replacingOccurrences(of: "-", with: "_")
    }

    /// The modules and all that they need, each after what it needs. A name without a file is built into the kernel.
    func loadOrder(for names: [String]) throws -> [Module] {
        var order: [Module] = []
        var done = Set<String>()
        func visit(_ name: String) throws {
            guard done.insert(name).inserted, let path = paths[name] else { return }
            let data = try Data(contentsOf: URL(fileURLWithPath: path))
            for need in Self.needs(in: data) { try visit(need) }
            order.append(Module(path: path))
        }
        for name in names { try visit(name) }
        return order
    }

    private static func needs(in module: Data) -> [String] {
        guard let start = module.range(of: Data("\0depends=".utf8))?.upperBound,
            let end = module[start...].firstIndex(of: 0)
        else { return [] }
        return String(decoding: module[start..<end], as: UTF8.self).split(separator: ",")
            .map { $0.replacingOccurrences(of: "-", with: "_") }
    }
}
