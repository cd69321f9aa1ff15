import Foundation
import Glibc
import LinuxSystem
import Model
import Registers
import Synchronization
import TestBed
import Testing

/// The witness's log: what it keeps through crashes, and what it refuses to believe.
@Suite struct WitnessStoreTests {
    /// In memory: thousands of logs are written, and what the disk does is not the question.
    static func with(_ body: (String) throws -> Void) throws {
        let directory = try TemporaryDirectory("witness-store", under: "/dev/shm")
        defer { directory.remove() }
        try body(directory.path)
    }

    static func log(_ directory: String) -> String { "\(directory)/witness.log" }

    static func bytes(_ directory: String) throws -> Data {
        try Data(contentsOf: URL(fileURLWithPath: log(directory)))
    }

    /// Claims term after term of “web” for `owner`, up to `last`.
    static func claim(_ store: WitnessStore, _ name: String = "web", upTo last: UInt64) throws {
        for term in ((try store.read(vm(name))?.term.number ?? 0) + 1)...last {
            let answer = try store.compareAndSet(
                vm(name), expecting: term == 1 ? nil : register(term - 1), to: register(term), nonce: Nonce(term),
                seen: Term(term - 1))
            #expect(answer == .applied(register(term)))
        }
    }

    @Test func whatWasAnsweredIsThereAfterReopening() throws {
        try Self.with { directory in
            var identity = ""
            do {
                let store = try WitnessStore(directory: directory)
                identity = store.identity
                try Self.claim(store, upTo: 3)
                try Self.claim(store, "db", upTo: 1)
            }
            for _ in 0..<2 {
                let store = try WitnessStore(directory: directory)
                #expect(store.identity == identity && store.vmCount == 2 && store.tornBytes == 0)
                #expect(try store.read(vm("web")) == register(3))
                #expect(try store.read(vm("db")) == register(1))
                #expect(try store.read(vm("other")) == nil)
                // The nonce is kept too.
                let again = try store.compareAndSet(
                    vm("web"), expecting: register(2), to: register(3), nonce: Nonce(3), seen: Term(2))
                #expect(again == .applied(register(3)))
            }
        }
        try Self.with { directory in
            let other = try WitnessStore(directory: directory)
            #expect(UUID(uuidString: other.identity) != nil && other.vmCount == 0)
        }
    }

