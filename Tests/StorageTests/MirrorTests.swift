import Foundation
import Model
import Storage
import Synchronization
import Testing

/// A running QEMU mirrors its disk to the server, as it does on a protected primary.
@Suite(.timeLimit(.minutes(2)))
struct MirrorTests {
    static let size = 16 << 20
    /// The disk's device: its requests pass the mirror, as a guest's do.
    static let vda = "-d /machine/peripheral/vda/virtio-backend"
    let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    /// A QEMU with the file as its virtio disk, running (its CPU finds nothing to boot).
    private func start(_ path: String) throws -> QEMU {
        try QEMU(
            [
                "-blockdev", "driver=file,node-name=file,filename=\(path)", "-blockdev",
                "driver=raw,node-name=disk,file=file", "-device", "virtio-blk-pci,drive=disk,id=vda",
            ], in: directory, name: "primary")
    }

    private func mirror(_ guest: QEMU, to server: NBDServer) throws {
        try server.listen(at: directory.file("nbd"))
        try guest.command(
            "blockdev-add",
            [
                "driver": "nbd", "node-name": "replica", "export": server.export.name,
                "server": ["type": "unix", "path": directory.file("nbd")],
            ])
        try guest.command(
            "blockdev-mirror",
            [
                "job-id": "mirror", "device": "disk", "target": "replica", "sync": "full",
                "copy-mode": "write-blocking",
            ])
        try guest.waitForEvent("BLOCK_JOB_READY")
    }

    @Test func `after the first copy, and after each stop, the sink has what the guest's disk has`() throws {
        var numbers = SeededGenerator(seed: 50)
        var bytes = [UInt8](repeating: 0, count: Self.size)
        bytes.replaceSubrange(1_000_000..<9_000_000, with: numbers.bytes(8_000_000))
        let path = try directory.write("disk", bytes)
        let sink = MemorySink(size: Self.size)
        // What was there before must go.
        sink.state.withLock { $0.bytes = [UInt8](repeating: 0xcc, count: Self.size) }
        let server = NBDServer(
            .init(name: "vda", disk: 0, size: UInt64(Self.size)), threadName: "nbd-mirror", sink: sink)
        defer { server.stop() }
        let guest = try start(path)
        try mirror(guest, to: server)
        #expect(try guest.status() == "running")
        #expect(firstDifference(sink.bytes, bytes) == nil)

        for round in 1...5 {
            for _ in 0..<20 {
                let offset = Int.random(in: 0..<Self.size / 512 - 300, using: &numbers) * 512
                let length = Int.random(in: 1...200, using: &numbers) * 512
                switch Int.random(in: 0..<4, using: &numbers) {
                case 0: try guest.io(Self.vda, "write -z \(offset) \(length)")
                case 1: try guest.io(Self.vda, "write -f -P \(round) \(offset) \(length)")
                default: try guest.io(Self.vda, "write -P \(round * 16) \(offset) \(length)")
                }
            }
            // Not waited for one by one, as a guest's are not: `stop` drains them.
            for index in 0..<30 { try guest.io(Self.vda, "aio_write -P \(round + 100) \(index * 65536) 64k") }
            let flushes = sink.calls.count { $0 == .flush(disk: 0) }
            try guest.command("stop")
            #expect(try firstDifference(sink.bytes, contents(of: path)) == nil)
            #expect(sink.calls.count { $0 == .flush(disk: 0) } > flushes)
            #expect(sink.bytes[5 * 65536] == UInt8(round + 100))
            try guest.command("cont")
        }
        #expect(server.statistics.failures == 0 && server.statistics.broken == 0)

        // Unprotect: the job and its node go, the guest goes on.
        try guest.command("block-job-cancel", ["device": "mirror"])
        try guest.waitForEvent("BLOCK_JOB_COMPLETED")
        try guest.command("blockdev-del", ["node-name": "replica"])
        #expect(server.statistics.writes > 0)
        try guest.io(Self.vda, "write -P 9 0 512")
        #expect(try guest.status() == "running")
    }

