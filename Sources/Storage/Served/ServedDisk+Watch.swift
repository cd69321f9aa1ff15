import LinuxSystem

/// Whether the copy here still works: what is found out by looking.
extension ServedDisk {
    /// Looks whether the copy here still answers, and is as long as it was.
    func watch() {
        while !state.look(\.isEnding) {
            MonotonicClock.sleep(until: MonotonicClock.now() + Self.glance)
            let isLost = state.change { state in
                guard !state.isEnding, let why = fault(state) else { return false }
                return lose(why, isFlush: false, &state)
            }
            askForSize()
            probe()
            if isLost {
                settle()
                tell()
            }
        }
    }

    func fault(_ state: State) -> String? {
        if case .lost = state.rules.here { return nil }
        let now = MonotonicClock.now()
        for entry in state.underWay.values {
            guard let began = entry.here else { continue }
            if let late = late(since: began, isFlush: entry.request.flushes, now) { return late }
        }
        if let asked = state.sizeAskedAt, let late = late(since: asked, isFlush: false, now) { return late }
        if let probed = state.probedAt, let late = late(since: probed, isFlush: true, now) { return late }
        if state.sizeSeen < size { return "\(path) became shorter: it has \(state.sizeSeen) of \(size) bytes" }
        return nil
    }

    private func late(since began: UInt64, isFlush: Bool, _ now: UInt64) -> String? {
        let limit = isFlush ? bound * Self.flushPatience : bound
        return now > began + limit ? "\(path) did not answer within \(limit / 1_000_000) ms" : nil
    }

    /// Asks the copy here for its size: one that hangs may not even tell that.
    func askForSize() {
        let here = state.change { state -> CopyHere? in
            if case .lost = state.rules.here { return nil }
            guard !state.isEnding, state.sizeAskedAt == nil else { return nil }
            state.sizeAskedAt = MonotonicClock.now()
            return state.here
        }
        guard let here else { return }
        here.perform { [self] image in
            let present = image.sizeNow
            state.change { state in
                guard state.here === here else { return }
                state.sizeAskedAt = nil
                state.sizeSeen = present ?? size
            }
        } done: { _ in
        }
    }

    /// As long as all waits for the other copy, nothing tells whether the one here still works; and it may soon be the only one.
    /// Its storage is asked.
    func probe() {
        let here = state.change { state -> CopyHere? in
            let waiting = state.underWay.filter { $0.value.there && $0.value.here == nil && $0.value.reachedHere }
            guard state.rules.isWhole, state.probedAt == nil, let oldest = waiting.keys.min() else {
                state.waits = nil
                return nil
            }
            let now = MonotonicClock.now()
            guard let waits = state.waits, waits.number == oldest else {
                state.waits = (oldest, now)
                return nil
            }
            guard now >= waits.since + Self.probeAfter else { return nil }
            (state.waits, state.probedAt) = (nil, now)
            return state.here
        }
        guard let here else { return }
        here.perform { (image) throws(StorageError) in
            try image.flush()
        } done: { [self] failure in
            let isLost = state.change { state -> Bool in
                guard state.here === here else { return false }
                state.probedAt = nil
                guard let failure else { return false }
                return lose(failure.description, isFlush: true, &state)
            }
            guard isLost else { return }
            settle()
            tell()
        }
    }
}
