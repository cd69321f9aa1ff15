import CLinux
import Glibc

/// Another process's shared memory, mapped here too: copying from it needs no call into the kernel, which takes less than
/// half the time per page.
///
/// Only memory files that are sealed against shrinking are mapped (QEMU's `memory-backend-memfd` seals them by default): a
/// file that became shorter would end whoever reads it here.
final class SharedView: Sendable {
    private let mapping: Mapping

    var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(mapping.bytes) }

    private init(_ mapping: consuming Mapping) { self.mapping = mapping }

    /// Nil where `block` is not one shared mapping of a sealed memory file, or may not be opened.
    static func make(of block: TrackedBlock, pid: pid_t, _ mappings: [MappedRegion]) -> SharedView? {
        guard let region = mappings.first(where: { $0.start <= block.address && block.address < $0.end }),
            region.shared, region.inode != 0, block.address + block.length <= region.end
        else { return nil }
        let name = "\(String(region.start, radix: 16))-\(String(region.end, radix: 16))"
        do throws(SystemError) {
            let file = try OwnedDescriptor.open("/proc/\(pid)/map_files/\(name)", O_RDONLY)
            let isSealed = try checked(
                rml_is_sealed_against_shrinking(file.number), "look up the seals of", "block \(block.index)")
            let offset = region.offset + block.address - region.start
            guard isSealed == 1, try file.fileLength() >= offset + block.length else { return nil }
            return SharedView(try .shared(file, length: Int(block.length), offset: offset, writable: false))
        } catch {
            return nil
        }
    }
}