    @Test func `a guest write waits for the sink, and an error of the sink ends the mirror, not the guest`() throws {
        let path = try directory.sparseFile("disk", size: Self.size)
        let sink = MemorySink(size: Self.size)
        let server = NBDServer(
            .init(name: "vda", disk: 0, size: UInt64(Self.size)), threadName: "nbd-mirror", sink: sink)
        defer { server.stop() }
        let guest = try start(path)
        try mirror(guest, to: server)
        sink.fail(with: .unavailable("the link is gone"))
        try guest.io(Self.vda, "aio_write -P 5 0 4096")
        try guest.waitForEvent("BLOCK_JOB_COMPLETED")
        #expect(try guest.status() == "running")
        try guest.io(Self.vda, "write -P 6 4096 4096")
        #expect(server.statistics.lastFailure == "the link is gone")
    }

    @Test func `eight writes of a guest are under way at once, and none is done before the sink says so`() throws {
        let path = try directory.sparseFile("disk", size: Self.size)
        let sink = TicketSink(size: Self.size)
        sink.grantAll()
        let server = NBDServer(
            .init(name: "vda", disk: 0, size: UInt64(Self.size)), threadName: "nbd-mirror", sink: sink)
        defer {
            sink.grantAll()
            server.stop()
        }
        let guest = try start(path)
        try mirror(guest, to: server)
        let copied = sink.holdAll()
        let done = try writesDone(guest)
        for index in 0..<8 { try guest.io(Self.vda, "aio_write -P \(index + 1) \(index * 65536) 4096") }
        sink.await(given: copied + 8)
        #expect(try writesDone(guest) == done)
        #expect(try guest.status() == "running")
        sink.grantAll()
        while try writesDone(guest) < done + 8 { sched_yield() }
        // The drain of a stop waits for what the sink has not taken.
        try guest.command("stop")
        #expect(try firstDifference(sink.bytes, contents(of: path)) == nil)
        #expect(server.statistics.failures == 0 && server.statistics.broken == 0)
    }

