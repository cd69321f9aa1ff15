/// The arbiters: where the register of each VM lies, so that exactly one of several claims to a term wins.
///
/// Owns: the rules of a compare-and-set (`RegisterRules`), the witness (its store, its server, its client), the client of
/// etcd, and what this node remembers of its arbiter (`ArbiterMemory`). It has no opinion about who is alive and knows no
/// time but the deadlines of its own requests; when to ask is decided above.
///
/// May call: Transport and PKI for links, Wire for frames, LinuxSystem for files, AsyncHTTPClient for etcd.
///
/// Upholds I11 (terms only rise, and are on disk before they are used; an arbiter that knows less than this node is not
/// used) and gives I12 its `unknown`. docs/ARBITERS.md is the operator's page.
import Model

/// Keeps one register per VM, linearizably: once a change was answered, every later reading by anyone shows it or a
/// later one.
public protocol Arbiter: Sendable {
    /// For messages: `witness gamma at 10.0.0.3:7320`.
    var name: String { get }

    func read(_ vm: VMName) async -> RegisterReading

    /// Changes the register from exactly `expected` (nil: there is none yet) to `new`, whose term must be higher. The
    /// same request with the same `nonce` is answered alike as long as it is the register's last change; afterwards it is
    /// a conflict. Any failure after which the change may have happened, or may still happen, is `.unknown`: a reading, or
    /// the same request with the same nonce, then tells.
    func compareAndSet(
        _ vm: VMName, expecting expected: Register?, to new: Register, nonce: Nonce
    ) async -> RegisterAnswer

    /// False while it is known not to answer.
    var isUp: Bool { get }

    /// Gives connections back. Requests that are under way end as `.unknown`.
    func close() async
}

extension Arbiter {
    /// What is not watched is not known to be away.
    public var isUp: Bool { true }
}

public enum RegisterReading: Hashable, Sendable {
    /// Nil when nobody claimed the VM yet.
    case value(Register?)
    /// Why nobody can say, as a sentence for the operator.
    case unknown(String)
}

/// A register together with the nonce of the change that made it: what an arbiter stores.
package struct RegisterRecord: Hashable, Sendable, Codable {
    package var register: Register
    package var nonce: Nonce

    package init(register: Register, nonce: Nonce) {
        self.register = register
        self.nonce = nonce
    }
}

/// What a compare-and-set does, in one place for all arbiters.
package enum RegisterRules {
    package enum Verdict: Hashable, Sendable { case change, replay, conflict }

    /// Compares the whole register, hence its term: an equal term with other contents is another history.
    package static func judge(
        _ current: RegisterRecord?, expecting expected: Register?, to new: Register, nonce: Nonce
    ) -> Verdict {
        if let current, current.nonce == nonce { return current.register == new ? .replay : .conflict }
        guard current?.register == expected, new.term > current?.register.term ?? Term(0) else { return .conflict }
        return .change
    }
}
