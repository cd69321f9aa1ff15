/// Compares the devices of each checkpoint with those of the first: a guest that gained or lost a device cannot be loaded by a
/// standby that was started without it.
///
/// A device more or less changes the state's length, so equal lengths are looked into only now and then: taking the sections
/// apart costs more than all the rest of an idle epoch.
package struct DeviceComparison {
    private var first: DeviceLayout?
    private var checkedLength = 0
    private var checkpoints = 0
    /// Every 64th checkpoint's devices are compared although the length is that of the one before.
    package static let period = 64

    package init() {}

    /// What differs, or nil.
    package mutating func difference(_ deviceState: [UInt8]) throws(DeviceStateError) -> String? {
        checkpoints += 1
        guard deviceState.count != checkedLength || checkpoints % Self.period == 0 else { return nil }
        checkedLength = deviceState.count
        let now = try deviceState.withUnsafeBufferPointer { (bytes) throws(DeviceStateError) in
            try DeviceState.layout(of: UnsafeRawBufferPointer(bytes))
        }
        guard let first else {
            self.first = now
            return nil
        }
        return first.difference(to: now)
    }
}
