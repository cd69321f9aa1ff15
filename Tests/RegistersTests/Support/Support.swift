import Foundation
import Literals
import Model
import NIOPosix
import PKI
import Registers
import Synchronization
import TestBed

func vm(_ name: String) -> VMName { VMName(unchecked: name) }
func node(_ name: String) -> NodeName { NodeName(unchecked: name) }

/// A register as a primary alone, or with a standby, would claim it.
func register(_ term: UInt64, owner: String = "alpha", standby: String? = nil) -> Register {
    Register(
        term: Term(term), owner: node(owner), mode: standby == nil ? .solo : .paired,
        session: standby == nil ? .none : SessionID(term &* 0x9e37_79b9_7f4a_7c15),
        standby: standby.map { StandbyIdentity(node: node($0), incarnation: .max - term) },
        lineage: Lineage(.max), level: .system)
}

/// A directory of one test's own, event loops, certificates; all gone when the body ends.
struct Scratch: Sendable {
    let path: String
    /// A loopback address that nobody else uses: ports there are free, and stay so while a server is away.
    let address = "127.\(Int.random(in: 1...254)).\(Int.random(in: 1...254)).\(Int.random(in: 1...254))"
    let group: MultiThreadedEventLoopGroup

    static func with(_ body: (Scratch) async throws -> Void) async throws {
        let directory = try TemporaryDirectory("arbitration")
        defer { directory.remove() }
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 2)
        do {
            try await body(Scratch(path: directory.path, group: group))
        } catch {
            try? await group.shutdownGracefully()
            throw error
        }
        try await group.shutdownGracefully()
    }

    /// A directory below, made when it is missing.
    func folder(_ name: String) throws -> String {
        let folder = "\(path)/\(name)"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        return folder
    }

    /// A memory of its own for `name`; the same one for the same name, as after a restart.
    func memory(_ name: String) throws -> ArbiterMemory { try ArbiterMemory(directory: folder("memory-\(name)")) }
}

/// Two authorities and the nodes of all tests; their files live as long as the scratch directory.
struct Trust {
    let directory: String

    init(_ scratch: Scratch, nodes: [String] = ["alpha", "beta", "gamma"]) throws {
        directory = try scratch.folder("pki")
        for (folder, names) in [("one", nodes), ("two", ["alpha"])] {
            let authority = try CertificateAuthority.create(directory: "\(directory)/\(folder)")
            for name in names {
                _ = try authority.issue(node: NodeName(checking: name), addresses: [scratch.address])
            }
        }
    }

    func identity(_ name: String, authority: String = "one") throws -> TLSIdentity {
        try TLSIdentity.load(directory: "\(directory)/\(authority)", node: NodeName(checking: name))
    }

    func credentials(_ name: String, authority: String = "one") -> EtcdArbiter.Credentials {
        EtcdArbiter.Credentials(
            ca: "\(directory)/one/ca.crt", certificate: "\(directory)/\(authority)/\(name).crt",
            key: "\(directory)/\(authority)/\(name).key")
    }
}

/// Counts up, from any thread.
final class Tally<Key: Hashable & Sendable>: Sendable {
    private let counts = Mutex<[Key: Int]>([:])
    func add(_ key: Key) { counts.withLock { $0[key, default: 0] += 1 } }
    subscript(_ key: Key) -> Int { counts.withLock { $0[key] ?? 0 } }
    var all: [Key: Int] { counts.withLock { $0 } }
}

extension RegisterReading {
    /// The sentence, when nobody can say.
    var doubt: String? { if case .unknown(let reason) = self { reason } else { nil } }
}

extension RegisterAnswer {
    var doubt: String? { if case .unknown(let reason) = self { reason } else { nil } }
}
