import Glibc
import Hypervisor

/// A RAM block in the list at the head of a resume stream.
public struct ResumeBlock: Hashable, Sendable {
    public var name: String
    public var length: UInt64
    /// Checked by QEMU for blocks in shared files: the block's region address.
    public var regionAddress: UInt64
    /// The standby's QEMU never wrote into it, so that zero pages need not travel: for 16 MiB of video memory they cost
    /// both sides milliseconds.
    public var isBlank: Bool

    public init(name: String, length: UInt64, regionAddress: UInt64, isBlank: Bool = false) {
        self.name = name
        self.length = length
        self.regionAddress = regionAddress
        self.isBlank = isBlank
    }

    public init(_ block: GuestRAMBlock) {
        self.init(name: block.name, length: block.length, regionAddress: block.regionAddress)
    }
}

/// Why a resume stream could not be written: most often QEMU refused it and closed; its own words are in its log.
public struct ResumeStreamError: Error, Hashable, Sendable, CustomStringConvertible {
    public enum Reason: Hashable, Sendable {
        case closedByQEMU
        case timedOut
        case notADeviceState
        case system(errno: Int32)
    }
    public var reason: Reason
    /// Bytes that QEMU had taken by then.
    public var offset: UInt64

    public var description: String {
        switch reason {
        case .closedByQEMU: "the standby's QEMU refused the resume stream after \(offset) bytes: see its log"
        case .timedOut: "the standby's QEMU did not take the resume stream in time (\(offset) bytes taken)"
        case .notADeviceState: "the device state to resume from does not begin like one"
        case .system(let code): "writing the resume stream failed: \(SystemMessage.text(code))"
        }
    }
}

/// Composes the incoming migration stream of a standby whose main memory already lies in shared files, and writes it as
/// it grows: `begin`, then `page` for what is not in shared files, then `finish`.
///
/// QEMU's stream, all numbers big-endian: `QEVM`, version 3, the configuration section (machine type; capabilities), the
/// section `ram` (list of blocks, pages), the sections of the devices, an end mark, and a description that may be `{}`
/// but must be there. Observed with QEMU 7.2; the parts are those of migration/savevm.c and migration/ram.c.
public struct ResumeStream: ~Copyable {
    private enum Mark {
        static let sectionStart: UInt8 = 0x01
        static let sectionEnd: UInt8 = 0x03
        static let subsection: UInt8 = 0x05
        static let description: UInt8 = 0x06
        static let configuration: UInt8 = 0x07
        static let footer: UInt8 = 0x7e
        static let zeroPage: UInt64 = 0x02
        static let memorySize: UInt64 = 0x04
        static let page: UInt64 = 0x08
        static let end: UInt64 = 0x10
        static let sameBlock: UInt64 = 0x20
    }
    /// Any number will do: the section ends before another begins.
    private static let ramSection: UInt32 = 2
    private static let bufferSize = 256 << 10

    private let descriptor: Int32
    private let isSocket: Bool
    private let deadline: ContinuousClock.Instant
    private let blocks: [ResumeBlock]
    private var buffer: UnsafeMutableRawBufferPointer
    private var used = 0
    private var lastBlock = -1
    /// Bytes handed to the descriptor.
    public private(set) var written: UInt64 = 0

    /// `descriptor` stays the caller's; a socket should not block, so that `timeout` (for the whole stream) holds.
    public init(descriptor: Int32, blocks: [ResumeBlock], timeout: Duration = .seconds(30)) {
        self.descriptor = descriptor
        self.blocks = blocks
        deadline = ContinuousClock.now + timeout
        var info = stat()
        isSocket = fstat(descriptor, &info) == 0 && info.st_mode & S_IFMT == S_IFSOCK
        buffer = .allocate(byteCount: Self.bufferSize, alignment: 16)
    }

    deinit { buffer.deallocate() }

    /// Everything before the first page. `blocks` are all blocks of the machine, as `info ramblock` lists them.
    public mutating func begin(machineType: String) throws(ResumeStreamError) {
        put(DeviceState.magic)
        put(DeviceState.version)
        put(Mark.configuration)
        let machine = String(decoding: machineType.utf8.prefix(255), as: UTF8.self)
        put(UInt32(truncatingIfNeeded: machine.utf8.count))
        put(machine)
        put(Mark.subsection)
        putCounted("configuration/capabilities")
        put(UInt32(1))
        put(UInt32(1))
        putCounted("x-ignore-shared")

        put(Mark.sectionStart)
        put(Self.ramSection)
        putCounted("ram")
        put(UInt32(0))
        put(UInt32(4))
        put(blocks.reduce(0) { $0 &+ $1.length } | Mark.memorySize)
        for block in blocks {
            try reserve(256 + 16)
            putCounted(block.name)
            put(block.length)
            put(block.regionAddress)
        }
        try reserve(64)
        put(Mark.end)
        put(Mark.footer)
        put(Self.ramSection)
        put(Mark.sectionEnd)
        put(Self.ramSection)
    }

