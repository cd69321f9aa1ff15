import Glibc
import LinuxSystem
import Testing

@Suite struct PrimitivesTests {
    private func isOpen(_ number: Int32) -> Bool { fcntl(number, F_GETFD) >= 0 }

    @Test func descriptorsAreClosedWithTheirOwner() throws {
        let number: Int32
        do {
            let file = try Files.memory(named: "owned")
            number = file.release()
        }
        #expect(isOpen(number))
        do { _ = OwnedDescriptor(owning: number) }
        #expect(!isOpen(number))
        #expect(throws: SystemError.self) { try OwnedDescriptor(owning: number).close() }
    }

    @Test func errorsSayWhatWhereAndWhy() {
        do throws(SystemError) {
            _ = try OwnedDescriptor.open("/nowhere/at/all", O_RDONLY)
            Issue.record("it opened")
        } catch {
            #expect(error.description == "cannot open /nowhere/at/all: No such file or directory (ENOENT)")
        }
        let advised = SystemError(operation: "a", errno: 99999, subject: "b", advice: "c")
        #expect(advised.description == "cannot a b: unknown error (99999): c")
    }

    @Test func memoryFilesCanBeReopenedForWritingOnly() throws {
        let file = try Files.memory(named: "state")
        let writeOnly = try file.reopen(O_WRONLY)
        #expect(fcntl(writeOnly.number, F_GETFL) & O_ACCMODE == O_WRONLY)
        try "device state".withCStringBytes { try writeOnly.writeAll($0) }
        #expect(try file.fileLength() == 12)
        var text = [UInt8](repeating: 0, count: 12)
        #expect(try text.withUnsafeMutableBytes { try file.readAll(into: $0, at: 0) })
        #expect(String(decoding: text, as: UTF8.self) == "device state")
        #expect(try !text.withUnsafeMutableBytes { try file.readAll(into: $0, at: 1) })
        try file.truncate(to: 0)
        #expect(try file.fileLength() == 0)
    }

    @Test func namedPipesCarryBytes() throws {
        let folder = TemporaryFolder()
        let path = folder.path + "/pipe"
        try Files.makePipe(at: path)
        #expect(throws: SystemError.self) { try Files.makePipe(at: path) }
        let reader = try OwnedDescriptor.open(path, O_RDONLY | O_NONBLOCK)
        let writer = try OwnedDescriptor.open(path, O_WRONLY)
        var buffer = [UInt8](repeating: 0, count: 4)
        let error = systemError { _ = try buffer.withUnsafeMutableBytes { try reader.read(into: $0) } }
        #expect(error?.isWouldBlock == true)
        try "four".withCStringBytes { try writer.writeAll($0) }
        try reader.setNonBlocking(false)
        #expect(try buffer.withUnsafeMutableBytes { try reader.readAll(into: $0) })
        #expect(buffer == Array("four".utf8))
        try Files.remove(path)
        try Files.remove(path)
    }

    @Test func roomIsTakenBeforeItIsNeeded() throws {
        let file = try Files.memory(named: "replica")
        try Files.allocate(file, length: 1 << 20, path: "replica")
        #expect(try file.fileLength() == 1 << 20)
        var status = stat()
        fstat(file.number, &status)
        #expect(status.st_blocks * 512 >= 1 << 20)
        do throws(SystemError) {
            try Files.allocate(file, length: 1 << 50, path: "replica")
            Issue.record("a petabyte was granted")
        } catch {
            #expect(error.errno == ENOSPC && error.description.contains("bytes are free"), "\(error)")
        }
        #expect(try HostMemory.available() > 1 << 20)
    }

    @Test func mappingsOfOneFileShareIt() throws {
        let file = try Files.memory(named: "shared")
        try file.truncate(to: 8192)
        let one = try Mapping.shared(file, length: 8192, writable: true)
        let other = try Mapping.shared(file, length: 4096, offset: 4096, writable: false)
        one.bytes[4096] = 42
        #expect(other.bytes[0] == 42)
        #expect(throws: SystemError.self) { _ = try Mapping.shared(file, length: 0, writable: false) }
        let own = try Mapping.anonymous(length: 1 << 20, populated: true)
        #expect(own.bytes.allSatisfy { $0 == 0 })
    }

    @Test func pollerTellsWhoIsReady() throws {
        let event = try EventDescriptor()
        let idle = try EventDescriptor()
        var poller = Poller(capacity: 2)
        let first = poller.add(event.number)
        let second = poller.add(idle.number)
        var ready = try poller.wait(timeout: 0)
        #expect(ready == 0)
        event.signal()
        event.signal()
        ready = try poller.wait(timeout: nil)
        #expect(ready == 1)
        let readable = [poller.isReadable(first), poller.isReadable(second)]
        #expect(readable == [true, false])
        poller.watch(first, reading: false, writing: false)
        ready = try poller.wait(timeout: 0)
        #expect(ready == 0)
        poller.watch(first, reading: true, writing: true)
        ready = try poller.wait(timeout: 0)
        let writable = poller.isWritable(first)
        #expect(ready == 1 && writable)
        let taken = [event.take(), event.take()]
        #expect(taken == [true, false])
    }

