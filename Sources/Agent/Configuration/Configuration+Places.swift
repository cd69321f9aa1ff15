import Model
import PKI

/// What lies where on this host.
extension Configuration {
    /// The memory of a replica of `vm`.
    func memoryDirectory(of vm: VMName) -> String { "\(memoryDirectory)/\(vm)" }

    /// The sockets and logs of a replica's QEMU.
    func runtimeDirectory(of vm: VMName) -> String { "\(runtimeDirectory)/\(vm)" }

    func loadIdentity() throws(PKIError) -> TLSIdentity {
        try TLSIdentity.load(authority: tls.ca, certificate: tls.certificate, key: tls.key)
    }
}
