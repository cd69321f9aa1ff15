import Hypervisor
import Model
import TapDetour

/// The way out at a NIC's tap, for frames that were held at the tap of the primary.
final class DetouredOutlet: NICOutlet {
    private var outlet: DetourOutlet?

    init(of tap: String) throws(DetourError) { outlet = try DetourOutlet(of: tap) }

    func send(_ frames: [UInt8]) {
        frames.withUnsafeBytes { bytes in
            var next = 0
            while next + 4 <= bytes.count {
                let length = Int(UInt32(bigEndian: bytes.loadUnaligned(fromByteOffset: next, as: UInt32.self)))
                guard next + 4 + length <= bytes.count else { return }
                // A lost frame is what networks lose: its sender sends it again.
                _ = outlet?.send(UnsafeRawBufferPointer(rebasing: bytes[next + 4..<next + 4 + length]))
                next += 4 + length
            }
        }
    }

    func remove() throws(SessionError) { outlet = nil }
}
