import Model

/// What the file says of how a VM is to be protected by itself.
extension Configuration {
    /// How long its standby may be lost, in seconds: from not at all to a day.
    static func readReplaceAfter(_ reader: inout ConfigurationReader, default standard: Int) -> Int {
        reader.integer("replace_after", 0...86_400, default: standard)
    }

    static func readStandbys(_ reader: inout ConfigurationReader, peers: [String]) -> [String] {
        let line = reader.line(of: "standby")
        func complain(_ text: String) { reader.problems.add(line, "“\(reader.path("standby"))” \(text)") }
        let standbys = reader.list("standby", "the name of a peer, or a list of such names") { $0.isEmpty ? nil : $0 }
        for standby in standbys where !peers.contains(standby) {
            let hint = Suggestion.nearest(to: standby, among: peers).map { "; did you mean “\($0)”?" } ?? ""
            complain("must be one of the “peers”, and “\(standby)” is not there\(hint)")
        }
        if Set(standbys).count < standbys.count { complain("must name each host once") }
        return standbys
    }

    static func readProtect(_ reader: inout ConfigurationReader, isComplete: Bool) -> Desire? {
        let line = reader.line(of: "protect")
        let protect: Desire? = reader.choice("protect", Desire.allCases.map { ($0.rawValue, $0) }, default: nil)
        if protect == .always, !isComplete {
            reader.problems.add(
                line, "“\(reader.path("protect"))” is always, which needs “qmp” and “standby” of the VM too")
        }
        return protect
    }
}
