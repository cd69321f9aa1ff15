import Fakes
import Standby

extension Scratch {
    func slots(_ count: Int, capacity: Int = 8 << 20, recovering: Bool = false) throws -> [StageSlot] {
        try (0..<count).map { try StageSlot(path: "\(path)/slot-\($0)", capacity: capacity, recovering: recovering) }
    }
}
