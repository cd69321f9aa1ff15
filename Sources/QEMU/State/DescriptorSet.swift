/// A descriptor that QEMU was given to write its device state to, in a set that carries our mark.
struct DescriptorSet {
    private static let mark = "romulus-state"

    let id: Int64
    /// The descriptor's number in QEMU.
    let number: Int64

    /// Hands over a copy of `descriptor`, which must be open for writing only, as that is how QEMU opens a member of a set.
    init(_ descriptor: Int32, _ monitor: QMPConnection) throws(DeviceError) {
        do throws(QMPError) {
            let answer = try monitor.execute("add-fd", ["opaque": .string(Self.mark)], descriptors: [descriptor])
            guard let id = answer["fdset-id"]?.int64, let number = answer["fd"]?.int64 else {
                throw QMPError(path: monitor.path, reason: .malformed("add-fd gave no descriptor set"))
            }
            self.id = id
            self.number = number
        } catch {
            throw DeviceError(error)
        }
    }

    /// Takes the set away from QEMU. While the guest is stopped, QEMU only notes it and closes the file when it next looks
    /// after its sets with the guest running: at the next such command, or when a monitor client leaves.
    func remove(_ monitor: QMPConnection) throws(DeviceError) {
        do throws(QMPError) {
            try monitor.execute("remove-fd", ["fdset-id": .integer(id)])
        } catch {
            throw DeviceError(error)
        }
    }

    /// Takes away what an agent left that ended without `remove`.
    static func removeLeftovers(_ monitor: QMPConnection) throws(QMPError) -> [String] {
        var removed: [String] = []
        for set in try monitor.execute("query-fdsets").array ?? [] {
            guard let id = set["fdset-id"]?.int64,
                (set["fds"]?.array ?? []).contains(where: { $0["opaque"]?.string == mark })
            else { continue }
            try monitor.execute("remove-fd", ["fdset-id": .integer(id)])
            removed.append("descriptor set \(id)")
        }
        return removed
    }
}
