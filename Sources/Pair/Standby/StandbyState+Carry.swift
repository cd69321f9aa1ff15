import Messages
import Model
import NIOCore
import Protocol
import Shipping
import Wire

/// The guest's frames, which travel through this host at level `component`.
extension StandbyState {
    /// At once, past frames that wait for room: a network does not wait.
    func takeCarried(_ header: FrameHeader, _ body: ByteBuffer) throws(SessionError) {
        // I39: under the lock under which this host asks for the guest.
        guard duty.isLending else { return }
        try body.parsed(from: "primary") { (bytes) throws(WireError) in
            if header.type == .carry {
                carry?.take(try CarryOrder(parsing: bytes))
            } else {
                carry?.letOut(try CarriedFrames(parsing: bytes))
            }
        }
    }

    /// The part is there, or why not.
    mutating func take(_ next: StandbyCarry?, refusal: String?) {
        // Whoever asks for the guest carries nothing of it.
        guard duty.isLending else {
            next?.close()
            return
        }
        carry?.close()
        carry = next
        link?.send(AttachedMessage(.detour, refusal: refusal, qemuPID: 0, baseBytes: 0).frame)
    }
}
