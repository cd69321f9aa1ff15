import Model

/// The table `netdev romulus`, as messages of nf_tables (linux/netfilter/nf_tables.h). `docs/GATE.md` shows it in the
/// language of nft.
enum GateTable {
    static let name = "romulus"
    /// Names of the devices whose frames pass; each element lives as long as its timeout.
    static let open = "open"
    /// See `KernelGate.ticketMilliseconds`.
    static let ticket = "ticket"
    /// Before whatever else listens on the device, so that nothing can hand frames on first.
    static let priority: Int32 = -1000

    /// NFT_TABLE_F_OWNER: nobody else may change or flush the table while the socket lives. NFT_TABLE_F_PERSIST (Linux
    /// 6.9): the table stays when the socket is closed, and closed it stays.
    static let ownerFlags: UInt32 = 0x2 | 0x4

    static func addTable(_ batch: inout NetlinkBatch, flags: UInt32) {
        batch.add(.newTable, flags: NetlinkFlag.create) {
            $0.put(1, name)
            $0.put(2, flags)
        }
    }

    /// Both sets have NFT_SET_TIMEOUT (0x10). The types' numbers (ifname 41, mark 19) serve only who lists them.
    static func addSets(_ batch: inout NetlinkBatch) {
        for (set, type, length) in [(open, UInt32(41), UInt32(16)), (ticket, 19, 4)] {
            batch.add(.newSet, flags: NetlinkFlag.create) {
                $0.put(1, name)
                $0.put(2, set)
                $0.put(3, UInt32(0x10))
                $0.put(4, type)
                $0.put(5, length)
                $0.put(10, set == open ? UInt32(1) : 2)
                // NFTNL_UDATA_SET_KEYBYTEORDER: the host's.
                $0.put(13, [0, 4, 1, 0, 0, 0])
            }
        }
    }

    /// A chain before the link, dropping by policy; its rules are made anew, so that doing it again changes nothing.
    static func addChain(_ batch: inout NetlinkBatch, _ link: GatedLink, of vm: VMName) {
        batch.add(.newChain, flags: NetlinkFlag.create) {
            $0.put(1, name)
            $0.put(3, link.chain)
            $0.put(7, "filter")
            // NF_DROP.
            $0.put(5, UInt32(0))
            $0.nest(4) {
                $0.put(1, link.hook.number)
                $0.put(2, UInt32(bitPattern: priority))
                $0.put(3, link.name)
            }
            $0.put(12, comment(vm))
        }
        batch.add(.deleteRule) {
            $0.put(1, name)
            $0.put(2, link.chain)
        }
        addRule(&batch, link) {
            // NFT_META_IIFNAME is 6, NFT_META_OIFNAME 7; into register 1.
            $0.expression("meta") {
                $0.put(2, UInt32(link.hook == .ingress ? 6 : 7))
                $0.put(1, UInt32(1))
            }
            $0.expression("lookup") {
                $0.put(1, open)
                $0.put(2, UInt32(1))
            }
            $0.verdict(1)
        }
        addRule(&batch, link) {
            $0.expression("counter") { _ in }
            $0.verdict(0)
        }
    }

    private static func addRule(
        _ batch: inout NetlinkBatch, _ link: GatedLink, _ expressions: (inout AttributeWriter) -> Void
    ) {
        batch.add(.newRule, flags: NetlinkFlag.create | NetlinkFlag.append) {
            $0.put(1, name)
            $0.put(2, link.chain)
            $0.nest(4, expressions)
        }
    }

    static func destroyChain(_ batch: inout NetlinkBatch, _ link: GatedLink) {
        batch.add(.destroyChain) {
            $0.put(1, name)
            $0.put(3, link.chain)
        }
    }

    static func destroyTable(_ batch: inout NetlinkBatch) { batch.add(.destroyTable) { $0.put(1, name) } }

    /// Lets the links' frames pass for `milliseconds` (at least 1), counted from when the kernel works it off.
    @discardableResult
    static func add(_ batch: inout NetlinkBatch, _ links: [GatedLink], of vm: VMName, milliseconds: UInt64) -> UInt32 {
        elements(&batch, .newElement, open, links.map(\.key), timeout: milliseconds, comment: comment(vm))
    }

    /// Refused with ENOENT, as is the whole batch, when one of them is not alive.
    @discardableResult
    static func delete(_ batch: inout NetlinkBatch, _ links: [GatedLink]) -> UInt32 {
        elements(&batch, .deleteElement, open, links.map(\.key))
    }

    static func destroy(_ batch: inout NetlinkBatch, _ links: [GatedLink]) {
        elements(&batch, .destroyElement, open, links.map(\.key))
    }

    static func drawTicket(_ batch: inout NetlinkBatch, milliseconds: UInt64) {
        elements(&batch, .destroyElement, ticket, [ticketKey])
        elements(&batch, .newElement, ticket, [ticketKey], timeout: milliseconds)
    }

    /// Refused with ENOENT, as is the whole batch, when the ticket has run out.
    static func handInTicket(_ batch: inout NetlinkBatch) -> UInt32 {
        elements(&batch, .deleteElement, ticket, [ticketKey])
    }

    private static let ticketKey: [UInt8] = [1, 0, 0, 0]

    @discardableResult
    private static func elements(
        _ batch: inout NetlinkBatch, _ operation: TableOperation, _ set: String, _ keys: [[UInt8]],
        timeout: UInt64? = nil, comment: [UInt8]? = nil
    ) -> UInt32 {
        batch.add(operation, flags: operation == .newElement ? NetlinkFlag.create : 0) { message in
            message.put(1, name)
            message.put(2, set)
            message.nest(3) { list in
                for key in keys {
                    list.nest(1) { element in
                        element.nest(1) { $0.put(1, key) }
                        if let timeout { element.put(4, timeout) }
                        if let comment { element.put(6, comment) }
                    }
                }
            }
        }
    }

    /// User data in the form that nft shows as a comment: type 0, length, text with its final zero.
    private static func comment(_ vm: VMName) -> [UInt8] {
        let text = Array(vm.description.utf8) + [0]
        return [0, UInt8(text.count)] + text
    }

    /// The guest that a chain belongs to, by its user data.
    static func guest(in userData: [UInt8]?) -> VMName? {
        guard let userData, userData.count > 2, userData[0] == 0 else { return nil }
        return VMName(Array(userData[2...]).text)
    }
}

extension GatedLink {
    /// Interface names are compared as 16 bytes, filled up with zeros.
    fileprivate var key: [UInt8] {
        let bytes = Array(name.utf8)
        return bytes + [UInt8](repeating: 0, count: 16 - bytes.count)
    }
}

extension AttributeWriter {
    fileprivate mutating func expression(_ name: String, _ body: (inout AttributeWriter) -> Void) {
        nest(1) {
            $0.put(1, name)
            $0.nest(2, body)
        }
    }

    /// NF_DROP is 0, NF_ACCEPT 1.
    fileprivate mutating func verdict(_ code: UInt32) {
        expression("immediate") {
            $0.put(1, UInt32(0))
            $0.nest(2) { $0.nest(2) { $0.put(1, code) } }
        }
    }
}
