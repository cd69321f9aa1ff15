import Foundation
import GuestNetwork
import Model
import NIOCore
import Standby
import Transport
import Wire

/// What a standby's shell keeps under its lock.
struct StandbyState {
    var duty: StandbyDuty
    /// The phase as it is told, and since when.
    var shown: (phase: SessionPhase, since: Date)
    var stage: Stage
    /// The guest's memory may come: RAM is here, slots, and a QEMU that waits.
    var hasMemory: Bool
    /// Which of the primary's words about it was the last one.
    var memoryOrder = 0
    var writes: ThroughWrites
    /// Of `writes`, in order: what is to be in the images before them is not there yet. As many as the guest waits for at once.
    var heldBack: [(header: FrameHeader, body: ByteBuffer)] = []
    var link: Link?
    var queue = ApplyQueue()
    var directBytes = 0
    var firstCopyBytes: UInt64 = 0
    var pending: [(header: FrameHeader, body: ByteBuffer)] = []
    var readingPaused = false
    /// What carries the guest's frames through this host, at level `component`.
    var carry: StandbyCarry?
    var outputs: [HeldOutput] = []
    var watch: PeerWatch
    var applyWatch: ApplyWatch
    /// When the arbiter is read next, only to have it near.
    var nextReading: UInt64 = 0
    /// Those who wait for what comes of the operator's word.
    var completions: [@Sendable (Result<TakeOverReport, SessionError>) -> Void] = []
}
