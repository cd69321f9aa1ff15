import NIOCore
import PKI
import Registers

extension Configuration {
    /// The arbiter that the configuration names; nil when there is none. What this host remembers of it lies in
    /// `state_directory`, which exists.
    public func makeArbiter(
        identity: TLSIdentity, group: any EventLoopGroup
    ) throws -> (any Arbiter)? {
        guard let arbiter else { return nil }
        let memory = try ArbiterMemory(directory: stateDirectory)
        switch arbiter {
        case .witness(let address, let node):
            return WitnessClient(
                host: address.host, port: address.port, node: node, identity: identity, memory: memory, group: group)
        case .etcd(let etcd):
            return try EtcdArbiter(
                endpoints: etcd.endpoints, cluster: etcd.cluster,
                credentials: etcd.tls.map { .init(ca: $0.ca, certificate: $0.certificate, key: $0.key) },
                memory: memory, group: group)
        }
    }
}
