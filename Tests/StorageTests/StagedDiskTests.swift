import Foundation
import Model
import Storage
import Synchronization
import Testing

@Suite(.timeLimit(.minutes(2)))
struct StagedDiskTests {
    static let size = 1 << 20
    let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    private func open(_ format: ImageFormat = .raw) throws -> StagedDisk {
        let path = directory.file("disk")
        if !FileManager.default.fileExists(atPath: path) {
            try succeed("qemu-img", "create", "-q", "-f", format.rawValue, path, "\(Self.size)")
        }
        return StagedDisk(image: try DiskImage(path: path, format: format, expectedSize: UInt64(Self.size)))
    }

    // MARK: - Model

    @Test(arguments: 1...4)
    func `a random history agrees with a plain array`(seed: Int) throws {
        var numbers = SeededGenerator(seed: UInt64(seed))
        let disk = try open(seed % 4 == 0 ? .qcow2 : .raw)
        let history = DiskHistory(size: Self.size, epochs: 12, writesPerEpoch: 20, using: &numbers)
        var applied = 0
        for epoch in 1...12 {
            try history.stage(epoch, on: disk)
            #expect(disk.staged.writes == 20 * (epoch - applied))
            // Everywhere, and in random places.
            #expect(try firstDifference(read(disk, 0, Self.size), history.model(after: epoch)) == nil)
            for _ in 0..<10 {
                let offset = Int.random(in: 0..<Self.size, using: &numbers)
                let length = Int.random(in: 1...min(5000, Self.size - offset), using: &numbers)
                #expect(
                    try read(disk, offset, length)
                        == Array(history.model(after: epoch)[offset..<offset + length]))
            }
            if Int.random(in: 0..<3, using: &numbers) == 0 {
                applied = Int.random(in: applied...epoch, using: &numbers)
                try disk.apply(through: Epoch(UInt64(applied)))
                #expect(try firstDifference(image(disk), history.model(after: applied)) == nil)
                #expect(try firstDifference(read(disk, 0, Self.size), history.model(after: epoch)) == nil)
            }
        }
        // The failover: what is not committed goes, the rest is applied.
        let committed = Int.random(in: applied...12, using: &numbers)
        disk.discard(after: Epoch(UInt64(committed)))
        #expect(try firstDifference(read(disk, 0, Self.size), history.model(after: committed)) == nil)
        try disk.apply(through: Epoch(UInt64(committed)))
        #expect(try firstDifference(image(disk), history.model(after: committed)) == nil)
        #expect(disk.staged == StagedAmount())
        try disk.image.close()
    }

    // MARK: - Again

    @Test func `applying an epoch again gives the same image`() throws {
        var numbers = SeededGenerator(seed: 20)
        let history = DiskHistory(size: Self.size, epochs: 3, writesPerEpoch: 50, using: &numbers)
        for round in 1...3 {
            let disk = try open()
            for epoch in 1...3 { try history.stage(epoch, on: disk) }
            try disk.apply(through: Epoch(2))
            try disk.apply(through: Epoch(2))
            if round == 1 { #expect(try firstDifference(image(disk), history.model(after: 2)) == nil) }
            try disk.apply(through: Epoch(3))
            #expect(try firstDifference(image(disk), history.model(after: 3)) == nil)
            try disk.image.close()
        }
    }

    /// The kernel kills the child at its first write, or within it, that passes the limit; the writes before went through.
    @Test(arguments: [1, 7, 100, 190])
    func `an agent killed in the middle of an apply starts it over`(writes: Int) async throws {
        let path = try directory.sparseFile("disk", size: Self.size)
        await #expect(processExitsWith: .signal(SIGXFSZ)) { [path = path as String, writes = writes as Int] in
            let disk = StagedDisk(image: try DiskImage(path: path, format: .raw, expectedSize: nil))
            let history = StagedDiskTests.killedHistory()
            for epoch in 1...2 { try history.stage(epoch, on: disk) }
            var limit = rlimit(rlim_cur: rlim_t(history.end(ofFirst: writes)), rlim_max: .max)
            // Ignored or blocked, it would only be an error.
            signal(SIGXFSZ, SIG_DFL)
            var none = sigset_t()
            pthread_sigmask(SIG_SETMASK, &none, nil)
            setrlimit(Int32(RLIMIT_FSIZE.rawValue), &limit)
            try disk.apply(through: Epoch(2))
        }
        let history = Self.killedHistory()
        let torn = try contents(of: path)
        #expect(firstDifference(torn, history.model(after: 2)) != nil)
        #expect(firstDifference(torn, history.model(after: 0)) != nil)
        let disk = try open()
        for epoch in 1...2 { try history.stage(epoch, on: disk) }
        try disk.apply(through: Epoch(2))
        #expect(try firstDifference(image(disk), history.model(after: 2)) == nil)
        try disk.image.close()
    }

    /// Two epochs, the last write of which ends where no other does.
    private static func killedHistory() -> DiskHistory {
        var numbers = SeededGenerator(seed: 21)
        let history = DiskHistory(size: size, epochs: 2, writesPerEpoch: 100, using: &numbers)
        history.append(offset: size - 10_000, numbers.bytes(10_000))
        return history
    }

    @Test func `an exporter killed in the middle of an apply leaves everything staged`() throws {
        var numbers = SeededGenerator(seed: 22)
        let history = DiskHistory(size: Self.size, epochs: 2, writesPerEpoch: 100, using: &numbers)
        var disk = try open(.qcow2)
        for epoch in 1...2 { try history.stage(epoch, on: disk) }
        try disk.apply(through: Epoch(1))
        try killExporter(of: disk.image.path)
        #expect(throws: StorageError.self) { try disk.apply(through: Epoch(2)) }
        #expect(disk.staged.writes == 100)
        #expect(throws: StorageError.self) { try disk.image.close() }

        // The image of a qemu-nbd that was killed may lack all that was not flushed: both epochs again.
        disk = try open(.qcow2)
        for epoch in 1...2 { try history.stage(epoch, on: disk) }
        try disk.apply(through: Epoch(2))
        #expect(try firstDifference(image(disk), history.model(after: 2)) == nil)
        try disk.image.close()
    }

    @Test(.enabled(if: geteuid() == 0, "needs root: mounting a tmpfs"), arguments: ImageFormat.allCases)
    func `an apply that runs out of room can be made again when there is some`(format: ImageFormat) throws {
        var numbers = SeededGenerator(seed: 23)
        let history = DiskHistory(size: Self.size, epochs: 2, writesPerEpoch: 100, using: &numbers)
        let small = try directory.smallFileSystem(kilobytes: 512)
        let path = small + "/disk"
        try succeed("qemu-img", "create", "-q", "-f", format.rawValue, path, "\(Self.size)")
        let disk = StagedDisk(image: try DiskImage(path: path, format: format, expectedSize: UInt64(Self.size)))
        for epoch in 1...2 { try history.stage(epoch, on: disk) }
        let error = #expect(throws: StorageError.self) { try disk.apply(through: Epoch(2)) }
        guard case .outOfSpace(path, _, _) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(disk.staged.writes == 200)
        #expect(try firstDifference(read(disk, 0, Self.size), history.model(after: 2)) == nil)
        try #require(mount("none", small, nil, UInt(MS_REMOUNT), "size=16m") == 0)
        try disk.apply(through: Epoch(2))
        #expect(try firstDifference(image(disk), history.model(after: 2)) == nil)
        try disk.image.close()
    }

    // MARK: - Rules

    @Test func `the first copy goes straight into the image, below what is staged`() throws {
        let disk = try open()
        let (old, new) = ([UInt8](repeating: 1, count: 100), [UInt8](repeating: 2, count: 10))
        try new.withUnsafeBytes { new in
            try disk.stage(epoch: Epoch(1), offset: 50, data: new)
            try old.withUnsafeBytes { try disk.writeThrough(offset: 0, data: $0) }
            #expect(try image(disk)[..<100].elementsEqual(old))
            #expect(try read(disk, 45, 20) == [1, 1, 1, 1, 1] + new + [1, 1, 1, 1, 1])
            try disk.zeroThrough(offset: 0, length: 52, mayUnmap: true)
            #expect(try read(disk, 45, 20) == [0, 0, 0, 0, 0] + new + [1, 1, 1, 1, 1])
            disk.discard(after: .firstCopy)
            #expect(try read(disk, 45, 20) == [0, 0, 0, 0, 0, 0, 0] + [UInt8](repeating: 1, count: 13))
        }
        try disk.image.close()
    }

    @Test func `a write outside, too late or beyond the limit is refused`() throws {
        let image = try open().image
        let disk = StagedDisk(image: image, limit: StagedAmount(writes: 3, bytes: 100))
        let size = UInt64(Self.size)
        let data = [UInt8](repeating: 1, count: 60)
        try data.withUnsafeBytes { data in
            #expect(throws: StorageError.outOfBounds(path: image.path, offset: size - 1, length: 60, size: size)) {
                try disk.stage(epoch: Epoch(1), offset: size - 1, data: data)
            }
            #expect(throws: StorageError.self) {
                try disk.stageZero(epoch: Epoch(1), offset: .max, length: .max, mayUnmap: true)
            }
            #expect(throws: StorageError.wrongEpoch(path: image.path, epoch: 0, expected: 1)) {
                try disk.stage(epoch: .firstCopy, offset: 0, data: data)
            }
            try disk.stage(epoch: Epoch(2), offset: 0, data: data)
            #expect(throws: StorageError.wrongEpoch(path: image.path, epoch: 1, expected: 2)) {
                try disk.stage(epoch: Epoch(1), offset: 0, data: data)
            }
            #expect(disk.hasRoom(writes: 2, bytes: 40))
            #expect(!disk.hasRoom(writes: 1, bytes: 41))
            #expect(!disk.hasRoom(writes: 3, bytes: 0))
            #expect(throws: StorageError.tooMuchStaged(path: image.path, writes: 1, bytes: 60)) {
                try disk.stage(epoch: Epoch(2), offset: 0, data: data)
            }
            try disk.stageZero(epoch: Epoch(2), offset: 0, length: 1000, mayUnmap: true)
            try disk.stageZero(epoch: Epoch(3), offset: 0, length: 1000, mayUnmap: true)
            #expect(throws: StorageError.tooMuchStaged(path: image.path, writes: 3, bytes: 60)) {
                try disk.stageZero(epoch: Epoch(3), offset: 0, length: 1000, mayUnmap: true)
            }
            #expect(disk.staged == StagedAmount(writes: 3, bytes: 60))
            try disk.apply(through: Epoch(2))
            #expect(disk.staged == StagedAmount(writes: 1, bytes: 0))
            #expect(throws: StorageError.wrongEpoch(path: image.path, epoch: 2, expected: 3)) {
                try disk.stage(epoch: Epoch(2), offset: 0, data: data)
            }
            disk.discard(after: Epoch(2))
            #expect(disk.staged == StagedAmount())
            try disk.stage(epoch: Epoch(3), offset: 0, data: data)
            disk.discard(after: .firstCopy)
        }
        try image.close()
    }

    // MARK: - At the same time

    /// What the threads of the next test share. Every epoch fills the whole disk with its number, in two writes, so a read
    /// that is torn, or misses an epoch that is staged, shows.
    private final class Race: Sendable {
        static let epochs = 200
        let disk: StagedDisk
        /// Epochs that are staged whole.
        let staged = Atomic(0)
        let finished = Atomic(false)
        let faults = Mutex<[String]>([])

        init(_ disk: StagedDisk) { self.disk = disk }

        func check(_ work: () throws -> Void) {
            do { try work() } catch { faults.withLock { $0.append("\(error)") } }
        }

        func stageAll() {
            let half = StagedDiskTests.size / 2
            var held: [UnsafeMutableRawBufferPointer] = []
            for epoch in 1...Self.epochs {
                let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: half, alignment: 1)
                bytes.initializeMemory(as: UInt8.self, repeating: UInt8(epoch))
                held.append(bytes)
                check {
                    let data = UnsafeRawBufferPointer(bytes)
                    try disk.stage(epoch: Epoch(UInt64(epoch)), offset: 0, data: data)
                    try disk.stage(epoch: Epoch(UInt64(epoch)), offset: UInt64(half), data: data)
                }
                staged.store(epoch, ordering: .releasing)
                guard epoch % 4 == 0 else { continue }
                // The bytes go as soon as `apply` has returned: a read that still used them would show.
                let kept = epoch == Self.epochs ? 0 : 1
                check { try disk.apply(through: Epoch(UInt64(epoch - kept))) }
                for bytes in held.dropLast(kept) {
                    bytes.initializeMemory(as: UInt8.self, repeating: 0xff)
                    bytes.deallocate()
                }
                held.removeFirst(held.count - kept)
            }
            finished.store(true, ordering: .releasing)
        }

        func readOn(seed: UInt64) {
            var numbers = SeededGenerator(seed: seed)
            while !finished.load(ordering: .acquiring) {
                let offset = Int.random(in: 0..<StagedDiskTests.size - 900, using: &numbers)
                let before = staged.load(ordering: .acquiring)
                check {
                    let seen = Set(try read(disk, offset, 900))
                    let after = staged.load(ordering: .acquiring)
                    if seen.count > 2 || !seen.allSatisfy({ (before...after + 1).contains(Int($0)) }) {
                        faults.withLock { $0.append("between epochs \(before) and \(after) a read saw \(seen)") }
                    }
                }
            }
        }
    }

    @Test func `reads see whole states while epochs are staged and applied`() throws {
        let race = Race(try open())
        let threads = [
            Thread.start { race.readOn(seed: 100) }, Thread.start { race.readOn(seed: 101) },
            Thread.start { race.stageAll() },
        ]
        for thread in threads { thread.wait() }
        #expect(race.faults.withLock { $0 } == [])
        #expect(try firstDifference(image(race.disk), [UInt8](repeating: UInt8(Race.epochs), count: Self.size)) == nil)
        try race.disk.image.close()
    }

    // MARK: -

    private func image(_ disk: StagedDisk) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0xee, count: Self.size)
        try bytes.withUnsafeMutableBytes { try disk.image.read(offset: 0, into: $0) }
        return bytes
    }
}

