import Glibc
import Hypervisor
import LinuxSystem
import Model
import Wire

/// The replica's RAM: one file per block in the memory directory, mapped here. The main RAM's file is the very memory
/// of the standby QEMU (`memory-backend-file`, `share=on`); the other blocks travel in the resume stream.
///
/// All of it is reserved before the first copy starts: a standby that runs out of memory in the middle of an apply
/// would be none. A file that is there already, from an older replica, is taken as it is.
package final class ReplicaMemory: @unchecked Sendable {
    // SAFETY: `targets` never changes after init; the bytes are written by the apply thread only, and read by the
    // thread that composes the resume stream after the apply thread was asked for it.
    package let blocks: [RAMBlock]
    private let targets: [UnsafeMutableRawBufferPointer]

    /// Bytes that the blocks take in the memory directory.
    package static func size(of blocks: [RAMBlock]) -> UInt64 { blocks.reduce(0) { $0 + ($1.tracked ? $1.length : 0) } }

    /// `paths` has one entry for each block.
    package init(blocks: [RAMBlock], paths: [String], recovering: Bool) throws(SystemError) {
        self.blocks = blocks
        var mapped: [UnsafeMutableRawBufferPointer] = []
        do throws(SystemError) {
            for (block, path) in zip(blocks, paths) {
                mapped.append(try Self.map(block, path, recovering: recovering))
            }
        } catch {
            for target in mapped { _ = munmap(target.baseAddress, target.count) }
            throw error
        }
        targets = mapped
    }

    deinit {
        for target in targets where target.count > 0 { _ = munmap(target.baseAddress, target.count) }
    }

    /// What the standby's guest has no file for, and must be told when it loads its state.
    package var unsharedBlocks: [BlockContents] {
        blocks.enumerated().compactMap { position, block in
            guard block.tracked, !block.inSharedFile, let pages = target(block.index) else { return nil }
            return BlockContents(block: position, bytes: UnsafeRawBufferPointer(pages))
        }
    }

    /// The bytes of a block, or nil when there is no such block, or it is not shipped.
    package func target(_ index: UInt16) -> UnsafeMutableRawBufferPointer? {
        guard Int(index) < targets.count, targets[Int(index)].count > 0 else { return nil }
        return targets[Int(index)]
    }

    /// What is there now, 16 bytes for each page that is asked for.
    package func digests(_ question: PageDigests) throws(SessionError) -> [UInt8] {
        guard let pages = target(question.block),
            Int(question.first) + Int(question.count) <= pages.count / pageSize
        else {
            throw SessionError(
                .protocolBroken,
                "digests of \(question.count) pages from \(question.first) of RAM block \(question.block) were asked for,"
                    + " which are not there")
        }
        return PageDigest.make(
            ofPages: pages.baseAddress! + Int(question.first) * pageSize, count: Int(question.count))
    }

    private static func map(
        _ block: RAMBlock, _ path: String, recovering: Bool
    ) throws(SystemError) -> UnsafeMutableRawBufferPointer {
        guard block.tracked else { return UnsafeMutableRawBufferPointer(start: nil, count: 0) }
        let descriptor = open(path, O_RDWR | O_CLOEXEC | (recovering ? 0 : O_CREAT), 0o600)
        guard descriptor >= 0 else { throw SystemError(operation: "open", errno: errno, subject: path) }
        defer { _ = close(descriptor) }
        if !recovering {
            let code = posix_fallocate(descriptor, 0, off_t(block.length))
            guard code == 0 else {
                throw SystemError(
                    operation: "reserve \(block.length) bytes for RAM block \(block.name)", errno: code, subject: path)
            }
        }
        guard
            let base = mmap(nil, Int(block.length), PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0),
            base != MAP_FAILED
        else { throw SystemError(operation: "mmap", errno: errno, subject: path) }
        return UnsafeMutableRawBufferPointer(start: base, count: Int(block.length))
    }
}
