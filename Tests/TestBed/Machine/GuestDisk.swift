import Foundation

/// A disk image file for a guest.
public struct GuestDisk: Sendable, Equatable {
    public enum Format: String, Sendable, CaseIterable {
        case raw
        case qcow2
    }

    public enum Content: Sendable, Equatable {
        case zero
        /// Bytes that follow from the seed, so that no block is zero and two disks differ.
        case random(seed: UInt64)
        /// Every sector of 512 bytes holds its own number, as `disk-reader` expects.
        case sectorNumbers

        func word(_ index: Int) -> UInt64 {
            switch self {
            case .zero: 0
            case .random(let seed): mix(seed &+ UInt64(index))
            case .sectorNumbers: UInt64(index / 64)
            }
        }
    }

    public var path: String
    public let format: Format
    public let bytes: Int

    /// Makes the image file; an existing one of that path is replaced.
    public static func create(
        _ path: String, format: Format = .raw, mebibytes: Int, content: Content = .zero
    ) throws(BedError) -> GuestDisk {
        let disk = GuestDisk(path: path, format: format, bytes: mebibytes << 20)
        unlink(path)
        switch (format, content) {
        case (_, .zero):
            try Child.run(["qemu-img", "create", "-q", "-f", format.rawValue, path, "\(disk.bytes)"])
        case (.raw, _): try write(content, to: path, bytes: disk.bytes)
        case (.qcow2, _):
            try write(content, to: path + ".raw", bytes: disk.bytes)
            defer { unlink(path + ".raw") }
            try Child.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", path + ".raw", path])
        }
        return disk
    }

    private static func write(_ content: Content, to path: String, bytes: Int) throws(BedError) {
        let file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard file >= 0 else { throw BedError("\(path) cannot be made: \(String(cString: strerror(errno))).") }
        defer { close(file) }
        var block = [UInt64](repeating: 0, count: 1 << 17)
        for part in 0..<(bytes >> 20) {
            for index in block.indices { block[index] = content.word(part << 17 + index) }
            guard block.withUnsafeBytes({ Glibc.write(file, $0.baseAddress, $0.count) }) == 1 << 20 else {
                throw BedError("\(path) cannot be written: \(String(cString: strerror(errno))).")
            }
        }
    }
}

/// SplitMix64, as in `Guest/guest.h`.
func mix(_ value: UInt64) -> UInt64 {
    var x = value &+ 0x9e37_79b9_7f4a_7c15
    x = (x ^ (x >> 30)) &* 0xbf58_476d_1ce4_e5b9
    x = (x ^ (x >> 27)) &* 0x94d0_49bb_1331_11eb
    return x ^ (x >> 31)
}
