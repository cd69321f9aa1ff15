import FoundationEssentials
import Glibc
import LinuxSystem
import Model
import Synchronization

/// The registers of a witness, in one append-only log in a directory of its own.
///
/// Every call blocks: a change is on stable storage (fdatasync) before it is answered. The store has a random identity
/// from its creation on, so that one that was lost and begun anew is recognised. Opening rewrites the log: what was
/// read is then on the disk for certain, whatever an earlier failure left in the kernel's memory. An error while writing
/// ends the store: it refuses everything until it is opened again.
public final class WitnessStore: Sendable {
    /// VMs that one witness keeps at most.
    public static let vmsMax = 10_000
    static let logName = "witness.log"
    /// The log is rewritten when it is this much longer than after the last time.
    private static let growthMax = 1 << 20
    /// Larger than any log that this code writes; more than that is not read into memory.
    private static let logBytesMax = 256 << 20

    /// The UUID of the store, in lower case.
    public let identity: String
    /// Bytes of an unfinished last change that were dropped when the store was opened; it was never answered.
    public let tornBytes: Int

    private struct State: ~Copyable {
        var records: [VMName: RegisterRecord]
        var log: OwnedDescriptor
        var length: Int
        /// Right after the last rewriting.
        var compactLength: Int
        var failure: WitnessStoreError?
    }

    package enum Answer: Hashable, Sendable {
        case applied(Register)
        case conflict(Register?)
        /// The asker knows a higher term than this store: it lost changes. Nothing was changed.
        case amnesic(Register?)
    }

    private let uuid: UUID
    private let directory: DurableDirectory
    private let state: Mutex<State>
    private let synchronise: Synchronise

    /// Waits until an append is on stable storage.
    package typealias Synchronise = @Sendable (borrowing OwnedDescriptor) throws(SystemError) -> Void

    /// Opens the store in `directory`, which exists, or begins a new one when there is none.
    public convenience init(directory: String) throws(WitnessStoreError) {
        try self.init(directory: directory) { (log) throws(SystemError) in try log.syncData() }
    }

    /// `synchronise` takes the place of fdatasync, to see what its failure does.
    package init(directory: String, synchronise: @escaping Synchronise) throws(WitnessStoreError) {
        self.synchronise = synchronise
        do throws(SystemError) {
            self.directory = try DurableDirectory(directory, exclusively: true)
        } catch {
            throw error.isWouldBlock ? .inUse(directory: directory) : .system(error)
        }
        let contents =
            try Self.load("\(directory)/\(Self.logName)")
            ?? WitnessLog.Contents(store: UUID(), records: [:], tornBytes: 0)
        uuid = contents.store
        identity = contents.store.uuidString.lowercased()
        tornBytes = contents.tornBytes
        let image = Self.image(of: contents.records, store: contents.store)
        let log = try Self.put(image, into: self.directory)
        state = Mutex(
            State(records: contents.records, log: log, length: image.count, compactLength: image.count))
    }

    /// Nil when there is no log.
    private static func load(_ path: String) throws(WitnessStoreError) -> WitnessLog.Contents? {
        let bytes: [UInt8]
        do throws(SystemError) {
            bytes = try Files.contents(of: path, limit: logBytesMax)
        } catch {
            if error.errno == ENOENT { return nil }
            throw .system(error)
        }
        do throws(WitnessLog.Damage) {
            return try WitnessLog.parse(bytes)
        } catch {
            throw .damaged(path: path, offset: error.offset, reason: error.reason)
        }
    }

    /// A log of these registers.
    private static func image(of records: [VMName: RegisterRecord], store: UUID) -> [UInt8] {
        var bytes = WitnessLog.header(store)
        for (vm, record) in records { bytes.append(contentsOf: WitnessLog.record(vm, record)) }
        return bytes
    }

    private static func put(
        _ image: [UInt8], into directory: borrowing DurableDirectory
    ) throws(WitnessStoreError) -> OwnedDescriptor {
        do throws(SystemError) {
            return try directory.replace(logName, with: image)
        } catch {
            throw .system(error)
        }
    }

    /// How many VMs have a register here.
    public var vmCount: Int { state.withLock { $0.records.count } }
    /// Bytes of the log.
    public var logLength: Int { state.withLock { $0.length } }

    /// The register of `vm`; nil when nobody claimed it yet.
    package func read(_ vm: VMName) throws(WitnessStoreError) -> Register? {
        try state.withLock { (state) throws(WitnessStoreError) in
            if let failure = state.failure { throw failure }
            return state.records[vm]?.register
        }
    }

    /// `seen` is the highest term of `vm` that the asker saw.
    package func compareAndSet(
        _ vm: VMName, expecting expected: Register?, to new: Register, nonce: Nonce, seen: Term
    ) throws(WitnessStoreError) -> Answer {
        try state.withLock { (state) throws(WitnessStoreError) in
            if let failure = state.failure { throw failure }
            let current = state.records[vm]
            guard current?.register.term ?? Term(0) >= seen else { return .amnesic(current?.register) }
            switch RegisterRules.judge(current, expecting: expected, to: new, nonce: nonce) {
            case .replay: return .applied(new)
            case .conflict: return .conflict(current?.register)
            case .change: break
            }
            guard current != nil || state.records.count < Self.vmsMax else { throw .full }
            let record = RegisterRecord(register: new, nonce: nonce)
            do throws(WitnessStoreError) {
                try append(WitnessLog.record(vm, record), to: &state)
                state.records[vm] = record
                if state.length > state.compactLength + Self.growthMax { try compact(&state) }
            } catch {
                state.failure = .ended("\(error)")
                throw error
            }
            return .applied(new)
        }
    }

    private func append(_ bytes: [UInt8], to state: inout State) throws(WitnessStoreError) {
        do throws(SystemError) {
            try state.log.append(bytes)
            try synchronise(state.log)
        } catch {
            throw .system(error)
        }
        state.length += bytes.count
    }

    private func compact(_ state: inout State) throws(WitnessStoreError) {
        let image = Self.image(of: state.records, store: uuid)
        state.log = try Self.put(image, into: directory)
        state.length = image.count
        state.compactLength = image.count
    }
}

/// Why a witness's store cannot answer. Whether a change that it was about took effect is then not known.
public enum WitnessStoreError: Error, Hashable, Sendable, CustomStringConvertible {
    case inUse(directory: String)
    case damaged(path: String, offset: Int, reason: String)
    case full
    case system(SystemError)
    /// After an error while writing, which is named.
    case ended(String)

    public var description: String {
        switch self {
        case .inUse(let directory):
            "another witness uses \(directory): stop it, or give this one a “state_directory” of its own"
        case .damaged(let path, let offset, let reason):
            "\(path) is damaged at byte \(offset) (\(reason)): what it says cannot be trusted; look at that disk, then move "
                + "the file away to begin a new store, at which all hosts must be enrolled anew"
        case .full:
            "the witness keeps \(WitnessStore.vmsMax) VMs already: use a second witness for further ones"
        case .system(let error):
            "the witness's log cannot be written: \(error)"
        case .ended(let reason):
            "the witness stopped answering after an error (\(reason)): look at its disk, then start it again"
        }
    }
}
