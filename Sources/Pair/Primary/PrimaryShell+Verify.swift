import Hypervisor
import LinuxSystem
import Memory
import Model
import Wire

/// Comparing the replica's memory with the guest's, page by page, while the guest runs.
extension PrimaryShell {
    /// No checkpoint, or no answer, within this: the verification is given up. In nanoseconds.
    private static let verificationPatience: UInt64 = 60_000_000_000

    /// Compares all of the guest's memory with its replica's at committed epochs. Pages that differ are sent again. Call it on a
    /// thread of its own, which becomes one of low priority.
    ///
    /// - Parameter goesOn: called now and then with what is known so far; false ends it.
    /// - Throws: `refused` where it is not possible now, else why it ended.
    public func verifyMemory(
        _ goesOn: (MemoryVerdict) -> Bool
    ) throws(SessionError) -> MemoryVerdict {
        let (id, guest) = try beginVerification()
        defer { verification.end() }
        NamedThread.giveWay()
        let reading: VerificationReading
        do throws(SystemError) {
            reading = try VerificationReading(of: guest.process.pid, guest.trackedPlaces)
        } catch {
            throw SessionError(.system, "the memory of \(options.vm) cannot be read: \(error)")
        }
        return try verify(VerificationPlan(guest.ramBlocks), reading, id, goesOn)
    }

    private func verify(
        _ plan: consuming VerificationPlan, _ reading: consuming VerificationReading, _ id: SessionID,
        _ goesOn: (MemoryVerdict) -> Bool
    ) throws(SessionError) -> MemoryVerdict {
        let began = MonotonicClock.now()
        func look(_ verdict: MemoryVerdict) throws(SessionError) {
            try checkVerification(id)
            guard goesOn(verdict) else { throw SessionError(.refused, "the verification was called off") }
        }
        repeat {
            while let batch = try read(&plan, &reading) {
                try look(plan.verdict)
                let answer = try awaitAnswer { () throws(SessionError) in try look(plan.verdict) }
                verification.mend(plan.take(reading.batch(batch, answer)))
            }
        } while plan.beginRound()
        while verification.isMending {
            try look(plan.verdict)
            MonotonicClock.sleep(until: MonotonicClock.now() + 20_000_000)
        }
        return plan.verdict.over(after: MonotonicClock.now() - began)
    }

    /// Why not, or the session and the guest.
    private func beginVerification() throws(SessionError) -> (SessionID, GuestDescription) {
        func refused(_ reason: String) -> SessionError {
            SessionError(.refused, "the replica of \(options.vm) cannot be verified now: \(reason)")
        }
        let status = status
        guard status.phase == .protected, status.acknowledged > .firstCopy else {
            throw refused("it is \(status.phase.rawValue), not protected")
        }
        let (id, guest, canVerify, isPaused) = state.withLock {
            ($0.duty.connection.session, $0.guest, $0.duty.connection.canVerify, $0.duty.isGuestPaused)
        }
        guard canVerify else {
            throw refused("the agent of \(options.standby) is older and does not know how: update it")
        }
        guard !isPaused else {
            throw refused("somebody paused the guest, so there are no checkpoints: let it run on first")
        }
        guard let guest else { throw refused("its guest was not found yet") }
        guard verification.begin(id) else { throw refused("that is being done already: wait for its end") }
        return (id, guest)
    }

    /// Throws when the session that is verified is not what it was.
    private func checkVerification(_ id: SessionID) throws(SessionError) {
        let (phase, reason) = (status.phase, status.lastError)
        let (current, isPaused, linkDown) = state.withLock {
            ($0.duty.connection.session, $0.duty.isGuestPaused, $0.duty.connection.linkDown)
        }
        if phase != .protected || current != id || linkDown != nil {
            let why = linkDown ?? reason ?? "no reason given"
            throw SessionError(.peerLost, "protection of \(options.vm) ended while its replica was verified: \(why)")
        }
        if isPaused {
            throw SessionError(
                .refused, "somebody paused \(options.vm) while its replica was verified: let it run on first")
        }
    }

