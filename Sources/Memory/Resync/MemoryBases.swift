import Dispatch
import Foundation
import LinuxSystem
import Logging
import Model
import Storage
import Synchronization

/// Memory of VMs whose replica, or guest, this host gave up: the *base* that a later replica of the same VM starts from.
///
/// A base is a directory below `memory_directory/.bases` with the files of the RAM blocks and nothing else. Nothing is
/// believed of its contents: the digests of the pages decide what is sent. Taking and giving up are renames, so that each
/// base is used at most once, whoever else wants its room at that moment.
public final class MemoryBases: Sendable {
    private struct State {
        /// Tells a base from an earlier one of the same VM, and which is older.
        var turns: [VMName: UInt64] = [:]
        var lastTurn: UInt64 = 0
    }

    package let directory: String
    package let minutes: Int
    private let state = Mutex(State())
    /// Of the disk images, which are the operator's and stay.
    package let digests = KeptDigests()
    package let log: Logger

    package var bases: String { "\(directory)/.bases" }
    private var guests: String { "\(directory)/.guests" }

    /// Bases that an earlier run of the agent left are kept for another `minutes`; 0 keeps none.
    public init(in memoryDirectory: String, minutes: Int, log: Logger) {
        directory = memoryDirectory
        self.minutes = minutes
        self.log = log
        for vm in Self.names(in: bases) { note(vm) }
        // Room that was being given back when an earlier run ended.
        for name in Self.contents(of: bases) where VMName(name) == nil { Self.remove("\(bases)/\(name)") }
    }

    /// Bytes of all bases.
    public var bytes: UInt64 { Self.names(in: bases).reduce(0) { $0 + Self.bytes(in: "\(bases)/\($1)") } }

    /// Makes what is in `place`, the directory of a replica whose QEMU is gone, the base of later ones. An older base of
    /// the VM gives way.
    package func keep(_ vm: VMName, from place: String) {
        guard minutes > 0, Self.strip(place) > 0, move(place, to: "\(bases)/\(vm)") else { return Self.remove(place) }
        note(vm)
    }

    /// The base of `vm`, if there is one, becomes the directory `place`. Nothing else must be there.
    package func take(_ vm: VMName, as place: String) {
        guard rename("\(bases)/\(vm)", place) == 0 else { return }
        state.withLock { $0.turns[vm] = nil }
    }

    /// True when there was one.
    @discardableResult
    public func giveUp(_ vm: VMName) -> Bool {
        let gone = "\(bases)/.gone-\(UUID().uuidString)"
        guard rename("\(bases)/\(vm)", gone) == 0 else { return false }
        state.withLock { $0.turns[vm] = nil }
        Self.remove(gone)
        return true
    }

    /// Makes room for another VM's replica. False when there is nothing left to give up.
    package func giveUpOldest() -> Bool {
        let turns = state.withLock { $0.turns }
        guard let oldest = Self.names(in: bases).min(by: { (turns[$0] ?? 0) < (turns[$1] ?? 0) }) else { return false }
        log.info("the memory kept of \(oldest) is given up: another replica needs the room")
        return giveUp(oldest)
    }

    private func note(_ vm: VMName) {
        let turn = state.withLock { state in
            state.lastTurn += 1
            state.turns[vm] = state.lastTurn
            return state.lastTurn
        }
        guard minutes > 0 else {
            giveUp(vm)
            return
        }
        DispatchQueue.global(qos: .utility).asyncAfter(deadline: .now() + .seconds(60 * minutes)) { [weak self] in
            guard let self, state.withLock({ $0.turns[vm] == turn }), giveUp(vm) else { return }
            log.info("the memory kept of \(vm) is given up: nobody wanted it within \(minutes) minutes")
        }
    }

    // MARK: - Guests that were resumed here

    /// The guest was resumed from the replica in `place`, whose RAM files are its memory from now on. They keep their
    /// names, so that they are a base when the guest is ended here one day.
    package func lend(_ vm: VMName, from place: String) {
        guard minutes > 0, Self.strip(place) > 0, move(place, to: "\(guests)/\(vm)") else { return Self.remove(place) }
        // Blocks that are no memory of the QEMU took part in the resume only.
        for name in Self.contents(of: "\(guests)/\(vm)") where Self.isCopy(name) {
            Self.remove("\(guests)/\(vm)/\(name)")
        }
    }

    /// The guest of `vm` is ended here and goes on elsewhere: what was its memory becomes the base. Its QEMU is gone.
    public func keepGuest(_ vm: VMName) { if exists("\(guests)/\(vm)") { keep(vm, from: "\(guests)/\(vm)") } }

    /// The guest of `vm` is not this agent's any more. One that runs on keeps its memory; only the names go.
    public func forgetGuest(_ vm: VMName) { Self.remove("\(guests)/\(vm)") }

    /// VMs whose guests were resumed here.
    public var lent: [VMName] { Self.names(in: guests) }

    // MARK: - Files

    /// RAM files, by the names that `StandbyCommand` and `Replica` give them.
    private static func isMemory(_ name: String) -> Bool { name.hasSuffix(".memory") || isCopy(name) }
    private static func isCopy(_ name: String) -> Bool { name.hasPrefix("block-") }

    /// Removes what is no RAM from a replica's directory, its manifest first, so that nobody takes it for a replica.
    /// Returns how many files stayed.
    private static func strip(_ place: String) -> Int {
        remove("\(place)/manifest.json")
        var kept = 0
        for name in contents(of: place) {
            if isMemory(name) { kept += 1 } else { remove("\(place)/\(name)") }
        }
        return kept
    }

    private func move(_ place: String, to target: String) -> Bool {
        let parent = (target as NSString).deletingLastPathComponent
        try? FileManager.default.createDirectory(
            atPath: parent, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        Self.remove(target)
        return rename(place, target) == 0
    }

    private func exists(_ path: String) -> Bool { FileManager.default.fileExists(atPath: path) }

    private static func contents(of path: String) -> [String] {
        (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
    }

    private static func names(in path: String) -> [VMName] { contents(of: path).compactMap(VMName.init).sorted() }

    private static func remove(_ path: String) { try? FileManager.default.removeItem(atPath: path) }

    private static func bytes(in path: String) -> UInt64 {
        contents(of: path).reduce(0) { $0 + (length("\(path)/\($1)") ?? 0) }
    }

    private static func length(_ path: String) -> UInt64? {
        var info = stat()
        return stat(path, &info) == 0 ? UInt64(clamping: info.st_size) : nil
    }

    /// Removes from `place` what does not fit a replica with RAM blocks of `lengths` at `paths`. Returns the bytes that stayed.
    package static func fit(_ place: String, to lengths: [String: UInt64]) -> UInt64 {
        var stayed: UInt64 = 0
        for name in contents(of: place) {
            let path = "\(place)/\(name)"
            if let wanted = lengths[path], length(path) == wanted { stayed += wanted } else { remove(path) }
        }
        return stayed
    }
}
