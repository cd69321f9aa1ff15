import Glibc
import LinuxSystem

/// One disk of a guest, served from two copies: reads are answered here, writes are done when both have them. A copy here that
/// fails or does not answer in time is left behind, and the guest sees nothing of it. `ServedState` has the rules, this
/// carries them out.
///
/// QEMU's requests come from the threads of its connections; answers leave on whatever thread ends them.
package final class ServedDisk: Sendable {
    /// A request, and what is waited for before it is answered.
    struct UnderWay {
        var request: ServedRequest
        /// When it was given to the copy here, by the monotonic clock; nil when that is not waited for.
        var here: UInt64?
        var there: Bool
        /// The copy here has it.
        var reachedHere = false
        var failure: UInt32 = NBD.Failure.none
    }

    struct State {
        var rules: ServedState
        var here: CopyHere
        var there: CopyThere?
        var underWay: [UInt64: UnderWay] = [:]
        var next: UInt64 = 0
        /// Copies that were left behind with operations that have not returned.
        var abandoned: [CopyHere] = []
        /// When the copy here was asked for its size, which is not known yet; and what it was last.
        var sizeAskedAt: UInt64?
        var sizeSeen: UInt64
        /// The oldest request that waits for the other copy alone, and since when that is known; and when the copy here was probed
        /// for that, as long as it did not answer.
        var waits: (number: UInt64, since: UInt64)?
        var probedAt: UInt64?
        /// What a rejoining copy works on at present: writes to it wait.
        var copying: Range<UInt64>?
        var bytesCopied: UInt64 = 0
        /// Since when a disk is lost, by the wall clock in seconds, to be shown.
        var lostAt: Int?
        var isEnding = false
    }

    /// A flush writes out what came before it, so it may take so many times as long as another request.
    static let flushPatience: UInt64 = 10
    static let glance: UInt64 = 20_000_000
    /// A request that waits for the other copy alone for so long has the one here probed.
    static let probeAfter: UInt64 = 200_000_000

    let size: UInt64
    let path: String
    /// In nanoseconds.
    let bound: UInt64
    let changed: @Sendable (ServedReport) -> Void
    let state: Monitor<State>
    let identity: KeptDigests.Identity?

    /// Opens the copy here.
    /// - Parameters:
    ///   - bound: how long its storage may take for a request, in milliseconds.
    ///   - lost: why it is not whole from the start: nothing is known of what it holds.
    ///   - changed: told after each change of what `report` says.
    package init(
        path: String, size: UInt64, bound: Int, lost: String? = nil, changed: @escaping @Sendable (ServedReport) -> Void
    ) throws(StorageError) {
        let here = try CopyHere(path: path)
        guard here.image.size == size else {
            here.end()
            throw .wrongSize(path: path, bytes: here.image.size, expected: size)
        }
        self.path = path
        self.size = size
        self.bound = UInt64(bound) * 1_000_000
        self.changed = changed
        identity = here.image.identity
        var rules = ServedState(size: size)
        if let lost {
            _ = rules.lose(lost, missing: [], isFlush: true)
            here.end()
        }
        state = Monitor(State(rules: rules, here: here, sizeSeen: size))
        do throws(SystemError) {
            _ = try NamedThread.start("disk-watch") { [self] in watch() }
        } catch {
            throw .cannotStart(what: "the watch of \(path)", reason: "\(error)")
        }
    }

    package var report: ServedReport { state.look(Self.report) }

    static func report(_ state: inout State) -> ServedReport {
        state.rules.report(bytesCopied: state.bytesCopied, lostAt: state.lostAt)
    }

    func tell() { changed(report) }

    /// Where QEMU finds it.
    package func server() -> NBDServer {
        NBDServer(NBDServer.Export(name: "", disk: 0, size: size), threadName: "disk-qemu") {
            (descriptor) throws(NBDConversation.Ending) in
            var conversation = ServedConversation(self, borrowing: descriptor)
            try conversation.run()
        }
    }

    // MARK: - What the agent says

    /// Requests go to the standby too, by an NBD conversation on that socket.
    package func pair(over socket: consuming OwnedDescriptor) throws {
        pair(try CopyThere(socket, size: size) { [weak self] in self?.fallSilent() })
    }

    /// From here on requests go to the standby too.
    func pair(_ there: CopyThere) {
        state.change { state in
            state.there = there
            state.rules.pair()
            // Nothing was answered that is under way, so it goes there whole.
            for number in state.underWay.keys { Self.sendThere(number, &state, self) }
        }
        settle()
    }

    func fallSilent() { state.change { $0.rules.fallSilent() } }

    /// The register names this host alone: the standby is waited for no more.
    package func goAlone() {
        state.change { state in
            state.rules.goAlone()
            state.there.take()?.end()
            for number in state.underWay.keys { state.underWay[number]?.there = false }
        }
        settle()
    }

    package func note(_ loss: UInt64) {
        state.change { $0.rules.note(loss) }
        settle()
        tell()
    }

    package func lock() throws(StorageError) {
        let here = state.look { $0.rules.isWhole ? $0.here : nil }
        try here?.image.lock()
    }

    package func unlock() { state.look { $0.here.image.unlock() } }

    package func end() {
        state.change { state in
            state.isEnding = true
            state.here.end()
            state.there?.end()
        }
    }

    // MARK: - Requests

    /// Waits while a write that overlaps is under way: two copies have to see them in one order.
    func take(_ request: ServedRequest) {
        if request.kind == .read, readNow(request) { return }
        let fails = state.wait { state -> Bool? in
            guard !request.changes || !Self.isBusy(request.range, state) else { return nil }
            begin(request, &state)
            return state.rules.failsAll
        }
        // What waits for nothing: a flush where nothing is to be flushed, and what fails.
        if request.kind == .flush || fails { settle() }
    }

    static func isBusy(_ range: Range<UInt64>, _ state: State) -> Bool {
        if let copying = state.copying, copying.overlaps(range) { return true }
        return state.underWay.values.contains { $0.request.changes && $0.request.range.overlaps(range) }
    }

    /// True when it lay in memory.
    func readNow(_ request: ServedRequest) -> Bool {
        guard let here = state.look({ $0.rules.isWhole ? $0.here : nil }),
            here.image.readNow(offset: request.offset, into: request.data)
        else { return false }
        request.answer()
        return true
    }

    func begin(_ request: ServedRequest, _ state: inout State) {
        let number = state.next
        state.next += 1
        state.underWay[number] = UnderWay(request: request, here: nil, there: false)
        switch request.kind {
        case .read:
            guard let readsHere = state.rules.readsHere else { return }
            if readsHere { sendHere(number, &state) } else { Self.sendThere(number, &state, self) }
        case .write, .zero:
            let places = state.rules.places(ofWrite: request.range)
            if places.here { sendHere(number, &state) }
            Self.sendThere(number, &state, self)
        case .flush:
            if case .lost = state.rules.here {} else { sendHere(number, &state) }
            Self.sendThere(number, &state, self)
        }
    }

    func sendHere(_ number: UInt64, _ state: inout State) {
        guard let request = state.underWay[number]?.request else { return }
        state.underWay[number]?.here = MonotonicClock.now()
        if request.flushes { state.rules.beginFlush() }
        let here = state.here
        here.perform { (image) throws(StorageError) in
            switch request.kind {
            case .read: try image.read(offset: request.offset, into: request.data)
            case .write, .zero:
                try image.write(request.write)
                if request.fua { try image.flush() }
            case .flush: try image.flush()
            }
        } done: { [self] failure in
            doneHere(number, here, failure)
        }
    }

    /// A read goes there only where it is not answered here.
    static func sendThere(_ number: UInt64, _ state: inout State, _ disk: ServedDisk) {
        guard state.rules.there != .alone, let entry = state.underWay[number],
            entry.request.kind != .read || entry.here == nil
        else { return }
        state.underWay[number]?.there = true
        state.there?.perform(entry.request) { [weak disk] failure in disk?.doneThere(number, failure) }
    }

    func doneHere(_ number: UInt64, _ here: CopyHere, _ failure: StorageError?) {
        let isLost = state.change { state -> Bool in
            // What comes late, from a copy that was left behind, is nothing any more.
            guard state.here === here, let entry = state.underWay[number], entry.here != nil else { return false }
            if let failure {
                return lose(failure.description, isFlush: entry.request.flushes, &state)
            }
            if entry.request.flushes { state.rules.endFlush() }
            state.underWay[number]?.here = nil
            state.underWay[number]?.reachedHere = true
            return false
        }
        settle()
        if isLost { tell() }
    }

    func doneThere(_ number: UInt64, _ failure: UInt32) {
        state.change { state in
            guard let entry = state.underWay[number], entry.there else { return }
            if failure != NBD.Failure.none {
                // A write that the agent cannot carry is never said to be done: who goes on is decided elsewhere.
                guard entry.request.kind == .read else { return }
                state.underWay[number]?.failure = failure
            }
            state.underWay[number]?.there = false
            if entry.request.kind == .read { state.underWay[number]?.reachedHere = true }
        }
        settle()
    }

    /// Answers what is done, and what fails.
    func settle() {
        let ended = state.change { state -> [UnderWay] in
            let fails = state.rules.failsAll
            let numbers = state.underWay.filter { entry in
                entry.value.here == nil && !entry.value.there && (fails || Self.isDone(entry.value, state.rules))
            }.keys
            return numbers.compactMap { number in
                guard var entry = state.underWay.removeValue(forKey: number) else { return nil }
                if !Self.isDone(entry, state.rules) { entry.failure = NBD.Failure.io }
                return entry
            }
        }
        for entry in ended { entry.request.answer(entry.failure) }
    }

    /// Of a request for which nothing is waited for any more.
    private static func isDone(_ entry: UnderWay, _ rules: ServedState) -> Bool {
        entry.request.kind == .read ? entry.reachedHere : rules.mayAnswer(reachedHere: entry.reachedHere)
    }

    // MARK: - The copy here is lost

    /// Leaves it behind, with all that is under way there. True when it was not lost before.
    func lose(_ why: String, isFlush: Bool, _ state: inout State) -> Bool {
        let atWork = state.underWay.filter { $0.value.here != nil }
        let missing = atWork.values.filter { $0.request.changes }.map(\.request.range)
        guard state.rules.lose(why, missing: missing, isFlush: isFlush) else { return false }
        state.lostAt = time(nil)
        let here = state.here
        here.end()
        state.abandoned.append(here)
        (state.sizeAskedAt, state.sizeSeen) = (nil, size)
        (state.waits, state.probedAt) = (nil, nil)
        for (number, entry) in atWork {
            state.underWay[number]?.here = nil
            guard entry.request.kind == .read else { continue }
            // The first one's bytes may still be written to.
            state.underWay[number]?.request = entry.request.again()
            if state.rules.readsHere == false { Self.sendThere(number, &state, self) }
        }
        return true
    }
}
