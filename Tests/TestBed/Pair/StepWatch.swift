import Foundation

/// Looks at the steps that one agent makes to the outside, and ends it at one of them as `kill -9` does: `Host/steps.c`, loaded
/// into the agents. A proxy before QEMU's monitor would not do: the agent asks the kernel who made the socket, and attaches to that.
public final class StepWatch: Sendable {
    /// The n-th step of that name: `qmp blockdev-add`, `netlink`, `file NAME`, `spawn NAME`, `net` (a write to a TCP connection).
    public struct Step: Hashable, Sendable, CustomStringConvertible {
        public var name: String
        public var occurrence: Int
        public init(_ name: String, _ occurrence: Int) {
            self.name = name
            self.occurrence = occurrence
        }
        public var description: String { occurrence == 1 ? name : "\(name) (\(occurrence))" }
    }

    /// As in the C source: where the fields are, how long a name is, and how many are kept.
    private enum Layout {
        static let (pid, occurrence, isAfter, count, name, made) = (0, 4, 8, 12, 16, 72)
        static let (nameSize, stepsMax) = (56, 8000)
        static let size = made + nameSize * stepsMax
    }

    /// What every agent that is to be looked at is started with.
    public let environment: [String: String]
    private nonisolated(unsafe) let memory: UnsafeMutableRawPointer

    public init(on host: BedHost) throws {
        let (library, path) = ("\(host.runtimeDirectory)/steps.so", "\(host.runtimeDirectory)/steps")
        try GuestImage.compileHostLibrary("steps", to: library)
        let file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard file >= 0, ftruncate(file, off_t(Layout.size)) == 0,
            let memory = mmap(nil, Layout.size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0), memory != MAP_FAILED
        else { throw BedError("\(path) cannot be mapped: \(String(cString: strerror(errno))).") }
        close(file)
        self.memory = memory
        environment = ["LD_PRELOAD": library, "ROMULUS_STEPS": path]
    }

    deinit { munmap(memory, Layout.size) }

    /// From here on the steps of this process are counted; it ends at `last`, before it or once it is done.
    public func begin(_ pid: pid_t, endingAt last: Step? = nil, isAfter: Bool = false) {
        memory.storeBytes(of: 0, toByteOffset: Layout.pid, as: Int32.self)
        memset(memory + Layout.occurrence, 0, Layout.size - Layout.occurrence)
        if let last {
            memory.storeBytes(of: Int32(last.occurrence), toByteOffset: Layout.occurrence, as: Int32.self)
            memory.storeBytes(of: isAfter ? 1 : 0, toByteOffset: Layout.isAfter, as: Int32.self)
            let bytes = Array(last.name.utf8.prefix(Layout.nameSize - 1))
            memcpy(memory + Layout.name, bytes, bytes.count)
        }
        memory.storeBytes(of: pid, toByteOffset: Layout.pid, as: Int32.self)
    }

    /// Nobody is looked at any more.
    /// - Returns: the steps that were made, in order.
    @discardableResult
    public func end() -> [Step] {
        memory.storeBytes(of: 0, toByteOffset: Layout.pid, as: Int32.self)
        let count = Int(memory.load(fromByteOffset: Layout.count, as: Int32.self))
        var seen: [String: Int] = [:]
        return (0..<count).map { index in
            let place = memory + Layout.made + index * Layout.nameSize
            let name = String(cString: place.assumingMemoryBound(to: CChar.self))
            seen[name, default: 0] += 1
            return Step(name, seen[name] ?? 1)
        }
    }
}