private func read(_ disk: StagedDisk, _ offset: Int, _ length: Int) throws -> [UInt8] {
    var bytes = [UInt8](repeating: 0xee, count: length)
    try bytes.withUnsafeMutableBytes { try disk.read(offset: UInt64(offset), into: $0) }
    return bytes
}

/// Writes and zeros of several epochs, with their bytes at fixed addresses, and the disk after each epoch.
final class DiskHistory {
    private struct Write {
        var offset: Int
        var length: Int
        /// Nil for zeros.
        var bytes: UnsafeRawBufferPointer?
    }
    private var epochs: [[Write]] = []
    private var models: [[UInt8]]

    /// Overlaps are frequent: the writes cluster.
    init(size: Int, epochs count: Int, writesPerEpoch: Int, using numbers: inout SeededGenerator) {
        models = [[UInt8](repeating: 0, count: size)]
        for _ in 1...count {
            var model = models.last!
            var writes: [Write] = []
            for _ in 0..<writesPerEpoch {
                let offset = Int.random(in: 0..<size / 8, using: &numbers) * [1, 8].randomElement(using: &numbers)!
                let length = Int.random(in: 1...min(20_000, size - offset), using: &numbers)
                if Int.random(in: 0..<4, using: &numbers) == 0 {
                    writes.append(Write(offset: offset, length: length))
                    model.replaceSubrange(offset..<offset + length, with: repeatElement(0, count: length))
                } else {
                    let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: length, alignment: 1)
                    bytes.copyBytes(from: numbers.bytes(length))
                    writes.append(Write(offset: offset, length: length, bytes: UnsafeRawBufferPointer(bytes)))
                    model.replaceSubrange(offset..<offset + length, with: bytes)
                }
            }
            epochs.append(writes)
            models.append(model)
        }
    }

    deinit {
        for write in epochs.joined() { write.bytes?.deallocate() }
    }

    /// One more write of the last epoch.
    func append(offset: Int, _ data: [UInt8]) {
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: data.count, alignment: 1)
        bytes.copyBytes(from: data)
        epochs[epochs.count - 1].append(
            Write(offset: offset, length: data.count, bytes: UnsafeRawBufferPointer(bytes)))
        models[models.count - 1].replaceSubrange(offset..<offset + data.count, with: data)
    }

    /// The furthest byte that the first `count` writes reach.
    func end(ofFirst count: Int) -> Int {
        epochs.joined().prefix(count).filter { $0.bytes != nil }.map { $0.offset + $0.length }.max() ?? 0
    }

    func model(after epoch: Int) -> [UInt8] { models[epoch] }

    func stage(_ epoch: Int, on disk: StagedDisk) throws {
        for write in epochs[epoch - 1] {
            if let bytes = write.bytes {
                try disk.stage(epoch: Epoch(UInt64(epoch)), offset: UInt64(write.offset), data: bytes)
            } else {
                try disk.stageZero(
                    epoch: Epoch(UInt64(epoch)), offset: UInt64(write.offset), length: UInt64(write.length),
                    mayUnmap: true)
            }
        }
    }
}
