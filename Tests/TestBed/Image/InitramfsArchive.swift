import Foundation

/// A cpio archive in the "newc" form, the one that Linux unpacks as its first file system: an ASCII header of 110
/// bytes, the name and the content, each padded to 4 bytes; the entry `TRAILER!!!` ends it.
/// Uncompressed: under TCG unpacking costs more than loading.
struct InitramfsArchive {
    private var data = Data()
    private var inode = 1
    private var known = Set<String>()

    mutating func addDirectory(_ path: String) {
        guard known.insert(path).inserted else { return }
        addParent(of: path)
        append(path, mode: 0o40755, content: Data())
    }

    mutating func add(_ path: String, _ content: Data, isExecutable: Bool = false) {
        guard known.insert(path).inserted else { return }
        addParent(of: path)
        append(path, mode: isExecutable ? 0o100755 : 0o100644, content: content)
    }

    mutating func addLink(_ path: String, to target: String) {
        guard known.insert(path).inserted else { return }
        addParent(of: path)
        append(path, mode: 0o120777, content: Data(target.utf8))
    }

    /// Adds a program of this machine with its shared libraries, each at its own path, as `ldd` names them.
    mutating func addProgram(_ program: String, as path: String) throws {
        add(path, try Data(contentsOf: URL(fileURLWithPath: program)), isExecutable: true)
        for line in try Child.run(["ldd", program]).split(separator: "\n") {
            // "\tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x…)" or "\t/lib64/ld-linux-x86-64.so.2 (0x…)"
            guard
                let library = line.split(separator: " ").map({ $0.trimmingCharacters(in: .whitespaces) })
                    .first(where: { $0.hasPrefix("/") })
            else { continue }
            add(String(library.dropFirst()), try Data(contentsOf: URL(fileURLWithPath: library)), isExecutable: true)
        }
    }

    func finished() -> Data {
        var whole = self
        whole.append("TRAILER!!!", mode: 0, content: Data())
        return whole.data
    }

    private mutating func addParent(of path: String) {
        guard let slash = path.lastIndex(of: "/") else { return }
        addDirectory(String(path[..<slash]))
    }

    private mutating func append(_ path: String, mode: Int, content: Data) {
        let name = Array(path.utf8) + [0]
        let links = mode & 0o170000 == 0o40000 ? 2 : 1
        // ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
        let fields = [inode, mode, 0, 0, links, 0, content.count, 0, 0, 0, 0, name.count, 0]
        data.append(Data("070701".utf8))
        for field in fields {
            let digits = String(field, radix: 16)
            data.append(Data((String(repeating: "0", count: 8 - digits.count) + digits).utf8))
        }
        data.append(contentsOf: name)
        pad()
        data.append(content)
        pad()
        inode += 1
    }

    private mutating func pad() {
        data.append(contentsOf: [UInt8](repeating: 0, count: (4 - data.count % 4) % 4))
    }
}
