/// The replica's memory against the guest's, as the agent compares them while the guest runs.
extension Pair {
    /// What `romulus verify --json` says.
    public struct Verification: Decodable, Sendable {
        public struct Difference: Decodable, Sendable, Equatable {
            public var block: String
            public var page: Int
        }
        public var over: Bool
        public var pages: Int
        public var compared: Int
        public var equal: Int
        public var differing: Int
        public var mended: Int
        public var discarded: Int
        public var hot: Int
        public var leftOut: Int
        public var epochs: Int
        public var firstEpoch: UInt64?
        public var lastEpoch: UInt64?
        public var seconds: Double
        public var differences: [Difference]
    }

    /// Compares the replica of a protected VM with its guest; `host` runs the guest. What was found is returned, whatever it is.
    public func verification(_ host: BedHost, _ vm: String) throws -> Verification {
        let outcome = try romulus(host, ["verify", vm, "--json", "--quiet"])
        guard outcome.status == 0 || outcome.status == 8 else {
            throw BedError("romulus verify ended with \(outcome.status): \(outcome.errors)")
        }
        let found = try Self.decode(Verification.self, outcome.output)
        guard (found.differing > 0) == (outcome.status == 8) else {
            throw BedError("romulus verify ended with \(outcome.status) and found \(found.differing) pages that differ")
        }
        return found
    }

    /// The same; fails when any page differs, or less than `share` of them could be compared.
    @discardableResult
    public func verify(_ host: BedHost, _ vm: String, share: Double = 0.95) throws -> Verification {
        let found = try verification(host, vm)
        guard found.differing == 0 else {
            let first = found.differences.prefix(5).map { "page \($0.page) of \($0.block)" }
            throw BedError(
                "\(found.differing) pages of the replica of \(vm) differ: \(first.joined(separator: ", ")) (\(found)).")
        }
        guard Double(found.compared + found.discarded) >= share * Double(found.pages) else {
            throw BedError("only \(found.compared) of \(found.pages) pages of \(vm) could be compared: \(found).")
        }
        return found
    }

    /// The same, for a VM of host A that was not failed over.
    @discardableResult
    public func verify(_ vm: GuestVM, share: Double = 0.95) throws -> Verification {
        try verify(vm.host, vm.configuration.name, share: share)
    }
}
