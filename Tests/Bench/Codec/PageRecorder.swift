import Foundation
import LinuxSystem
import Model
import QEMU
import TestBed

/// Records the pages that a guest changes within epochs of 25 ms: their numbers, their old and their new contents.
///
/// It runs as a process of its own (`romulus-bench --records-pages-of MONITOR FILE`), for the reason that `ScanBench`
/// gives. It tracks the guest as the agent does, stops it at the end of each epoch and copies what was written; pages that
/// hold what they held before are left out. Epochs are kept whole, and spread over the time of the recording.
///
/// The file holds for each epoch the number of its pages (u32), their numbers (u32 each), then of each page the old and
/// the new contents.
struct PageRecorder: ~Copyable {
    static let order = "--records-pages-of"
    private static let epoch: UInt64 = 25_000_000
    /// How long the recording lasts where enough changes.
    private static let duration: UInt64 = 10_000_000_000
    private static let durationMax: UInt64 = 60_000_000_000

    private let monitor: QMPConnection
    private var tracker: MemoryTracker
    private var runs = RunBuffer(capacity: 65_536)
    private let copy: Mapping
    private let references: [UInt16: Reference]

    /// What a block held at the end of the epoch before.
    private final class Reference {
        let memory: Mapping
        init(length: UInt64) throws(SystemError) { memory = try Mapping.anonymous(length: Int(length)) }
    }

    static func record(_ monitorPath: String, to path: String) throws {
        var recorder = try PageRecorder(monitorPath)
        try recorder.run(to: path)
        try recorder.finish()
    }

    private init(_ monitorPath: String) throws {
        let monitor = try QMPConnection(path: monitorPath)
        let description = try GuestInspector.inspect(monitor)
        var tracker = try MemoryTracker(attachingTo: description.process.pid)
        var references: [UInt16: Reference] = [:]
        var longest = 0
        for (index, block) in description.blocks.enumerated() where block.tracked {
            guard let address = block.hostAddress else { continue }
            try tracker.track(TrackedBlock(index: UInt16(index), address: address, length: block.length))
            references[UInt16(index)] = try Reference(length: block.length)
            longest = max(longest, Int(block.length))
        }
        let copy = try Mapping.anonymous(length: longest)
        try monitor.execute("stop")
        try tracker.protectAll()
        var reader = tracker.makeReader()
        for block in tracker.blocks {
            if let reference = references[block.index] {
                try reader.copy(address: block.address, into: reference.memory.bytes)
            }
        }
        try monitor.execute("cont")
        self.monitor = monitor
        self.tracker = tracker
        self.copy = copy
        self.references = references
    }

    private mutating func run(to path: String) throws {
        let partial = "\(path).partial"
        guard FileManager.default.createFile(atPath: partial, contents: nil),
            let file = FileHandle(forWritingAtPath: partial)
        else { throw BedError("\(partial) cannot be written.") }
        let began = MonotonicClock.now()
        var (kept, epochs, changed) = (0, 0, 0)
        var due = began + Self.epoch
        while kept < PageRecordings.pagesMax {
            MonotonicClock.sleep(until: due)
            let elapsed = MonotonicClock.now() - began
            if elapsed > Self.durationMax { break }
            let quota = PageRecordings.pagesMax * Int(min(elapsed, Self.duration)) / Int(Self.duration)
            let (numbers, contents) = try takeEpoch()
            epochs += 1
            changed += numbers.count
            if kept < quota, !numbers.isEmpty {
                let taken = min(numbers.count, PageRecordings.pagesMax - kept)
                try file.write(contentsOf: withUnsafeBytes(of: UInt32(taken)) { Data($0) })
                try file.write(contentsOf: numbers[..<taken].withUnsafeBytes { Data($0) })
                try file.write(contentsOf: contents[..<(taken * 2 * pageSize)])
                kept += taken
            }
            due = max(due, MonotonicClock.now()) + Self.epoch
        }
        try file.close()
        try FileManager.default.moveItem(atPath: partial, toPath: path)
        print("  \(kept) pages kept, \(changed / max(1, epochs)) changed pages per epoch in \(epochs) epochs")
    }

    /// The numbers of the changed pages, and their old and new contents in turns.
    private mutating func takeEpoch() throws -> (numbers: [UInt32], contents: Data) {
        var numbers: [UInt32] = []
        var contents = Data()
        try monitor.execute("stop")
        var position = ScanPosition()
        var isOver = false
        while !isOver {
            runs.removeAll()
            isOver = try tracker.scanWritten(
                from: &position, protecting: true, pagesMax: copy.bytes.count / pageSize, into: &runs)
            _ = try tracker.copy(runs, into: copy.bytes)
            var offset = 0
            for run in runs.runs {
                guard let reference = references[run.block] else { continue }
                for number in run.first..<run.first + run.count {
                    let new = copy.bytes.baseAddress! + offset
                    let old = reference.memory.bytes.baseAddress! + Int(number) * pageSize
                    offset += pageSize
                    guard memcmp(old, new, pageSize) != 0 else { continue }
                    numbers.append(number)
                    contents.append(old.assumingMemoryBound(to: UInt8.self), count: pageSize)
                    contents.append(new.assumingMemoryBound(to: UInt8.self), count: pageSize)
                    old.copyMemory(from: new, byteCount: pageSize)
                }
            }
        }
        try monitor.execute("cont")
        _ = try monitor.takeEvents()
        return (numbers, contents)
    }

    private consuming func finish() throws {
        monitor.close()
        try tracker.close()
    }
}
