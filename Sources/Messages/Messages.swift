/// What the two agents say to each other about a session, as JSON in the bodies of control frames.
///
/// Everything that an epoch needs is binary (Wire); these messages travel once per session, so they are spelled out.

import Foundation
import Hypervisor
import Model
import NIOCore
import Protocol
import Wire

/// The first frame in each direction. The header's version byte was already compared.
public struct HelloMessage: Codable, Sendable {
    /// What a connection is for, when not for a session.
    public enum Purpose: String, Codable, Sendable {
        case heartbeats
        /// One question, and the end: see `YieldQuestion`, and `vms`.
        case question
    }

    public var node: NodeName
    public var software: String
    public var purpose: Purpose?
    /// With the purpose `question`.
    public var question: YieldQuestion?
    /// With the purpose `question`, instead of one: what is known of these VMs is asked for. Answered by a `hello` with
    /// `knowledge`; older agents answer with `refuse`.
    public var vms: [VMName]?
    /// The answer, without VMs of which there is nothing to say.
    public var knowledge: [VMKnowledge]?

    public init(
        node: NodeName, software: String, purpose: Purpose? = nil, question: YieldQuestion? = nil, vms: [VMName]? = nil,
        knowledge: [VMKnowledge]? = nil
    ) {
        self.node = node
        self.software = software
        self.purpose = purpose
        self.question = question
        self.vms = vms
        self.knowledge = knowledge
    }
}

/// What a host knows of a VM, for another one that should protect it and has no QEMU of it.
public struct VMKnowledge: Codable, Hashable, Sendable {
    public var vm: VMName
    /// What its guest is to the host that answers, which has it: “protected, with beta as its standby”. Nil when it has none.
    public var guest: String?
    /// What the operator said last about protecting it there, and when; nil where nobody said anything.
    public var word: Desire?
    public var saidAt: Date?

    public init(vm: VMName, guest: String?, word: Desire?, saidAt: Date?) {
        self.vm = vm
        self.guest = guest
        self.word = word
        self.saidAt = saidAt
    }
}

/// A guest was started that the register gives to others: do they hold anything that could go on under it? Answered by
/// `register`, the same one, when not; by `refuse` otherwise.
public struct YieldQuestion: Codable, Sendable {
    public var vm: VMName
    public var register: Register

    public init(vm: VMName, register: Register) {
        self.vm = vm
        self.register = register
    }
}

/// The primary asks a node to be the standby of a VM.
public struct OfferMessage: Codable, Sendable {
    public var session: SessionOffer
    public var vm: VMName
    public var guest: GuestDescription
    public var blocks: [RAMBlock]
    public var disks: [OfferedDisk]
    public var nics: [OfferedNIC]
    public var epochMilliseconds: Int
    /// The rest of its tuning; absent where there is none, and in what older agents wrote.
    public var goal: EpochGoal?
    public var pauseBudget: Int?
    public var linkCapMegabits: Int?
    /// Which VM it is; absent in what older agents wrote, as are the next two.
    public var identity: VMIdentity?
    /// The other hosts that could be its standby, in the order in which they are asked.
    public var reserve: [NodeName]?
    /// How long a standby may be lost before another one is asked, in seconds.
    public var replaceAfterSeconds: Int?
    /// The most silence of the other side that is borne, in milliseconds.
    public var silenceMilliseconds: Int
    /// The least; absent in what older agents wrote, as is the next.
    public var silenceFloorMilliseconds: Int?
    /// How often the primary says that it is there.
    public var heartbeatMilliseconds: Int?
    /// Images that are missing are made; absent is false.
    public var createsImages: Bool?

    package init(
        session: SessionOffer, vm: VMName, guest: GuestDescription, blocks: [RAMBlock], disks: [OfferedDisk],
        nics: [OfferedNIC], tuning: EpochTuning, silenceMilliseconds: Int, silenceFloorMilliseconds: Int?,
        heartbeatMilliseconds: Int?, createsImages: Bool?
    ) {
        self.session = session
        self.vm = vm
        self.guest = guest
        self.blocks = blocks
        self.disks = disks
        self.nics = nics
        epochMilliseconds = tuning.epochMilliseconds
        goal = tuning.goal
        pauseBudget = tuning.pauseBudget
        linkCapMegabits = tuning.linkCapMegabits
        self.silenceMilliseconds = silenceMilliseconds
        self.silenceFloorMilliseconds = silenceFloorMilliseconds
        self.heartbeatMilliseconds = heartbeatMilliseconds
        self.createsImages = createsImages
    }
}