    /// A crash cuts the log anywhere: what was answered before the last whole record is there, and the store goes on.
    @Test func aTornTailIsCutAndNothingElse() throws {
        try Self.with { directory in
            var ends: [Int] = []
            do {
                let store = try WitnessStore(directory: directory)
                ends.append(store.logLength)
                for term in 1...3 {
                    try Self.claim(store, upTo: UInt64(term))
                    ends.append(store.logLength)
                }
            }
            let whole = try Self.bytes(directory)
            #expect(whole.count == ends[3])
            for length in ends[0]...whole.count {
                let survivors = ends.lastIndex { $0 <= length } ?? 0
                // The size of the file was on disk before the data, or not.
                for zeros in [0, 1, 16, whole.count - length] where length + zeros <= whole.count {
                    if zeros > 0, ends.contains(length) || ends.contains(where: { length < $0 && $0 < length + zeros })
                    {
                        continue
                    }
                    let torn = whole.prefix(length) + Data(count: zeros)
                    try torn.write(to: URL(fileURLWithPath: Self.log(directory)))
                    let store = try WitnessStore(directory: directory)
                    #expect(
                        try store.read(vm("web"))?.term.number ?? 0 == UInt64(survivors),
                        "\(length) bytes, \(zeros) zeros")
                    #expect(store.tornBytes == length - ends[survivors] + zeros)
                    try Self.claim(store, upTo: UInt64(survivors) + 1)
                }
            }
        }
    }

    /// A flipped bit anywhere is damage: nothing is dropped silently, the last change neither.
    @Test func aFlippedBitIsRefused() throws {
        try Self.with { directory in
            do { try Self.claim(WitnessStore(directory: directory), upTo: 2) }
            let whole = try Self.bytes(directory)
            for index in whole.indices {
                var flipped = whole
                flipped[index] ^= 1 << (index % 8)
                try flipped.write(to: URL(fileURLWithPath: Self.log(directory)))
                do {
                    _ = try WitnessStore(directory: directory)
                    Issue.record("a flip in byte \(index) went unnoticed")
                } catch WitnessStoreError.damaged(let path, let offset, _) {
                    #expect(path == Self.log(directory) && offset <= index)
                }
                #expect(try Self.bytes(directory) == flipped, "a damaged log is left for the operator to look at")
            }
        }
    }

    @Test func aLogWithAShortHeaderOrAFallingTermIsRefused() throws {
        try Self.with { directory in
            var ends: [Int] = []
            do {
                let store = try WitnessStore(directory: directory)
                for term in 1...2 {
                    ends.append(store.logLength)
                    try Self.claim(store, upTo: UInt64(term))
                }
            }
            let whole = try Self.bytes(directory)
            let first = whole[ends[0]..<ends[1]]
            for text in [Data(), whole.prefix(31), Data(count: 64), whole + first] {
                try text.write(to: URL(fileURLWithPath: Self.log(directory)))
                do {
                    _ = try WitnessStore(directory: directory)
                    Issue.record("a log of \(text.count) bytes was accepted")
                } catch WitnessStoreError.damaged {}
            }
        }
    }

    @Test func anAmnesicStoreChangesNothing() throws {
        try Self.with { directory in
            let store = try WitnessStore(directory: directory)
            let first = try store.compareAndSet(
                vm("web"), expecting: nil, to: register(2), nonce: Nonce(1), seen: Term(1))
            #expect(first == .amnesic(nil))
            try Self.claim(store, upTo: 1)
            let second = try store.compareAndSet(
                vm("web"), expecting: register(1), to: register(2), nonce: Nonce(2), seen: Term(2))
            #expect(second == .amnesic(register(1)))
            #expect(try store.read(vm("web")) == register(1))
        }
    }

    @Test func oneWitnessPerDirectory() throws {
        try Self.with { directory in
            let first = try WitnessStore(directory: directory)
            do {
                _ = try WitnessStore(directory: directory)
                Issue.record("two stores share a directory")
            } catch WitnessStoreError.inUse(directory) {}
            try Self.claim(first, upTo: 1)
        }
    }

    /// A failed fdatasync ends the store: the change is not shown, and neither it nor others are tried again.
    @Test func aFailedSynchronisationEndsTheStore() throws {
        try Self.with { directory in
            let healthy = Atomic<Bool>(true)
            let box = Flag(value: healthy)
            let store = try WitnessStore(directory: directory) { (log) throws(SystemError) in
                guard box.value.load(ordering: .relaxed) else {
                    throw SystemError(operation: "synchronise", errno: EIO, subject: "a test's disk")
                }
                try log.syncData()
            }
            try Self.claim(store, upTo: 1)
            box.value.store(false, ordering: .relaxed)
            #expect(throws: WitnessStoreError.self) { try Self.claim(store, upTo: 2) }
            box.value.store(true, ordering: .relaxed)
            for name in ["web", "db"] {
                do {
                    _ = try store.read(vm(name))
                    Issue.record("a store goes on after a failed synchronisation")
                } catch WitnessStoreError.ended(let reason) {
                    #expect(reason.contains("a test's disk") && reason.contains("EIO"))
                }
                #expect(throws: WitnessStoreError.self) {
                    try store.compareAndSet(
                        vm(name), expecting: nil, to: register(1), nonce: Nonce(9), seen: Term(0))
                }
            }
        }
    }

    private final class Flag: Sendable {
        let value: Atomic<Bool>
        init(value: consuming Atomic<Bool>) { self.value = value }
    }

    @Test func theNumberOfVMsAndTheLogAreBounded() throws {
        try Self.with { directory in
            do {
                // Without waiting for the disk, which is not what this is about.
                let store = try WitnessStore(directory: directory) { (_) throws(SystemError) in }
                for number in 0..<WitnessStore.vmsMax {
                    _ = try store.compareAndSet(
                        vm("vm-\(number)"), expecting: nil, to: register(1, standby: "beta"), nonce: Nonce(1),
                        seen: Term(0))
                }
                #expect(store.vmCount == WitnessStore.vmsMax)
                #expect(throws: WitnessStoreError.full) {
                    try store.compareAndSet(
                        vm("one-more"), expecting: nil, to: register(1), nonce: Nonce(1), seen: Term(0))
                }
                let length = store.logLength
                #expect(length < 5 << 20)
                // Changes of those that are there go on; the log is rewritten each time it has grown by 1 MiB.
                var longest = 0
                for term in UInt64(2)...6000 {
                    let answer = try store.compareAndSet(
                        vm("vm-7"), expecting: register(term - 1, standby: "beta"), to: register(term, standby: "beta"),
                        nonce: Nonce(term), seen: Term(term - 1))
                    guard case .applied = answer else {
                        Issue.record("term \(term): \(answer)")
                        return
                    }
                    longest = max(longest, store.logLength)
                }
                #expect(longest > length && longest < length + (1 << 20) + 8192)
            }
            let store = try WitnessStore(directory: directory)
            #expect(store.vmCount == WitnessStore.vmsMax)
            #expect(try store.read(vm("vm-7")) == register(6000, standby: "beta"))
            #expect(try store.read(vm("vm-9999")) == register(1, standby: "beta"))
        }
    }

    /// A crash while the log is rewritten leaves the old one; what was begun beside it is of no account.
    @Test func anUnfinishedRewritingIsIgnored() throws {
        try Self.with { directory in
            do { try Self.claim(WitnessStore(directory: directory), upTo: 2) }
            try Data("half a log".utf8).write(to: URL(fileURLWithPath: Self.log(directory) + ".new"))
            let store = try WitnessStore(directory: directory)
            #expect(try store.read(vm("web")) == register(2))
        }
    }
}
