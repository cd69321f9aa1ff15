import Glibc
import LinuxSystem

/// A copy that was lost comes back.
extension ServedDisk {
    /// Opens what lies at its path anew and copies to it what it lacks. Throws when it cannot begin.
    package func rejoin() throws(StorageError) {
        let isFree = state.change { state in
            state.abandoned.removeAll(where: \.isIdle)
            return state.abandoned.isEmpty
        }
        guard isFree else {
            throw .unavailable(
                "an operation on \(path) has not returned that may still change it: the disk has to answer, or fail, first"
            )
        }
        let fresh = try CopyHere(path: path)
        do throws(StorageError) {
            guard fresh.image.size == size else {
                throw .wrongSize(path: path, bytes: fresh.image.size, expected: size)
            }
            try fresh.image.lock()
        } catch {
            fresh.end()
            throw error
        }
        // Its bytes are those that storage has, not those that it was to have.
        fresh.image.forgetCached()
        let began = state.change { state -> Bool in
            guard state.rules.rejoin() else { return false }
            if fresh.image.identity?.isSameFile(as: identity) != true { state.rules.beReplaced() }
            state.here = fresh
            state.bytesCopied = 0
            return true
        }
        guard began else {
            fresh.end()
            throw .unavailable("\(path) is not lost, or the standby does not answer")
        }
        tell()
        do throws(SystemError) {
            _ = try NamedThread.start("disk-rejoin") { [self] in copyBack(fresh) }
        } catch {
            throw .cannotStart(what: "the copying to \(path)", reason: "\(error)")
        }
    }

    private func copyBack(_ here: CopyHere) {
        let replies = ServedReplies(borrowing: -1)
        replies.end()
        while true {
            guard let chunk = claim(here) else { break }
            let range = chunk.range
            let request = ServedRequest(
                .read, offset: range.lowerBound, length: UInt64(range.count), cookie: 0, to: replies)
            let failure = copyOne(request, here)
            state.change { state in
                state.copying = nil
                guard state.here === here else { return }
                if let failure { _ = lose(failure, isFlush: false, &state) } else { state.rules.copied(chunk.number) }
            }
            if failure != nil { break }
        }
        finishRejoin(here)
    }

    /// The next chunk that is stale; no write to it is under way, and none begins. Nil when there is none.
    private func claim(_ here: CopyHere) -> (number: Int, range: Range<UInt64>)? {
        state.wait { state -> (number: Int, range: Range<UInt64>)?? in
            guard state.here === here, state.rules.here == .rejoining, !state.isEnding,
                let number = state.rules.stale.next(from: 0)
            else { return .some(nil) }
            let range = state.rules.stale.range(of: number)
            guard !Self.isBusy(range, state) else { return nil }
            state.copying = range
            return (number, range)
        }
    }

    /// Why it could not be copied; nil when it was, or was equal.
    private func copyOne(_ request: ServedRequest, _ here: CopyHere) -> String? {
        guard let there = state.look({ $0.rules.there == .paired ? $0.there : nil }) else {
            return "the standby is gone, whose copy was being copied"
        }
        let answer = Monitor<UInt32?>(nil)
        there.perform(request) { failure in answer.change { $0 = failure } }
        while true {
            if let failure = answer.wait(nanoseconds: 200_000_000, for: { $0 }) {
                guard failure == NBD.Failure.none else { return "the standby's copy cannot be read" }
                break
            }
            if state.look({ $0.rules.there != .paired || $0.isEnding }) { return "the standby is gone" }
        }
        let present = UnsafeMutableRawBufferPointer.allocate(byteCount: request.data.count, alignment: 16)
        defer { present.deallocate() }
        do throws(StorageError) {
            try here.image.read(offset: request.offset, into: present)
            for run in Self.differences(UnsafeRawBufferPointer(present), UnsafeRawBufferPointer(request.data)) {
                try here.image.write(
                    ImageWrite(
                        offset: request.offset + UInt64(run.lowerBound), length: UInt64(run.count),
                        data: UnsafeRawPointer(request.data.baseAddress.map { $0 + run.lowerBound })))
                state.change { $0.bytesCopied += UInt64(run.count) }
            }
        } catch {
            return error.description
        }
        return nil
    }

    /// Storage is compared by so many bytes, and written likewise.
    private static let blockSize = 4096

    /// The runs of blocks in which two buffers of the same size differ.
    static func differences(_ one: UnsafeRawBufferPointer, _ other: UnsafeRawBufferPointer) -> [Range<Int>] {
        var runs: [Range<Int>] = []
        for start in stride(from: 0, to: one.count, by: blockSize) {
            let end = min(start + blockSize, one.count)
            if memcmp(one.baseAddress! + start, other.baseAddress! + start, end - start) == 0 { continue }
            if let last = runs.last, last.upperBound == start {
                runs[runs.count - 1] = last.lowerBound..<end
            } else {
                runs.append(start..<end)
            }
        }
        return runs
    }

    /// Once storage has all of it, it is whole.
    private func finishRejoin(_ here: CopyHere) {
        var failure: String?
        while failure == nil {
            do throws(StorageError) { try here.image.flush() } catch { failure = error.description }
            let isOver = state.change { state -> Bool in
                guard state.here === here, state.rules.here == .rejoining else { return true }
                if let failure { return lose(failure, isFlush: true, &state) }
                if state.rules.becomeWhole() { state.lostAt = nil }
                return true
            }
            if isOver { break }
        }
        settle()
        tell()
    }
}