extension OfferMessage {
    public var tuning: EpochTuning {
        EpochTuning(
            epochMilliseconds: epochMilliseconds, goal: goal, pauseBudget: pauseBudget, linkCapMegabits: linkCapMegabits
        )
    }
}

/// The standby is ready: its QEMU waits, its memory is reserved, its disks fit.
public struct AcceptMessage: Codable, Sendable {
    /// The node, and the image that it holds from now on.
    public var identity: StandbyIdentity
    public var qemuPID: Int32
    public var qemuVersion: String
    /// Bytes of the guest's memory that were there before: when there are any, the primary asks for digests and sends what
    /// differs; when not, the memory is all zero.
    public var baseBytes: UInt64
    /// How often the standby says that it is there; absent in what older agents wrote.
    public var heartbeatMilliseconds: Int?
    /// Whether it answers `verify` frames; absent in what older agents wrote, which do not know them.
    public var verifies: Bool?
    /// Whether it knows the part `detour`; absent in what older agents wrote.
    public var carries: Bool?

    package init(
        identity: StandbyIdentity, qemuPID: Int32, qemuVersion: String, baseBytes: UInt64,
        heartbeatMilliseconds: Int?, verifies: Bool?, carries: Bool? = nil
    ) {
        self.identity = identity
        self.qemuPID = qemuPID
        self.qemuVersion = qemuVersion
        self.baseBytes = baseBytes
        self.heartbeatMilliseconds = heartbeatMilliseconds
        self.verifies = verifies
        self.carries = carries
    }
}

/// The standby will not do it, be it a standby or take over; `reason` is one sentence for the operator.
public struct RefuseMessage: Codable, Sendable {
    public var reason: String
    /// What the standby's host knows of who may run the VM.
    public var knows: Register?

    public init(because reason: String, knows: Register? = nil) {
        self.reason = reason
        self.knows = knows
    }
}

/// A host asks, instead of offering a VM, whether the other could be its standby. Nothing is changed for it.
public struct CheckMessage: Codable, Sendable {
    public var vm: VMName
    public var guest: GuestDescription
    public var createsImages: Bool
    /// At which it is to be protected; an older agent does not say, and means `system`.
    public var level: Level?

    public init(vm: VMName, guest: GuestDescription, createsImages: Bool, level: Level?) {
        self.vm = vm
        self.guest = guest
        self.createsImages = createsImages
        self.level = level
    }
}

/// The answer to `CheckMessage`.
public struct CheckedMessage: Codable, Sendable {
    /// Everything that stands in the way, one sentence each.
    public var problems: [String]
    /// What does not, and is worth knowing.
    public var notes: [String]

    public init(problems: [String], notes: [String]) {
        self.problems = problems
        self.notes = notes
    }
}

/// The primary tells the register that it won, so that the standby need not read it first when it has to act.
public struct RegisterMessage: Codable, Sendable {
    public var register: Register
    public init(_ register: Register) { self.register = register }
}

/// The session is over: the primary does not need the standby any more, or (`handedBack`) the standby gives the guest of a
/// switchover back.
public struct GoodbyeMessage: Codable, Sendable {
    public enum Kind: String, Codable, Sendable {
        case unprotected, guestEnded, failed, handedBack
    }
    public var kind: Kind
    public var reason: String
    /// With `handedBack`: nothing was done to take over, and the session goes on as before. Absent in what older agents
    /// wrote, which give up the replica with the guest.
    public var staysStandby: Bool?
    /// The guest died and is started nowhere again. Absent where that is not so, and in what older agents wrote.
    public var staysDown: Bool?

    public init(kind: Kind, reason: String, staysStandby: Bool? = nil, staysDown: Bool? = nil) {
        self.kind = kind
        self.reason = reason
        self.staysStandby = staysStandby
        self.staysDown = staysDown
    }
}

/// What the standby's operator wants of the primary.
public struct WishMessage: Codable, Sendable {
    public enum Wish: String, Codable, Sendable {
        /// The guest shall go on at the standby.
        case switchover
        /// The standby wants to be none any more.
        case leave
    }
    public var wish: Wish
    public var reason: String

