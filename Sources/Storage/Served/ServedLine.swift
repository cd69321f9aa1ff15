import Foundation
import LinuxSystem

/// What the server of a disk tells of it.
public struct ServedReport: Codable, Sendable, Hashable {
    /// Why the copy here is not written any more; nil while it is.
    public var lost: String?
    /// What it lacks is being copied to it.
    public var isRejoining = false
    /// How often it was lost.
    public var loss: UInt64 = 0
    /// The standby knows of the present loss.
    public var isNoted = false
    /// Of 64 KiB.
    public var staleChunks = 0
    /// By the present rejoining, or the last one: what differed.
    public var bytesCopied: UInt64 = 0
    /// Since when it is lost, in seconds of the wall clock, to be shown.
    public var lostAt: Int?

    public var isWhole: Bool { lost == nil && !isRejoining }

    public init(
        loss: UInt64 = 0, isNoted: Bool = false, staleChunks: Int = 0, bytesCopied: UInt64 = 0, lostAt: Int? = nil
    ) {
        self.loss = loss
        self.isNoted = isNoted
        self.staleChunks = staleChunks
        self.bytesCopied = bytesCopied
        self.lostAt = lostAt
    }
}

/// What the agent says to the server of a disk.
public enum ServedOrder: Codable, Sendable, Hashable {
    /// The standby is reached over the socket that comes along.
    case pair
    /// The register names this host alone.
    case alone
    /// The standby knows of that loss.
    case noted(UInt64)
    /// Have the image's locks, or leave them to another.
    case lock, unlock
    /// Copy what the copy here lacks.
    case rejoin
    case look
    case end
}

/// What the server answers to an order, and tells unasked: one line of JSON each.
public struct ServedLine: Codable, Sendable, Hashable {
    /// True when it answers an order.
    public var isAnswer: Bool
    /// Why the order was not carried out.
    public var failure: String?
    public var report: ServedReport

    public init(isAnswer: Bool, failure: String? = nil, report: ServedReport) {
        self.isAnswer = isAnswer
        self.failure = failure
        self.report = report
    }
}

/// With what the server of a disk is started.
public struct ServedPlan: Codable, Sendable, Hashable {
    /// The image: a raw file or a block device.
    public var path: String
    /// In bytes.
    public var size: UInt64
    /// How long its storage may take for a request, in milliseconds.
    public var boundMilliseconds: Int
    /// Where it listens for QEMU, and for the agent.
    public var diskSocket: String
    public var controlSocket: String
    /// Which guest's it is: a process, and when that began. The server ends with it.
    public var guestPID: Int32
    /// Who runs it, and may connect.
    public var guestUser: UInt32
    /// Why the copy here is not whole from the start.
    public var lost: String?

    public init(
        path: String, size: UInt64, boundMilliseconds: Int, diskSocket: String, controlSocket: String, guestPID: Int32,
        guestUser: UInt32, lost: String? = nil
    ) {
        self.path = path
        self.size = size
        self.boundMilliseconds = boundMilliseconds
        self.diskSocket = diskSocket
        self.controlSocket = controlSocket
        self.guestPID = guestPID
        self.guestUser = guestUser
        self.lost = lost
    }

    /// The files of both, which nobody listens at any more.
    public func removeSockets() { for path in [diskSocket, controlSocket] { try? Files.remove(path) } }
}
