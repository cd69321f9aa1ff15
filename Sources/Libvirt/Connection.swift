import CLibvirt
import Glibc

/// A connection to a libvirt daemon, for one thread. Its calls block until the daemon answers.
struct Connection: ~Copyable {
    let calls: libvirt_calls
    let handle: virConnectPtr
    private let uri: String

    init(_ uri: String) throws(LibvirtError) {
        var reason: UnsafePointer<CChar>?
        guard let calls = libvirt_load(&reason)?.pointee else {
            throw LibvirtError(
                .notInstalled,
                "libvirt's client library cannot be used here: \(reason.map { String(cString: $0) } ?? "")")
        }
        guard let handle = calls.virConnectOpen(uri) else {
            throw LibvirtError(
                .unreachable, "libvirt cannot be reached at \(uri): \(Self.lastMessage(calls))")
        }
        self.calls = calls
        self.handle = handle
        self.uri = uri
    }

    deinit { _ = calls.virConnectClose(handle) }

    private static func lastMessage(_ calls: libvirt_calls) -> String {
        calls.virGetLastErrorMessage().map { String(cString: $0) } ?? "it does not say why"
    }

    /// What the last call of this thread failed with.
    func failed(to what: String) -> LibvirtError {
        let said = Self.lastMessage(calls)
        let isMissing = calls.virGetLastErrorCode() == CInt(VIR_ERR_NO_DOMAIN.rawValue)
        return LibvirtError(isMissing ? .noSuchDomain : .failed, "libvirt at \(uri) did not \(what): \(said)")
    }

    /// The domain of that name or UUID.
    func domain(_ name: String) throws(LibvirtError) -> Domain {
        if let found = calls.virDomainLookupByName(handle, name) { return Domain(calls, found) }
        let failure = failed(to: "find the domain \(name)")
        guard name.utf8.count == VIR_UUID_STRING_BUFLEN - 1, name.contains("-"),
            let found = calls.virDomainLookupByUUIDString(handle, name)
        else { throw failure }
        return Domain(calls, found)
    }

    /// Gives a domain the definition that its next start goes by.
    func define(_ xml: String) throws(LibvirtError) -> Domain {
        guard let handle = calls.virDomainDefineXMLFlags(handle, xml, VIR_DOMAIN_DEFINE_VALIDATE.rawValue) else {
            throw failed(to: "take the new definition")
        }
        return Domain(calls, handle)
    }

    func domains() throws(LibvirtError) -> [Domain] {
        var list: UnsafeMutablePointer<virDomainPtr?>?
        let count = calls.virConnectListAllDomains(handle, &list, 0)
        guard count >= 0 else { throw failed(to: "list its domains") }
        defer { free(list) }
        return (0..<Int(count)).compactMap { index in list?[index].map { Domain(calls, $0) } }
    }
}

/// One domain.
final class Domain {
    private let calls: libvirt_calls
    private let handle: virDomainPtr

    init(_ calls: libvirt_calls, _ handle: virDomainPtr) {
        self.calls = calls
        self.handle = handle
    }

    deinit { _ = calls.virDomainFree(handle) }

    var name: String { calls.virDomainGetName(handle).map { String(cString: $0) } ?? "" }
    var uuid: String {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(VIR_UUID_STRING_BUFLEN)) { buffer in
            guard let start = buffer.baseAddress, calls.virDomainGetUUIDString(handle, start) == 0 else { return "" }
            return String(cString: start)
        }
    }
    var isActive: Bool { calls.virDomainIsActive(handle) == 1 }
    /// It has a definition that outlives its run.
    var isPersistent: Bool { calls.virDomainIsPersistent(handle) == 1 }
    /// It is started when the daemon is.
    var autostarts: Bool {
        var value: CInt = 0
        return calls.virDomainGetAutostart(handle, &value) == 0 && value != 0
    }

    /// Its XML: as it runs, or as it is defined for its next start, with its secrets. Nil where it cannot be had.
    func xml(isOfNextStart: Bool) -> String? {
        let flags = VIR_DOMAIN_XML_SECURE.rawValue | (isOfNextStart ? VIR_DOMAIN_XML_INACTIVE.rawValue : 0)
        guard let text = calls.virDomainGetXMLDesc(handle, flags) else { return nil }
        defer { free(text) }
        return String(cString: text)
    }
}