    @Test func threadsHaveNamesAndHandValuesOver() throws {
        let name = try NamedThread.run("a-thread") {
            (try? Files.text(of: "/proc/thread-self/comm")) ?? ""
        }
        #expect(name == "a-thread\n")

        try DescriptorPair.pipe().split { (reader, writer) throws(SystemError) in
            let thread = try NamedThread.start("giver", handing: writer) { writer in
                try? "y".withCStringBytes { try writer.writeAll($0) }
            }
            thread.join()
            // One byte, and the end: the thread owned the only writing end.
            var bytes: [UInt8] = [0, 0]
            let filled = try readAll(reader, &bytes)
            #expect(!filled && bytes == [UInt8(ascii: "y"), 0])
        }
    }

    private func readAll(_ reader: borrowing OwnedDescriptor, _ bytes: inout [UInt8]) throws(SystemError) -> Bool {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
        defer { buffer.deallocate() }
        buffer.initializeMemory(as: UInt8.self, repeating: 0)
        let filled = try reader.readAll(into: buffer)
        bytes = Array(buffer)
        return filled
    }

    @Test func clockSleepsUntilItsDeadline() {
        let deadline = MonotonicClock.now() + 3_000_000
        MonotonicClock.sleep(until: deadline)
        #expect(MonotonicClock.now() >= deadline)
        MonotonicClock.sleep(until: 0)
    }

    @Test func processHandlesSeeTheEnd() throws {
        let toy = try Toy(mebibytes: 1)
        let handle = try PidDescriptor(toy.pid)
        var exited = [handle.hasExited(), try handle.waitForExit(timeout: 1_000_000)]
        #expect(exited == [false, false])
        try handle.signal(0)
        try handle.kill()
        exited = [try handle.waitForExit(timeout: nil), handle.hasExited()]
        #expect(exited == [true, true])
        _ = toy.process.waitForEnd()
        try handle.kill()
        do throws(SystemError) {
            try handle.signal(SIGTERM)
            Issue.record("it was there to be signalled")
        } catch {
            #expect(error.errno == ESRCH)
        }
    }

    @Test func socketsPassDescriptorsAndNameTheirPeer() throws {
        let folder = TemporaryFolder()
        let path = folder.path + "/socket"
        let listener = try LocalSocket.listen(at: path)
        let client = try LocalSocket.connect(to: path)
        let server = try LocalSocket.accept(listener)
        #expect(try LocalSocket.peer(of: client).pid == getpid())

        let file = try Files.memory(named: "passed")
        try "inside".withCStringBytes { try file.writeAll($0) }
        let sent = try "x".withCStringBytes {
            try LocalSocket.send($0, descriptors: [file.number, file.number], over: client)
        }
        #expect(sent == 1)
        var byte = [UInt8](repeating: 0, count: 1)
        var numbers: [Int32] = []
        #expect(
            try byte.withUnsafeMutableBytes { try LocalSocket.receive(into: $0, descriptors: &numbers, from: server) }
                == 1)
        #expect(numbers.count == 2)
        for number in numbers {
            let copy = OwnedDescriptor(owning: number)
            #expect(try copy.fileLength() == 6)
            #expect(fcntl(copy.number, F_GETFD) & FD_CLOEXEC != 0)
        }
        let long = String(repeating: "x", count: 200)
        #expect(throws: SystemError.self) { _ = try LocalSocket.connect(to: long) }
        #expect(throws: SystemError.self) { _ = try LocalSocket.listen(at: path) }
    }

    @Test func framesOfADeviceAreCounted() throws {
        func loopback() throws -> DeviceFrames {
            try #require(try ProcessFiles.networkDevices(of: getpid())["lo"])
        }
        let datagrams = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
        defer { close(datagrams) }
        let before = try loopback()
        // To a port that nobody listens on: the discard service of a machine that has none.
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(9).bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        let sent = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                sendto(datagrams, "x", 1, 0, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        #expect(sent == 1)
        let after = try loopback()
        #expect(after.sent > before.sent && after.received > before.received)
        #expect(throws: SystemError.self) { _ = try ProcessFiles.networkDevices(of: pid_t.max) }
    }

    @Test(.enabled(if: geteuid() == 0, "needs root: real-time priority")) func realTimePriorityIsUndone() throws {
        let toy = try Toy(mebibytes: 1)
        _ = try toy.ask("threads 1")
        let threads = try ProcessFiles.threads(of: toy.pid)
        #expect(threads.count == 2)
        let before = threads.map { sched_getscheduler($0) }
        // Raised below the tests' own chances of being starved: the spinner is stopped.
        kill(toy.pid, SIGSTOP)
        do {
            let priority = try RealTimePriority(threads: threads + [pid_t.max], priority: 5)
            #expect(priority.count == 2)
            for thread in threads { #expect(sched_getscheduler(thread) & 0xff == SCHED_RR) }
        }
        #expect(threads.map { sched_getscheduler($0) } == before)
        #expect(throws: SystemError.self) { _ = try RealTimePriority(threads: threads, priority: 1000) }
        #expect(threads.map { sched_getscheduler($0) } == before)
    }
}
