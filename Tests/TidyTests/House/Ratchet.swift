/// Holds figures to limits that only go down.
enum Ratchet {
    /// What is wrong with `value` under `limit`; nil when nothing is. A limit may lie less than a step above the
    /// value.
    static func finding(_ what: String, _ value: Int, limit: Int, step: Int = 1) -> String? {
        if value > limit {
            return "\(what): \(value), and at most \(limit) is allowed: split it, or move what does not belong there"
        }
        if value <= limit - step {
            let lowered = (value + step - 1) / step * step
            return "\(what): down to \(value): lower its limit in HouseLimits.swift from \(limit) to \(lowered)"
        }
        return nil
    }

    /// The same for things that are listed: new ones, and listed ones that are gone.
    static func findings(_ what: String, _ found: some Sequence<String>, listed: Set<String>) -> [String] {
        let found = Set(found)
        return found.subtracting(listed).sorted().map { "\(what): \($0) is new" }
            + listed.subtracting(found).sorted().map { "\(what): \($0) is gone: take it out of HouseLimits.swift" }
    }

    /// The same for figures by name; what is not listed may not be there at all.
    static func findings(_ what: String, _ found: [String: Int], limits: [String: Int], step: Int = 1) -> [String] {
        let new = found.filter { limits[$0.key] == nil }
        let common = found.filter { limits[$0.key] != nil }
        return new.sorted { $0.key < $1.key }.map { "\(what): \($0.key) is new: \($0.value)" }
            + findings(what, common.keys, listed: Set(limits.keys))
            + common.sorted { $0.key < $1.key }.compactMap { name, value in
                finding("\(what): \(name)", value, limit: limits[name] ?? 0, step: step)
            }
    }
}