    /// The contents of page `number` of `blocks[block]`: 4096 bytes. All-zero pages travel as nine bytes, or not at all in
    /// a blank block.
    public mutating func page(
        block: Int, number: UInt64, contents: UnsafeRawBufferPointer
    ) throws(ResumeStreamError) {
        precondition(contents.count == 4096)
        let isZero = contents.allZero
        if isZero && blocks[block].isBlank { return }
        try reserve(4096 + 8 + 256)
        var flags = isZero ? Mark.zeroPage : Mark.page
        if block == lastBlock { flags |= Mark.sameBlock }
        put(number << 12 | flags)
        if block != lastBlock { putCounted(blocks[block].name) }
        lastBlock = block
        if isZero {
            put(UInt8(0))
        } else {
            putBytes(contents)
        }
    }

    /// Consecutive pages of one block.
    public mutating func pages(
        block: Int, first: UInt64, contents: UnsafeRawBufferPointer
    ) throws(ResumeStreamError) {
        for index in 0..<contents.count / 4096 {
            let part = UnsafeRawBufferPointer(rebasing: contents[index * 4096..<(index + 1) * 4096])
            try page(block: block, number: first + UInt64(index), contents: part)
        }
    }

    /// The device state as `xen-save-devices-state` wrote it, and the end. Nothing may follow.
    public mutating func finish(deviceState: UnsafeRawBufferPointer) throws(ResumeStreamError) {
        guard deviceState.count > DeviceState.headerSize,
            deviceState.loadUnaligned(as: UInt32.self).bigEndian == DeviceState.magic
        else { throw failure(.notADeviceState) }
        try reserve(64)
        put(Mark.end)
        put(Mark.footer)
        put(Self.ramSection)
        try flush()
        try write(UnsafeRawBufferPointer(rebasing: deviceState[DeviceState.headerSize...]))
        // Without a description QEMU waits for one more byte.
        put(Mark.description)
        put(UInt32(2))
        put("{}")
        try flush()
    }

    // MARK: Bytes

    private func failure(_ reason: ResumeStreamError.Reason) -> ResumeStreamError {
        ResumeStreamError(reason: reason, offset: written)
    }

    private mutating func reserve(_ count: Int) throws(ResumeStreamError) {
        if buffer.count - used < count { try flush() }
    }

    private mutating func put(_ byte: UInt8) {
        buffer[used] = byte
        used += 1
    }
    private mutating func put(_ value: UInt32) {
        buffer.storeBytes(of: value.bigEndian, toByteOffset: used, as: UInt32.self)
        used += 4
    }
    private mutating func put(_ value: UInt64) {
        buffer.storeBytes(of: value.bigEndian, toByteOffset: used, as: UInt64.self)
        used += 8
    }
    private mutating func put(_ text: String) {
        for byte in text.utf8 { put(byte) }
    }
    /// Names in the stream are at most 255 bytes, in QEMU too.
    private mutating func putCounted(_ text: String) {
        let bytes = text.utf8.prefix(255)
        put(UInt8(bytes.count))
        for byte in bytes { put(byte) }
    }
    private mutating func putBytes(_ bytes: UnsafeRawBufferPointer) {
        UnsafeMutableRawBufferPointer(rebasing: buffer[used..<used + bytes.count]).copyMemory(from: bytes)
        used += bytes.count
    }

    private mutating func flush() throws(ResumeStreamError) {
        try write(UnsafeRawBufferPointer(rebasing: buffer[..<used]))
        used = 0
    }

    private mutating func write(_ bytes: UnsafeRawBufferPointer) throws(ResumeStreamError) {
        var done = 0
        while done < bytes.count {
            let rest = UnsafeRawBufferPointer(rebasing: bytes[done...])
            let count =
                isSocket
                ? send(descriptor, rest.baseAddress, rest.count, Int32(MSG_NOSIGNAL))
                : Glibc.write(descriptor, rest.baseAddress, rest.count)
            if count >= 0 {
                done += count
                written += UInt64(count)
                continue
            }
            switch errno {
            case EINTR: continue
            case EAGAIN:
                guard UnixSocket.wait(descriptor, for: Int32(POLLOUT), until: deadline) else {
                    throw failure(.timedOut)
                }
            case EPIPE, ECONNRESET: throw failure(.closedByQEMU)
            case let code: throw failure(.system(errno: code))
            }
        }
    }
}

extension UnsafeRawBufferPointer {
    /// Compares the buffer with itself one byte on, which memcmp does at memory speed.
    var allZero: Bool {
        guard let base = baseAddress, count > 0 else { return true }
        return self[0] == 0 && memcmp(base, base + 1, count - 1) == 0
    }
}
