import Hypervisor

/// Where a block node is written on the primary's command line.
struct NodePlace: Hashable {
    /// Which of the options.
    var option: Int
    /// What comes before its keys: empty, or for example `file.` for a node within another.
    var prefix: String
}

/// The block nodes of `-blockdev`: which of them carry the guest's disks, and what they become.
extension Derivation {
    private static let formats: Set<String> = ["raw", "qcow2", "qed", "vdi", "vmdk", "vpc", "vhdx"]

    /// Which disk each `-blockdev` carries, and which nodes only carry backing files.
    mutating func planDisks() {
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
        guard backingNodes.insert(node).inserted, let place = places[node] else { return }
        let value = OptionValue(source[place.option].value ?? "", impliedKey: "driver")
        for role in ["file", "backing"] {
            if let next = value["\(place.prefix)\(role)"] { dropChain(next) }
        }
    }

    mutating func blockdev(_ option: CommandOption, at index: Int) throws(StandbyCommandError) {
        var value = OptionValue(option.value ?? "", impliedKey: "driver")
        if let name = value["node-name"], backingNodes.contains(name) {
            notes.append(
                "block node \(name) is left out: the standby's image holds the whole disk, without backing file")
            return
        }
        guard let (prefix, disk) = carriers[index], isMapped(disk) || disk.isReplicated || disk.liesInFile else {
            result.append(option)
            return
        }
        let target = target(disk)
        try checkStorage(disk)
        guard target.format == "raw" || formatted.contains(disk.name) else {
            throw StandbyCommandError(
                option: option.description,
                problem:
                    "the guest uses this node without a format above it, so that drive \(disk.name) cannot lie in an"
                    + " image of format \(target.format) at the standby: map it to a raw one in the VM's standby disks")
        }
        try rewrite(&value, at: prefix, disk, target)
        result.append(CommandOption("-blockdev", value.text))
    }

    /// What lies on a network or in another program is elsewhere at the standby, and has no path that could be the same.
    func checkStorage(_ disk: GuestDisk) throws(StandbyCommandError) {
        guard disk.isReplicated, !disk.liesInFile, !isMapped(disk) else { return }
        throw StandbyCommandError(
            option: "",
            problem: "drive \(disk.name) lies on \(disk.storage ?? "") (\(disk.file)): say which image of its own the"
                + " standby has, in the VM's standby disks")
    }

    /// Rewrites the node at `prefix` and those within it: filters stay, the format and the file become the standby's.
    mutating func rewrite(
        _ value: inout OptionValue, at prefix: String, _ disk: GuestDisk, _ target: StandbyDisk
    ) throws(StandbyCommandError) {
        let driver = value["\(prefix)driver"] ?? ""
        if Self.formats.contains(driver) {
            setFormat(&value, prefix, driver, target)
        } else if BlockGraph.filters.contains(driver) {
            try checkFilter(driver, disk, target)
            value.remove("\(prefix)bottom")
        } else {
            return setStorage(&value, prefix, disk, target)
        }
        if value["\(prefix)file"] == nil { try rewrite(&value, at: "\(prefix)file.", disk, target) }
    }

    private func checkFilter(
        _ driver: String, _ disk: GuestDisk, _ target: StandbyDisk
    ) throws(StandbyCommandError) {
        guard driver == "compress", target.format != "qcow2" else { return }
        throw StandbyCommandError(
            option: "",
            problem:
                "drive \(disk.name) is written compressed, which its image of format \(target.format) at the standby"
                + " cannot be: map it to a qcow2 image in the VM's standby disks")
    }

    private func setFormat(_ value: inout OptionValue, _ prefix: String, _ driver: String, _ target: StandbyDisk) {
        value.remove("\(prefix)backing")
        // The replica holds the disk as the guest sees it, which may be a part of the primary's file.
        if driver == "raw" { value.remove("\(prefix)offset", "\(prefix)size") }
        if driver != target.format, target.format == "raw" {
            // Keys of other formats mean nothing to raw.
            for key in [
                "lazy-refcounts", "pass-discard-request", "pass-discard-snapshot", "pass-discard-other",
                "overlap-check", "cache-size", "l2-cache-size", "l2-cache-entry-size", "refcount-cache-size",
                "cache-clean-interval", "data-file", "discard-no-unref",
            ] { value.remove("\(prefix)\(key)") }
        }
        value.set("\(prefix)driver", .string(target.format))
    }

    private mutating func setStorage(
        _ value: inout OptionValue, _ prefix: String, _ disk: GuestDisk, _ target: StandbyDisk
    ) {
        noteFile(disk, target, "-blockdev")
        if !disk.liesInFile {
            // Keys of a protocol mean nothing to a file; what stays is what every node has.
            for key in value.keys(below: prefix)
            where !["node-name", "cache", "discard", "read-only", "auto-read-only"].contains(key) {
                value.remove("\(prefix)\(key)")
            }
        }
        value.set("\(prefix)driver", .string(target.driver))
        value.set("\(prefix)filename", .string(target.path))
        keepCache(&value, "\(prefix)drop-cache", disk)
    }

    /// When QEMU takes an image over at the end of the load it would write all of it out and forget it, for the sake of
    /// storage that two hosts share (block/file-posix.c `raw_co_invalidate_cache`). The guest would wait for that, and there
    /// is no need: what the agent wrote is in this host's cache, which is QEMU's too.
    func keepCache(_ value: inout OptionValue, _ key: String, _ disk: GuestDisk) {
        if disk.isReplicated { value.set(key, false) }
    }

    /// The standby's QEMU must open the very image that the agent writes, or it would go on from another disk.
    mutating func checkDisks() {
        for disk in guest.disks where disk.isReplicated {
            let target = target(disk)
            let spellings = [target.path, OptionValue.escape(target.path)].flatMap {
                [$0, JSONValue.string($0).description]
            }
            let isOpened = result.contains { option in
                guard ["-drive", "-blockdev"].contains(option.name), let value = option.value else { return false }
                return spellings.contains { value.range(of: $0) != nil }
            }
            if isOpened { continue }
            problems.append(
                "drive \(disk.name) (\(disk.file)) is not where QEMU's command line says, so that the standby's QEMU would"
                    + " open another image than \(target.path): give its -drive an id or its node a name, or add its option"
                    + " line to the VM's standby overrides")
        }
    }
}
