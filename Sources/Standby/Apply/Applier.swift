import Codec
import GuestNetwork
import Memory
import Model
import Storage
import Wire

/// Writes frames into the replica. Used by the session's apply thread only.
///
/// Applying an epoch twice gives the same replica: pages are written as values, not as differences, and so are disk
/// blocks. That is what makes a killed agent harmless; it starts the interrupted apply over.
package struct Applier: ~Copyable {
    /// Nil where there are disks only.
    private var memory: ReplicaMemory?
    private let disks: [StagedDisk]
    private let work: ImageWork
    private var decoder = PageDecoder()
    private var blob = BlobCodec()
    private var pieces = ByteSink()
    private var decoded = ByteSink()
    /// The device state of the last applied checkpoint, as `xen-save-devices-state` wrote it.
    package private(set) var deviceState: [UInt8] = []

    package init(memory: ReplicaMemory?, disks: [StagedDisk], work: ImageWork = ImageWork()) {
        self.memory = memory
        self.disks = disks
        self.work = work
    }

    /// Applies one frame that belongs to no checkpoint, of the first copy or a `ThroughWrites`: it goes straight into memory
    /// and images.
    package mutating func applyDirectly(_ header: FrameHeader, _ body: UnsafeRawBufferPointer) throws(SessionError) {
        do {
            switch header.type {
            case .pages: try decodePages(body)
            case .diskWrite:
                let write = try DiskWrite(parsing: body)
                let disk = try disks.disk(write.disk)
                try work.time { () throws(StorageError) in
                    try disk.writeThrough(offset: write.offset, data: write.data)
                }
            case .diskZero:
                let zero = try DiskZero(parsing: body)
                let disk = try disks.disk(zero.disk)
                try work.time { () throws(StorageError) in
                    try disk.zeroThrough(offset: zero.offset, length: zero.length, mayUnmap: zero.mayUnmap)
                }
            // As long as storage takes: what it may hang at is noticed at the next write.
            case .diskFlush: try disks.disk(try DiskFlush(parsing: body).disk).image.flush()
            default:
                throw SessionError(.protocolBroken, "a \(header.type) frame cannot be part of the first copy")
            }
        } catch {
            throw Self.wrap(error, Epoch(header.epoch) == .firstCopy ? "the first copy" : "a write")
        }
    }

    /// Applies a whole checkpoint.
    package mutating func apply(_ epoch: Epoch, _ frames: UnsafeRawBufferPointer) throws(SessionError) {
        var walk = StagedFrames(frames)
        do {
            while let (header, body) = try walk.next() {
                switch header.type {
                case .pages: try decodePages(body)
                case .deviceState: try collect(try DeviceStateFrame(parsing: body))
                default: break  // Disk writes are in the overlay already; output waits for the failover.
                }
            }
            for disk in disks {
                try work.time { () throws(StorageError) in try disk.apply(through: epoch) }
            }
        } catch {
            throw Self.wrap(error, "checkpoint \(epoch)")
        }
    }

    /// Puts the pieces of a device state together and decodes the whole.
    private mutating func collect(_ piece: DeviceStateFrame) throws {
        if piece.offset == 0 { pieces.reset() }
        guard Int(piece.offset) == pieces.count else {
            throw SessionError(
                .protocolBroken, "a piece of device state at \(piece.offset) where \(pieces.count) was expected")
        }
        pieces.append(contentsOf: piece.payload)
        guard pieces.count == Int(piece.total) else { return }
        decoded.reset()
        let previous = deviceState
        try previous.withUnsafeBytes { previous in
            try blob.decode(pieces.bytes, previous: previous.isEmpty ? nil : previous, into: &decoded)
        }
        deviceState = Array(decoded.bytes)
    }

    /// Takes up where an earlier run of the agent left off.
    package mutating func restore(deviceState: [UInt8]) { self.deviceState = deviceState }

    /// Begins anew with another memory, or with none: nothing that comes rests on what came before.
    package mutating func begin(with memory: ReplicaMemory?) {
        self.memory = memory
        decoder = PageDecoder()
        blob = BlobCodec()
        pieces.reset()
        deviceState = []
    }

    private mutating func decodePages(_ body: UnsafeRawBufferPointer) throws(CodecError) {
        let memory = memory
        _ = try decoder.decode(body: body) { memory?.target($0) }
    }

    private static func wrap(_ error: any Error, _ what: String) -> SessionError {
        switch error {
        case let error as SessionError: error
        case StorageError.outOfBounds: SessionError(.protocolBroken, "\(what) cannot be applied: \(error)")
        case let error as StorageError: SessionError(.storage, "\(what) cannot be applied: \(error)")
        default: SessionError(.protocolBroken, "\(what) cannot be applied: \(error)")
        }
    }
}
