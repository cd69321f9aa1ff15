import Glibc
import Model

/// How much is staged and not applied yet.
public struct StagedAmount: Sendable, Hashable {
    public var writes = 0
    /// Of write data; zeroed ranges count nothing.
    public var bytes = 0

    public init(writes: Int = 0, bytes: Int = 0) {
        self.writes = writes
        self.bytes = bytes
    }
}

/// A standby's disk: its image, and the writes of epochs that are not applied to it yet.
///
/// A write is staged by reference, not copied. Reads see all that is staged, the latest first. `apply` writes whole
/// epochs into the image in the order in which the guest wrote; because they are plain values, applying an epoch again
/// (after the agent was killed in the middle of it) gives the same image. All calls may come from any thread; `stage`,
/// `stageZero` and the counts never wait for the image.
// SAFETY: everything mutable is touched with `mutex` held; both pthread objects live at fixed addresses. The bytes
// that writes point to stay valid until `apply` or `discard` has removed the writes, by contract with the caller;
// both wait for readers before they return.
public final class StagedDisk: @unchecked Sendable {
    public let image: DiskImage
    /// `stage` fails beyond these.
    public let limit: StagedAmount

    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let changed = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    /// In the order in which the guest wrote.
    private var writes: [ImageWrite] = []
    /// The epoch of each; they never fall.
    private var epochs: [Epoch] = []
    private var amount = StagedAmount()
    private var appliedThrough = Epoch.firstCopy
    /// What `apply` is writing right now; it stays listed until that is done.
    private var applying: Epoch?
    private var readers = 0
    /// Someone wants to remove writes: new readers wait, so that it gets its turn.
    private var removers = 0

    /// `limit` bounds what the list of staged writes may hold; the bytes themselves belong to the caller.
    public init(
        image: DiskImage, limit: StagedAmount = StagedAmount(writes: 1 << 20, bytes: 4 << 30)
    ) {
        self.image = image
        self.limit = limit
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(changed, nil)
    }

    deinit {
        pthread_cond_destroy(changed)
        pthread_mutex_destroy(mutex)
        changed.deallocate()
        mutex.deallocate()
    }

    public var size: UInt64 { image.size }

    /// What waits to be applied.
    public var staged: StagedAmount { withLock { amount } }

    /// True when `writes` more with `bytes` in all would still be taken.
    public func hasRoom(writes: Int, bytes: Int) -> Bool {
        withLock { limit.writes - amount.writes >= writes && limit.bytes - amount.bytes >= bytes }
    }

    // MARK: - First copy

    /// A write of the first copy (epoch 0), which goes into the image at once.
    public func writeThrough(offset: UInt64, data: UnsafeRawBufferPointer) throws(StorageError) {
        try image.write(offset: offset, data: data)
    }

    /// Zeros of the first copy (epoch 0), which go into the image at once.
    public func zeroThrough(offset: UInt64, length: UInt64, mayUnmap: Bool) throws(StorageError) {
        try image.zero(offset: offset, length: length, mayUnmap: mayUnmap)
    }

    // MARK: - Stage

    /// Holds a write of an epoch. `data` must stay valid and unchanged until `apply(through:)` of this or a later epoch,
    /// or `discard(after:)` of an earlier one, has returned. Epochs never fall from call to call.
    public func stage(epoch: Epoch, offset: UInt64, data: UnsafeRawBufferPointer) throws(StorageError) {
        guard let base = data.baseAddress, !data.isEmpty else { return }
        try stage(epoch, ImageWrite(offset: offset, length: UInt64(data.count), data: base))
    }

    /// Holds a range of zeros of an epoch.
    public func stageZero(epoch: Epoch, offset: UInt64, length: UInt64, mayUnmap: Bool) throws(StorageError) {
        guard length > 0 else { return }
        try stage(epoch, ImageWrite(offset: offset, length: length, data: nil, mayUnmap: mayUnmap))
    }

