import Glibc

/// A small ustar archive in memory (POSIX.1-2017, pax “ustar Interchange Format”): enough for a few plain files.
public struct TarArchive: Sendable {
    public private(set) var bytes: [UInt8] = []

    public init() {}

    /// Adds a file that belongs to root. `name` has at most 100 bytes.
    public mutating func add(_ name: String, mode: UInt32, contents: [UInt8], time: Int = Glibc.time(nil)) {
        precondition(name.utf8.count <= 100, "a name in the archive has at most 100 bytes")
        var header = [UInt8](repeating: 0, count: 512)
        func put(_ text: String, at offset: Int) {
            header.replaceSubrange(offset..<offset + text.utf8.count, with: Array(text.utf8))
        }
        func octal(_ value: Int, _ digits: Int, at offset: Int) {
            let text = String(value, radix: 8)
            put(String(repeating: "0", count: digits - text.count) + text, at: offset)
        }
        put(name, at: 0)
        octal(Int(mode), 7, at: 100)
        octal(0, 7, at: 108)
        octal(0, 7, at: 116)
        octal(contents.count, 11, at: 124)
        octal(max(0, time), 11, at: 136)
        put("0", at: 156)
        put("ustar", at: 257)
        put("00", at: 263)
        put("root", at: 265)
        put("root", at: 297)
        // The sum counts its own field as blanks.
        put("        ", at: 148)
        octal(header.reduce(0) { $0 + Int($1) }, 6, at: 148)
        header[154] = 0
        bytes += header + contents
        bytes += [UInt8](repeating: 0, count: (512 - contents.count % 512) % 512)
    }

    /// Two empty blocks end the archive.
    public mutating func finish() {
        bytes += [UInt8](repeating: 0, count: 1024)
    }
}
