import Hypervisor
import Protocol

extension CarryMachine.Cause {
    /// As a sentence has it.
    func words(_ bridge: String) -> String {
        switch self {
        case .noUplink: "bridge \(bridge) has no uplink any more"
        case .noCarrier: "no uplink of bridge \(bridge) has a carrier"
        case .segmented: "the network of bridge \(bridge) is segmented, and the other host hears more of it"
        }
    }
}

extension GuestNIC {
    /// Its address, byte by byte.
    var address: [UInt8] { mac.split(separator: ":").compactMap { UInt8($0, radix: 16) } }
}