    private func stage(_ epoch: Epoch, _ write: ImageWrite) throws(StorageError) {
        guard write.offset <= size, write.length <= size - write.offset else {
            throw .outOfBounds(path: image.path, offset: write.offset, length: write.length, size: size)
        }
        let failure = withLock { () -> StorageError? in
            let earliest = max(epochs.last ?? .firstCopy, max(appliedThrough, applying ?? .firstCopy).next)
            guard epoch >= earliest else {
                return .wrongEpoch(path: image.path, epoch: epoch.number, expected: earliest.number)
            }
            guard amount.writes < limit.writes, limit.bytes - amount.bytes >= write.dataBytes else {
                return .tooMuchStaged(path: image.path, writes: amount.writes, bytes: amount.bytes)
            }
            writes.append(write)
            epochs.append(epoch)
            amount.writes += 1
            amount.bytes += write.dataBytes
            return nil
        }
        if let failure { throw failure }
    }

    // MARK: - Apply, discard

    /// Writes everything staged up to and including `epoch` into the image, in order, and forgets it. When it throws,
    /// part of it may be in the image, all of it is still staged, and it can be called again. One caller at a time; a
    /// second waits for the first.
    public func apply(through epoch: Epoch) throws(StorageError) {
        let begun = withLock {
            while applying != nil { pthread_cond_wait(changed, mutex) }
            applying = epoch
            return writes[..<firstIndex(after: epoch)]
        }
        var failure: StorageError?
        do throws(StorageError) {
            try image.write(begun)
        } catch {
            failure = error
        }
        withLock {
            if failure == nil {
                waitToRemove { false }
                remove(0..<begun.count)
                appliedThrough = max(appliedThrough, epoch)
            }
            applying = nil
            pthread_cond_broadcast(changed)
        }
        if let failure { throw failure }
    }

    /// Forgets everything staged after `epoch`. Waits for reads that are under way, and for an `apply` that goes beyond
    /// `epoch`.
    public func discard(after epoch: Epoch) {
        withLock {
            waitToRemove { applying.map { $0 > epoch } ?? false }
            remove(firstIndex(after: epoch)..<writes.count)
            pthread_cond_broadcast(changed)
        }
    }

    // MARK: - Read

    /// Fills `target` with what the disk holds with everything staged so far in place.
    public func read(offset: UInt64, into target: UnsafeMutableRawBufferPointer) throws(StorageError) {
        withLock {
            while removers > 0 { pthread_cond_wait(changed, mutex) }
            readers += 1
        }
        defer {
            withLock {
                readers -= 1
                if readers == 0 { pthread_cond_broadcast(changed) }
            }
        }
        // The image first. What an `apply` writes into it meanwhile is listed until the last reader has gone, so what is
        // laid over the image covers every place that may be half written.
        try image.read(offset: offset, into: target)
        let end = offset + UInt64(target.count)
        let overlay = withLock { writes.filter { $0.offset < end && offset < $0.end } }
        for write in overlay {
            let first = max(write.offset, offset)
            let part = UnsafeMutableRawBufferPointer(
                rebasing: target[Int(first - offset)..<Int(min(write.end, end) - offset)])
            if let data = write.data {
                part.copyMemory(
                    from: UnsafeRawBufferPointer(start: data + Int(first - write.offset), count: part.count))
            } else {
                part.initializeMemory(as: UInt8.self, repeating: 0)
            }
        }
    }

    /// `ChunkDigest`s of the image, without what is staged: for the first copy, when nothing is.
    public func digests(firstChunk: UInt64, count: Int) throws(StorageError) -> [UInt8] {
        try image.digests(firstChunk: firstChunk, count: count)
    }

    // MARK: - With the lock held

    private func withLock<R>(_ body: () -> R) -> R {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return body()
    }

    /// Where the writes of epochs after `epoch` start.
    private func firstIndex(after epoch: Epoch) -> Int {
        var (low, high) = (0, epochs.count)
        while low < high {
            let middle = (low + high) / 2
            if epochs[middle] <= epoch { low = middle + 1 } else { high = middle }
        }
        return low
    }

    /// Returns when nobody reads and `isBusy` is false.
    private func waitToRemove(_ isBusy: () -> Bool) {
        removers += 1
        while readers > 0 || isBusy() { pthread_cond_wait(changed, mutex) }
        removers -= 1
    }

    private func remove(_ range: Range<Int>) {
        amount.writes -= range.count
        for write in writes[range] { amount.bytes -= write.dataBytes }
        writes.removeSubrange(range)
        epochs.removeSubrange(range)
    }
}
