import Foundation
import Logging
import Memory
import Model
import NIOCore
import Shipping
import Standby
import Storage
import Wire

/// Answers what the primary asks about the copy, as it is with `applied`.
struct CopyAnswers {
    /// Pages that are digested before it is looked whether something more urgent waits.
    private static let pagesAtOnce: UInt32 = 2048

    let vm: VMName
    let replica: Replica
    let session: SessionID
    let applied: Epoch
    let log: Logger
    /// The guest is to go on here, or the replica is given up: nobody waits for answers.
    let isLeaving: () -> Bool

    /// Nil where there is nothing to say.
    func frame(for question: CopyQuestion) throws(SessionError) -> ByteBuffer? {
        switch question {
        case .read(let request): read(request)
        case .digests(let request): digests(request)
        case .pageDigests(let request): try pageDigests(request)
        case .verify(let epoch, let question): try verify(question, at: epoch)
        }
    }

    private func read(_ request: DiskRead) -> ByteBuffer {
        var data = [UInt8](repeating: 0, count: Int(request.length))
        var status: UInt32 = 0
        do {
            let disk = try replica.disk(request.disk)
            try data.withUnsafeMutableBufferPointer { (bytes) throws(StorageError) in
                try disk.read(offset: request.offset, into: UnsafeMutableRawBufferPointer(bytes))
            }
        } catch {
            log.warning("a disk read of the primary failed: \(error)", metadata: ["vm": "\(vm)"])
            status = UInt32(EIO)
            data = []
        }
        return data.withUnsafeBytes { controlFrame(DiskReadReply(id: request.id, status: status, data: $0)) }
    }

    private func digests(_ request: DiskDigests) -> ByteBuffer? {
        do {
            guard request.chunkSize == UInt32(ChunkDigest.chunkSize) else {
                throw SessionError(.protocolBroken, "digests of \(request.chunkSize)-byte chunks were asked for")
            }
            let digests = try replica.disk(request.disk).digests(
                firstChunk: request.first, count: Int(request.count))
            return digests.withUnsafeBytes {
                controlFrame(
                    DiskDigestsReply(
                        disk: request.disk, chunkSize: request.chunkSize, first: request.first, digests: $0))
            }
        } catch {
            // The primary goes on without: it then sends everything.
            log.warning("digests of the disk image cannot be made: \(error)", metadata: ["vm": "\(vm)"])
            return nil
        }
    }

    private func memory() throws(SessionError) -> ReplicaMemory {
        guard let memory = replica.memory else {
            throw SessionError(.protocolBroken, "digests of pages were asked for in a session that has disks only")
        }
        return memory
    }

    private func pageDigests(_ request: PageDigests) throws(SessionError) -> ByteBuffer {
        try memory().digests(request).withUnsafeBytes {
            controlFrame(PageDigestsReply(block: request.block, first: request.first, digests: $0))
        }
    }

    private func verify(_ question: VerifyQuestion, at epoch: Epoch) throws(SessionError) -> ByteBuffer? {
        let isThere = applied == epoch && question.session == session
        guard let digests = isThere ? try digests(question.runs) : [] else { return nil }
        return digests.withUnsafeBytes {
            controlFrame(VerifyReply(session: question.session, digests: $0), epoch: epoch)
        }
    }

    /// Nil when nobody waits for them any more.
    private func digests(_ runs: [PageRun]) throws(SessionError) -> [UInt8]? {
        var digests: [UInt8] = []
        for run in runs {
            var first = run.first
            let end = run.first + run.count
            while first < end {
                if isLeaving() { return nil }
                let count = min(end - first, Self.pagesAtOnce)
                digests += try memory().digests(PageDigests(block: run.block, first: first, count: count))
                first += count
            }
        }
        return digests
    }
}
