import Glibc

extension QMPConnection {
    /// Sends one command without waiting; the id is for `awaitReply` or `awaitValue`.
    public func send(_ command: QMPCommand, descriptors: [Int32] = []) throws(QMPError) -> UInt64 {
        outgoing.removeAll(keepingCapacity: true)
        enqueue(command)
        try flush(descriptors: descriptors)
        return lastID
    }

    /// Sends several commands in one write; QEMU runs them in this order, each whatever became of those before it. The
    /// ids are consecutive. `descriptors` travel with the first.
    public func send(_ commands: [QMPCommand], descriptors: [Int32] = []) throws(QMPError) -> Range<UInt64> {
        let first = lastID + 1
        outgoing.removeAll(keepingCapacity: true)
        for command in commands { enqueue(command) }
        try flush(descriptors: descriptors)
        return first..<lastID + 1
    }

    /// Waits until the command was carried out; its value is dropped. Nothing is allocated when the value is `{}`.
    public func awaitReply(_ id: UInt64, timeout: Duration = .seconds(10)) throws(QMPError) {
        _ = try awaitValue(id, until: ContinuousClock.now + timeout)
    }

    /// Waits for the command's value.
    public func awaitValue(_ id: UInt64, timeout: Duration = .seconds(10)) throws(QMPError) -> JSONValue {
        try awaitValue(id, until: ContinuousClock.now + timeout)
    }

    /// Whether the command's answer has come, of what was received so far.
    public func isAnswered(_ id: UInt64) -> Bool {
        waiting.contains { $0.id == id && $0.reply != nil }
    }

    /// Waits for the command's answer without giving the command up; false when none came.
    public func isAnswered(_ id: UInt64, within timeout: Duration) throws(QMPError) -> Bool {
        let deadline = ContinuousClock.now + timeout
        while !isAnswered(id) {
            guard try receive(until: deadline) else { return false }
        }
        return true
    }

    /// Waits for all of a batch and throws the first failure, after the last reply has come.
    public func awaitReplies(_ ids: Range<UInt64>, timeout: Duration = .seconds(10)) throws(QMPError) {
        let deadline = ContinuousClock.now + timeout
        var first: QMPError?
        for id in ids {
            do throws(QMPError) {
                _ = try awaitValue(id, until: deadline)
            } catch {
                if error.isFatal { throw error }
                first = first ?? error
            }
        }
        if let first { throw first }
    }

    func awaitValue(_ id: UInt64, until deadline: ContinuousClock.Instant) throws(QMPError) -> JSONValue {
        while true {
            guard let index = waiting.firstIndex(where: { $0.id == id }) else { throw error(.closed) }
            if let reply = waiting[index].reply {
                let command = waiting.remove(at: index).command
                switch reply {
                case .empty: return .emptyObject
                case .value(let value): return value
                case .failure(let name, let text):
                    throw error(.qemu(command: command, class: name, description: text))
                }
            }
            guard try receive(until: deadline) else {
                throw error(.timedOut(command: waiting.remove(at: index).command))
            }
        }
    }

    private func enqueue(_ command: QMPCommand) {
        lastID += 1
        waiting.append(Waiting(id: lastID, command: command.name, reply: nil))
        outgoing.append(contentsOf: command.prefix)
        var digits: [20 of UInt8] = .init(repeating: 0)
        var value = lastID
        var count = 0
        repeat {
            digits[count] = UInt8(ascii: "0") + UInt8(value % 10)
            value /= 10
            count += 1
        } while value > 0
        while count > 0 {
            count -= 1
            outgoing.append(digits[count])
        }
        outgoing.append(UInt8(ascii: "}"))
        outgoing.append(UInt8(ascii: "\n"))
    }

    /// Writes `outgoing` whole. QEMU reads its monitor in its main loop; when that stands still for ten seconds with
    /// the socket full, the connection is given up, because half a command cannot be taken back.
    private func flush(descriptors: [Int32]) throws(QMPError) {
        guard isOpen else { throw fatal(.closed) }
        let deadline = ContinuousClock.now + .seconds(10)
        var done = 0
        while done < outgoing.count {
            let sent = outgoing.withUnsafeBytes { bytes in
                UnixSocket.send(
                    descriptor, UnsafeRawBufferPointer(rebasing: bytes[done...]),
                    descriptors: done == 0 ? descriptors : [])
            }
            if sent >= 0 {
                done += sent
                continue
            }
            switch Int32(-sent) {
            case EINTR: continue
            case EAGAIN:
                guard UnixSocket.wait(descriptor, for: Int32(POLLOUT), until: deadline) else {
                    let command = waiting.last?.command ?? ""
                    throw fatal(.timedOut(command: command))
                }
            case EPIPE, ECONNRESET: throw fatal(.closed)
            case let code: throw fatal(.system(call: "sendmsg", errno: code))
            }
        }
    }
}
