import Hypervisor

/// Where a block node is written on the primary's command line.
struct NodePlace: Hashable {
    /// Which of the options.
    var option: Int
    /// What comes before its keys: empty, or for example `file.` for a node within another.
    var prefix: String
}

/// The block nodes of `-blockdev`: which of them carry the guest's disks, and which only carry backing files.
struct BlockNodes {
    static let formats: Set<String> = ["raw", "qcow2", "qed", "vdi", "vmdk", "vpc", "vhdx"]

    private let source: [CommandOption]
    /// Where each named node is written.
    private var places: [String: NodePlace] = [:]
    /// By the number of a `-blockdev` option: the disk that it carries, and where within it that begins.
    private(set) var carriers: [Int: (prefix: String, disk: GuestDisk)] = [:]
    /// Names of disks with a format node.
    private(set) var formatted: Set<String> = []
    /// Nodes that only carry backing files.
    private(set) var backing: Set<String> = []

    init(of guest: GuestDescription, in source: [CommandOption]) {
        self.source = source
        for (index, option) in source.enumerated() where option.name == "-blockdev" {
            find(OptionValue(option.value ?? "", impliedKey: "driver"), NodePlace(option: index, prefix: ""))
        }
        for disk in guest.disks {
            if let place = [disk.node, attachedNode(disk)].compactMap({ $0.flatMap { places[$0] } }).first {
                assign(place, disk)
            }
        }
    }

    private mutating func find(_ value: OptionValue, _ place: NodePlace) {
        if let name = value["\(place.prefix)node-name"] { places[name] = place }
        for role in ["file", "backing"] where value["\(place.prefix)\(role)"] == nil {
            guard value.has("\(place.prefix)\(role)") else { continue }
            find(value, NodePlace(option: place.option, prefix: "\(place.prefix)\(role)."))
        }
    }

    /// The node that the disk's device was given at the start. A snapshot that was made since has put another one above it.
    private func attachedNode(_ disk: GuestDisk) -> String? {
        guard let qdev = disk.qdev else { return nil }
        return source.lazy.filter { $0.name == "-device" }.map { OptionValue($0.value ?? "", impliedKey: "driver") }
            .first { $0["id"].map { qdev == $0 || qdev.split(separator: "/").contains(Substring($0)) } ?? false }?[
                "drive"]
    }

    private mutating func assign(_ place: NodePlace, _ disk: GuestDisk) {
        guard carriers[place.option] == nil else { return }
        carriers[place.option] = (place.prefix, disk)
        let value = OptionValue(source[place.option].value ?? "", impliedKey: "driver")
        var prefix = place.prefix
        while true {
            if Self.formats.contains(value["\(prefix)driver"] ?? "") { formatted.insert(disk.name) }
            if let backing = value["\(prefix)backing"] { dropChain(backing) }
            if let below = value["\(prefix)file"] {
                if let next = places[below] { assign(next, disk) }
                return
            }
            guard value.has("\(prefix)file") else { return }
            prefix += "file."
        }
    }

    private mutating func dropChain(_ node: String) {
        guard backing.insert(node).inserted, let place = places[node] else { return }
        let value = OptionValue(source[place.option].value ?? "", impliedKey: "driver")
        for role in ["file", "backing"] {
            if let next = value["\(place.prefix)\(role)"] { dropChain(next) }
        }
    }
}
