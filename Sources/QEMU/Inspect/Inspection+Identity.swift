import Model

extension Inspection {
    /// Nil also where QEMU does not tell: no VM is refused for that.
    func identity() -> VMIdentity? {
        guard let answer = try? monitor.execute("query-uuid") else { return nil }
        return answer["UUID"]?.string.flatMap { VMIdentity(qemu: $0) }
    }
}
