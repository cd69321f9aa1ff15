/// What the human monitor prints, read line by line. Lines of another shape are passed over, because later versions add
/// columns and headings; what must be there is checked by the callers.
enum MonitorText {
    /// `info ramblock`.
    struct Block: Hashable {
        var name: String
        var used: UInt64
        var total: UInt64
        /// Printed by QEMU 8.2 and later.
        var hostAddress: UInt64?
    }

    static func blocks(_ text: String) -> [Block] {
        text.split(separator: "\n").compactMap { line in
            let words = line.split(separator: " ")
            // The page size is two words ("4 KiB"); the name may be missing, and does not contain spaces.
            guard let unit = words.firstIndex(where: { ["KiB", "MiB", "GiB", "B"].contains($0) }), unit >= 1,
                words.count >= unit + 4, let used = hex(words[unit + 2]), let total = hex(words[unit + 3])
            else { return nil }
            let name = unit >= 2 ? words[..<(unit - 1)].joined(separator: " ") : ""
            let host = words.count > unit + 4 ? hex(words[unit + 4]) : nil
            return Block(name: name, used: used, total: total, hostAddress: host)
        }
    }

    /// A line of `info mtree -f`: RAM of some kind at guest addresses.
    struct Range: Hashable {
        var start: UInt64
        var end: UInt64
        /// `ram`, `rom`, `romd`, `ramd`, `nv-ram`, …
        var kind: String
        var name: String
        /// Where in the region the range begins.
        var offset: UInt64
    }

    /// The flat view of the address space `memory`: what the vCPUs and `gpa2hva` see; nil when there is none.
    static func memoryView(_ text: String) -> [Range]? {
        var ranges: [Range]?
        var wanted = false
        for line in text.split(separator: "\n") {
            if line.hasPrefix("FlatView") {
                if ranges != nil { return ranges }
                wanted = false
            } else if line.hasPrefix(" AS \"memory\",") {
                wanted = true
            } else if wanted, line.hasPrefix("  ") {
                ranges = ranges ?? []
                if let range = range(line), range.kind != "i/o" { ranges?.append(range) }
            }
        }
        return ranges
    }

    /// `  0000000000100000-00000000bfffffff (prio 0, ram): pc.ram @0000000000100000`
    private static func range(_ line: Substring) -> Range? {
        let line = line.drop { $0 == " " }
        guard let dash = line.firstIndex(of: "-"), let space = line[dash...].firstIndex(of: " "),
            let start = UInt64(line[..<dash], radix: 16),
            let end = UInt64(line[line.index(after: dash)..<space], radix: 16), end >= start,
            let comma = line[space...].firstIndex(of: ","), let colon = line[comma...].firstIndex(of: ":"),
            let close = line[comma..<colon].lastIndex(of: ")")
        else { return nil }
        let kind = line[line.index(after: comma)..<close].drop { $0 == " " }
        var name = line[line.index(after: colon)...].drop { $0 == " " }
        var offset: UInt64 = 0
        if let at = name.lastIndex(of: "@"), at > name.startIndex, name[name.index(before: at)] == " ",
            let value = UInt64(name[name.index(after: at)...].prefix { $0 != " " }, radix: 16)
        {
            offset = value
            name = name[..<name.index(before: at)]
        }
        return Range(start: start, end: end, kind: String(kind), name: String(name), offset: offset)
    }

    /// `Host virtual address for 0x0 (pc.ram) is 0x7f3e0fe00000`
    static func hostAddress(_ text: String) -> (region: String, address: UInt64)? {
        guard let open = text.firstIndex(of: "("), let close = text.range(of: ") is 0x"), open < close.lowerBound,
            let address = UInt64(text[close.upperBound...].prefix { $0.isHexDigit }, radix: 16)
        else { return nil }
        return (String(text[text.index(after: open)..<close.lowerBound]), address)
    }

    /// A line of `info network`.
    struct Client: Hashable {
        var name: String
        /// `index`, `type`, `model`, `macaddr`, …
        var fields: [String: String]
        var isPeer: Bool
        /// The hub it hangs on (`-net`), if any.
        var hub: String?
        var index: Int { Int(fields["index"] ?? "") ?? 0 }
        var type: String { fields["type"] ?? "" }
    }

    static func clients(_ text: String) -> [Client] {
        var hub: String?
        return text.split(separator: "\n").compactMap { line in
            if line.hasPrefix("hub ") {
                hub = String(line)
                return nil
            }
            let isPeer = line.hasPrefix(" \\ ")
            if !isPeer { hub = nil }
            guard let colon = line.range(of: ": index=") else { return nil }
            var name = line[..<colon.lowerBound].drop { $0 == " " || $0 == "\\" }
            // Behind a hub the port is printed first: " \ hub0port1: #net118: index=0,…"
            if hub != nil, let port = name.range(of: ": ") { name = name[port.upperBound...] }
            var fields: [String: String] = [:]
            for field in line[line.index(colon.lowerBound, offsetBy: 2)...].split(separator: ",") {
                guard let equals = field.firstIndex(of: "=") else { continue }
                let key = String(field[..<equals])
                // A netdev's own words follow the common fields and may repeat their names.
                if fields[key] == nil { fields[key] = String(field[field.index(after: equals)...]) }
            }
            return Client(name: String(name), fields: fields, isPeer: isPeer, hub: hub)
        }
    }

    /// How many queues of NICs each netdev serves. All have the netdev's name, whereas a NIC without an id has another name for
    /// each of its queues (seen: `virtio-net-pci.0`, `virtio-net-pci.1`).
    static func queues(_ clients: [Client]) -> [String: Int] {
        var counts: [String: Int] = [:]
        for (nic, peer) in zip(clients, clients.dropFirst()) where nic.type == "nic" && nic.hub == nil && peer.isPeer {
            counts[peer.name, default: 0] += 1
        }
        return counts
    }

    private static func hex(_ word: Substring) -> UInt64? {
        word.hasPrefix("0x") ? UInt64(word.dropFirst(2), radix: 16) : nil
    }
}

extension StringProtocol {
    /// The first place where `other` stands; the standard library has no such search.
    func range(of other: String) -> Range<Index>? {
        var from = startIndex
        while from < endIndex {
            if self[from...].hasPrefix(other) { return from..<index(from, offsetBy: other.count) }
            from = index(after: from)
        }
        return nil
    }
}