    /// How many writes the guest's device was told to be done.
    private func writesDone(_ guest: QEMU) throws -> Int {
        for device in try #require(try guest.command("query-blockstats") as? [[String: Any]]) {
            guard device["qdev"] as? String == "/machine/peripheral/vda/virtio-backend" else { continue }
            return try #require((device["stats"] as? [String: Any])?["wr_operations"] as? Int)
        }
        throw QEMU.QMPFailure(words: "there is no vda")
    }

    /// The whole way of a disk: the primary's writes go through the filter, are shipped, staged by epoch where the guest
    /// was stopped, applied; the image equals the disk at the last epoch, and what came after it is not in it.
    @Test(arguments: ImageFormat.allCases)
    func `staged by epoch and applied, the image equals the guest's disk at the committed epoch`(
        format: ImageFormat
    ) throws {
        var numbers = SeededGenerator(seed: 51)
        var bytes = [UInt8](repeating: 0, count: Self.size)
        bytes.replaceSubrange(0..<4_000_000, with: numbers.bytes(4_000_000))
        let path = try directory.write("disk", bytes)
        // The standby has most of it already.
        let standby = directory.file("standby")
        try succeed("qemu-img", "convert", "-f", "raw", "-O", format.rawValue, path, standby)
        let image = try DiskImage(path: standby, format: format, expectedSize: UInt64(Self.size))
        try [UInt8](repeating: 3, count: 70_000).withUnsafeBytes { try image.write(offset: 100_000, data: $0) }

        let sink = try EpochSink(StagedDisk(image: image))
        let server = NBDServer(
            .init(name: "vda", disk: 0, size: UInt64(Self.size)), threadName: "nbd-mirror", sink: sink)
        defer { server.stop() }
        let guest = try start(path)
        try mirror(guest, to: server)
        try guest.command("stop")
        sink.cut()
        try guest.command("cont")
        // Three chunks at most were touched by the 70,000 bytes; the guest has written nothing yet.
        #expect(sink.sentBytes <= 3 * UInt64(ChunkDigest.chunkSize))
        #expect(try firstDifference(read(image), bytes) == nil)

        var committed: [UInt8] = []
        for round in 1...4 {
            for _ in 0..<15 {
                let offset = Int.random(in: 0..<Self.size / 512 - 300, using: &numbers) * 512
                try guest.io(
                    Self.vda, "write -P \(round * 10) \(offset) \(Int.random(in: 1...200, using: &numbers) * 512)")
            }
            try guest.command("stop")
            sink.cut()
            if round == 3 { committed = try contents(of: path) }
            try guest.command("cont")
            if round == 2 { try sink.disk.apply(through: Epoch(1)) }
        }
        // Epoch 4 was not acknowledged.
        guest.kill()
        server.stop()
        sink.disk.discard(after: Epoch(3))
        try sink.disk.apply(through: Epoch(3))
        #expect(try firstDifference(read(image), committed) == nil)
        #expect(try firstDifference(contents(of: path), committed) != nil)
        try image.close()
    }

    private func read(_ image: DiskImage) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0xee, count: Self.size)
        try bytes.withUnsafeMutableBytes { try image.read(offset: 0, into: $0) }
        return bytes
    }

    /// Both sides of a session in one: epoch 0 goes through the filter into the image, later ones are staged.
    private final class EpochSink: DiskSink {
        let disk: StagedDisk
        private struct State {
            var epoch = Epoch.firstCopy
            var filter: ChangedBlockFilter
            var sent: UInt64 = 0
        }
        private let state: Mutex<State>
        /// The addresses of what was staged or written.
        private let held = Mutex<[UInt]>([])

        deinit {
            held.withLock { for address in $0 { UnsafeMutableRawPointer(bitPattern: address)?.deallocate() } }
        }

        init(_ disk: StagedDisk) throws {
            self.disk = disk
            var filter = ChangedBlockFilter(size: disk.size)
            let question = filter.expect(firstChunk: 0, count: .max)
            let answer = try disk.digests(firstChunk: question.firstChunk, count: question.count)
            #expect(answer.withUnsafeBytes { filter.learn(question, digests: $0) })
            state = Mutex(State(filter: filter))
        }

        var sentBytes: UInt64 { state.withLock { $0.filter.changedBytes } }

        /// The guest stands still: what comes now belongs to the next epoch.
        func cut() { state.withLock { $0.epoch = $0.epoch.next } }

        func write(
            disk index: UInt16, offset: UInt64, data: UnsafeRawBufferPointer, fua: Bool
        ) throws(StorageError) -> DiskTicket {
            let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: data.count, alignment: 1)
            copy.copyMemory(from: data)
            held.withLock { $0.append(UInt(bitPattern: copy.baseAddress)) }
            nonisolated(unsafe) let bytes = UnsafeRawBufferPointer(copy)
            let failure = state.withLock { state -> StorageError? in
                do throws(StorageError) {
                    guard state.epoch == .firstCopy else {
                        try disk.stage(epoch: state.epoch, offset: offset, data: bytes)
                        return nil
                    }
                    try state.filter.filter(offset: offset, data: bytes) { (range) throws(StorageError) in
                        try disk.writeThrough(
                            offset: offset + UInt64(range.lowerBound),
                            data: UnsafeRawBufferPointer(rebasing: bytes[range]))
                    }
                    return nil
                } catch {
                    return error
                }
            }
            if let failure { throw failure }
            return .done
        }

        func zero(
            disk index: UInt16, offset: UInt64, length: UInt64, mayUnmap: Bool, fua: Bool
        ) throws(StorageError) -> DiskTicket {
            let failure = state.withLock { state -> StorageError? in
                do throws(StorageError) {
                    guard state.epoch == .firstCopy else {
                        try disk.stageZero(epoch: state.epoch, offset: offset, length: length, mayUnmap: mayUnmap)
                        return nil
                    }
                    try state.filter.filterZero(offset: offset, length: length) { (range) throws(StorageError) in
                        try disk.zeroThrough(
                            offset: range.lowerBound, length: UInt64(range.count), mayUnmap: mayUnmap)
                    }
                    return nil
                } catch {
                    return error
                }
            }
            if let failure { throw failure }
            return .done
        }

        func flush(disk index: UInt16) throws(StorageError) -> DiskTicket { .done }

        func answer(_ ticket: DiskTicket, _ cookie: UInt64, to replies: any LaterReplies) {
            replies.settle(cookie, nil)
        }

        func read(disk index: UInt16, offset: UInt64, into: UnsafeMutableRawBufferPointer) throws(StorageError) {
            try disk.read(offset: offset, into: into)
        }
    }
}