    package init(_ wish: Wish, reason: String) {
        self.wish = wish
        self.reason = reason
    }
}

/// The primary tells how the guest's epochs are tuned since its offer, so that they stay so where it is failed over to, and
/// whether they come.
public struct TuningMessage: Codable, Sendable {
    public var tuning: EpochTuning
    /// The guest's QEMU does nothing for a checkpoint that is due; absent while it does, and in what older agents write.
    public var isStalled: Bool?

    public init(_ tuning: EpochTuning, isStalled: Bool) {
        self.tuning = tuning
        self.isStalled = isStalled ? true : nil
    }
}

/// Which part of the standby's copy the dial attaches or detaches within a session.
public enum StandbyPart: String, Codable, Sendable {
    /// RAM, and a QEMU that waits for a state.
    case memory
    /// Ports through which the guest's frames can travel. Only to a standby that said so (`AcceptMessage.carries`).
    case detour
}

/// The primary wants the standby to have more of the guest: what of it is described as in an offer.
public struct AttachMessage: Codable, Sendable {
    public var part: StandbyPart
    public var blocks: [RAMBlock]
    public var nics: [OfferedNIC]

    public init(_ part: StandbyPart, blocks: [RAMBlock], nics: [OfferedNIC]) {
        self.part = part
        self.blocks = blocks
        self.nics = nics
    }
}

/// The answer: the standby has it from now on, or why not.
public struct AttachedMessage: Codable, Sendable {
    public var part: StandbyPart
    /// Absent when it was attached.
    public var refusal: String?
    public var qemuPID: Int32
    /// As in `AcceptMessage`.
    public var baseBytes: UInt64

    public init(_ part: StandbyPart, refusal: String? = nil, qemuPID: Int32, baseBytes: UInt64) {
        self.part = part
        self.refusal = refusal
        self.qemuPID = qemuPID
        self.baseBytes = baseBytes
    }
}

/// The standby need not have it any more; nothing answers.
public struct DetachMessage: Codable, Sendable {
    public var part: StandbyPart

    public init(_ part: StandbyPart) { self.part = part }
}

/// A message that travels as JSON in a control frame.
public protocol SessionMessage: Codable, Sendable {
    static var type: FrameType { get }
}

extension HelloMessage: SessionMessage { public static var type: FrameType { .hello } }
extension OfferMessage: SessionMessage { public static var type: FrameType { .offer } }
extension AcceptMessage: SessionMessage { public static var type: FrameType { .accept } }
extension RefuseMessage: SessionMessage { public static var type: FrameType { .refuse } }
extension RegisterMessage: SessionMessage { public static var type: FrameType { .register } }
extension WishMessage: SessionMessage { public static var type: FrameType { .wish } }
extension TuningMessage: SessionMessage { public static var type: FrameType { .tuning } }
extension CheckMessage: SessionMessage { public static var type: FrameType { .check } }
extension CheckedMessage: SessionMessage { public static var type: FrameType { .checked } }
extension GoodbyeMessage: SessionMessage { public static var type: FrameType { .goodbye } }
extension AttachMessage: SessionMessage { public static var type: FrameType { .attach } }
extension AttachedMessage: SessionMessage { public static var type: FrameType { .attached } }
extension DetachMessage: SessionMessage { public static var type: FrameType { .detach } }

extension SessionMessage {
    public init(_ body: ByteBuffer) throws(SessionError) {
        do {
            self = try body.withUnsafeReadableBytes { try JSONDecoder().decode(Self.self, from: Data($0)) }
        } catch {
            throw SessionError(.protocolBroken, "the peer sent a \(Self.type) message that cannot be read: \(error)")
        }
    }

    /// The message as a complete frame.
    public var frame: ByteBuffer {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys]
        // Plain value types with string keys: encoding them cannot fail.
        guard let data = try? encoder.encode(self) else { preconditionFailure("\(Self.self) is not encodable") }
        var sink = ByteSink(capacity: data.count + FrameHeader.size)
        data.withUnsafeBytes { sink.append(frame: Self.type, body: $0, epoch: .firstCopy, sequence: 0) }
        return ByteBuffer(bytes: sink.bytes)
    }
}