    /// Reads the next batch, until a seal begins or it is full. Nil at the end of a round.
    private func read(
        _ plan: inout VerificationPlan, _ reading: inout VerificationReading
    ) throws(SessionError) -> [PageRun]? {
        verification.open()
        reading.begin()
        var runs: [PageRun] = []
        var pages = 0
        while pages < VerifyQuestion.pagesMax,
            let run = plan.next(min(VerificationReading.pagesAtOnce, VerifyQuestion.pagesMax - pages))
        {
            do throws(SystemError) {
                try reading.add(run)
            } catch {
                throw SessionError(.system, "the memory of \(options.vm) cannot be read: \(error)")
            }
            guard verification.add(run) else {
                reading.dropLast(run)
                plan.putBack(run)
                break
            }
            runs.append(run)
            pages += Int(run.count)
        }
        guard !runs.isEmpty else { return nil }
        verification.close()
        wake.signal()
        return runs
    }

    private func awaitAnswer(
        _ look: () throws(SessionError) -> Void
    ) throws(SessionError) -> MemoryVerification.Answer {
        let deadline = MonotonicClock.now() + Self.verificationPatience
        while MonotonicClock.now() < deadline {
            if let answer = verification.awaitAnswer(200_000_000) { return answer }
            try look()
        }
        throw SessionError(
            .peerLost,
            "\(options.standby) did not tell of the memory of \(options.vm) within"
                + " \(Self.verificationPatience / 1_000_000_000) s: it may be busy, verify it again later")
    }
}

/// Reads and digests pages of a running guest for one batch after the other.
private struct VerificationReading: ~Copyable {
    /// A piece: what is read without looking whether the batch was taken.
    static let pagesAtOnce = 256
    /// The process's memory map is not locked for longer than this many pages take.
    private static let pagesPerCall: UInt32 = 64

    private var glance: MemoryGlance
    private let piece: Mapping
    private var digests: [UInt8] = []
    private var empty: [Int] = []
    private var positions: [Int] = []

    init(of pid: Int32, _ blocks: [TrackedBlock]) throws(SystemError) {
        let piece = try Mapping.anonymous(length: Self.pagesAtOnce * pageSize)
        glance = try MemoryGlance(of: pid, blocks)
        self.piece = piece
    }

    mutating func begin() {
        digests.removeAll(keepingCapacity: true)
        empty.removeAll(keepingCapacity: true)
    }

    mutating func add(_ run: PageRun) throws(SystemError) {
        let before = digests.count / PageDigest.size
        var done: UInt32 = 0
        while done < run.count {
            let part = TrackedRun(
                block: run.block, first: run.first + done, count: min(Self.pagesPerCall, run.count - done))
            positions.removeAll(keepingCapacity: true)
            let target = UnsafeMutableRawBufferPointer(rebasing: piece.bytes[(Int(done) * pageSize)...])
            try glance.copy(part, into: target, empty: &positions)
            for position in positions { empty.append(before + Int(done) + position) }
            done += part.count
        }
        withUnsafeTemporaryAllocation(byteCount: PageDigest.size, alignment: 16) { digest in
            for page in 0..<Int(run.count) {
                PageDigest.make(of: piece.bytes.baseAddress! + page * pageSize, into: digest.baseAddress!)
                digests.append(contentsOf: digest)
            }
        }
    }

    mutating func dropLast(_ run: PageRun) {
        digests.removeLast(Int(run.count) * PageDigest.size)
        let kept = digests.count / PageDigest.size
        while let last = empty.last, last >= kept { empty.removeLast() }
    }

    /// The batch that the standby was asked about.
    func batch(_ runs: [PageRun], _ answer: MemoryVerification.Answer) -> VerifiedBatch {
        var written = answer.written
        written.sort()
        return VerifiedBatch(
            runs: runs, ours: digests, theirs: answer.digests, empty: empty, written: written, epoch: answer.epoch)
    }
}

extension MemoryVerdict {
    fileprivate func over(after duration: UInt64) -> MemoryVerdict {
        var verdict = self
        verdict.duration = duration
        return verdict
    }
}
