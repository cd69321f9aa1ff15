import Hypervisor

/// The rules for disks: each one that is replicated lies in an image of the standby's own.
struct DiskRules {
    private let nodes: BlockNodes

    init(_ guest: GuestDescription, _ source: [CommandOption]) { nodes = BlockNodes(of: guest, in: source) }

    /// `index` is the option's place on the primary's command line.
    func disk(_ option: CommandOption, at index: Int, _ draft: inout CommandDraft) throws(StandbyCommandError) {
        switch option.name {
        case "-drive": try drive(OptionValue(option.value ?? "", impliedKey: "file"), &draft)
        case "-blockdev": try blockdev(option, at: index, &draft)
        default: try image(option, &draft)
        }
    }

    /// What the drive's image is here: mapped, else the same.
    private func target(_ disk: GuestDisk, _ draft: inout CommandDraft) -> StandbyDisk {
        if let key = disk.keys.first(where: { draft.options.disks[$0] != nil }), let mapped = draft.options.disks[key] {
            return mapped
        }
        return StandbyDisk(path: draft.localPath(disk.file), format: disk.format, isBlockDevice: disk.isBlockDevice)
    }

    private func isMapped(_ disk: GuestDisk, _ draft: CommandDraft) -> Bool {
        disk.keys.contains { draft.options.disks[$0] != nil }
    }

    private func noteFile(
        _ disk: GuestDisk, _ target: StandbyDisk, _ purpose: String, _ draft: inout CommandDraft
    ) {
        if !disk.isReplicated, disk.node != nil { draft.require(target.path, purpose) }
    }

    /// `-hda FILE` and its like are `-drive` with the place given; only there the format can be said.
    private func image(_ option: CommandOption, _ draft: inout CommandDraft) throws(StandbyCommandError) {
        let places: [String: [(String, String)]] = [
            "": [("index", "0"), ("media", "disk")], "-hda": [("index", "0"), ("media", "disk")],
            "-hdb": [("index", "1"), ("media", "disk")], "-hdc": [("index", "2"), ("media", "disk")],
            "-hdd": [("index", "3"), ("media", "disk")], "-cdrom": [("index", "2"), ("media", "cdrom")],
            "-fda": [("if", "floppy"), ("index", "0")], "-fdb": [("if", "floppy"), ("index", "1")],
            "-pflash": [("if", "pflash")], "-sd": [("if", "sd")], "-mtdblock": [("if", "mtd")],
        ]
        try drive(OptionValue(pairs: [("file", option.value ?? "")] + (places[option.name] ?? [])), &draft)
    }

    private func drive(_ given: OptionValue, _ draft: inout CommandDraft) throws(StandbyCommandError) {
        var value = given
        value.remove("snapshot")
        guard let disk = disk(of: value, draft.guest), disk.node != nil,
            isMapped(disk, draft) || disk.isReplicated || disk.liesInFile
        else {
            draft.lines.append(CommandOption("-drive", value.text))
            return
        }
        let target = target(disk, &draft)
        try checkStorage(disk, draft)
        let file = value["file"]
        if let file, file.hasPrefix("json:") {
            var tree = OptionValue(String(file.dropFirst(5)), impliedKey: "driver")
            if tree["driver"] == nil { tree.set("driver", .string(value["format"] ?? value["driver"] ?? disk.format)) }
            try rewrite(&tree, at: "", disk, target, &draft)
            value.set("file", .string("json:" + tree.text))
            value.remove("format", "driver")
        } else if file != nil {
            noteFile(disk, target, "-drive", &draft)
            value.set("file", .string(target.path))
            if value["file.driver"] != nil { value.set("file.driver", .string(target.driver)) }
            value.remove("driver")
            value.set("format", .string(target.format))
            keepCache(&value, "file.drop-cache", disk)
        } else {
            try rewriteParts(&value, disk, target, &draft)
        }
        draft.lines.append(CommandOption("-drive", value.text))
    }

    /// A `-drive` that is written as nodes: `driver=throttle,file.driver=qcow2,file.file.filename=…`.
    private func rewriteParts(
        _ value: inout OptionValue, _ disk: GuestDisk, _ target: StandbyDisk, _ draft: inout CommandDraft
    ) throws(StandbyCommandError) {
        if BlockGraph.filters.contains(value["driver"] ?? "") {
            return try rewrite(&value, at: "", disk, target, &draft)
        }
        value.remove("driver", "backing")
        value.set("format", .string(target.format))
        try rewrite(&value, at: "file.", disk, target, &draft)
    }

    /// The disk that a `-drive` made: by its id, else by its file.
    private func disk(of value: OptionValue, _ guest: GuestDescription) -> GuestDisk? {
        if let id = value["id"], let disk = guest.disks.first(where: { $0.device == id }) { return disk }
        var file = value["file"] ?? ""
        var tree = value
        if file.hasPrefix("json:") { tree = OptionValue(String(file.dropFirst(5)), impliedKey: "driver") }
        var prefix = "file."
        while file.isEmpty || file.hasPrefix("json:"), tree.has(String(prefix.dropLast())) {
            file = tree["\(prefix)filename"] ?? ""
            prefix += "file."
        }
        return file.isEmpty ? nil : guest.disks.first { $0.file == file && !$0.device.isEmpty }
    }

    private func blockdev(
        _ option: CommandOption, at index: Int, _ draft: inout CommandDraft
    ) throws(StandbyCommandError) {
        var value = OptionValue(option.value ?? "", impliedKey: "driver")
        if let name = value["node-name"], nodes.backing.contains(name) {
            draft.notes.append(
                "block node \(name) is left out: the standby's image holds the whole disk, without backing file")
            return
        }
        guard let (prefix, disk) = nodes.carriers[index], isMapped(disk, draft) || disk.isReplicated || disk.liesInFile
        else {
            draft.lines.append(option)
            return
        }
        let target = target(disk, &draft)
        try checkStorage(disk, draft)
        guard target.format == "raw" || nodes.formatted.contains(disk.name) else {
            throw StandbyCommandError(
                option: option.description,
                problem:
                    "the guest uses this node without a format above it, so that drive \(disk.name) cannot lie in an"
                    + " image of format \(target.format) at the standby: map it to a raw one in the VM's standby disks")
        }
        try rewrite(&value, at: prefix, disk, target, &draft)
        draft.lines.append(CommandOption("-blockdev", value.text))
    }

    /// What lies on a network or in another program is elsewhere at the standby, and has no path that could be the same.
    private func checkStorage(_ disk: GuestDisk, _ draft: CommandDraft) throws(StandbyCommandError) {
        guard disk.isReplicated, !disk.liesInFile, !isMapped(disk, draft) else { return }
        throw StandbyCommandError(
            option: "",
            problem: "drive \(disk.name) lies on \(disk.storage ?? "") (\(disk.file)): say which image of its own the"
                + " standby has, in the VM's standby disks")
    }

    /// Rewrites the node at `prefix` and those within it: filters stay, the format and the file become the standby's.
    private func rewrite(
        _ value: inout OptionValue, at prefix: String, _ disk: GuestDisk, _ target: StandbyDisk,
        _ draft: inout CommandDraft
    ) throws(StandbyCommandError) {
        let driver = value["\(prefix)driver"] ?? ""
        if BlockNodes.formats.contains(driver) {
            setFormat(&value, prefix, driver, target)
        } else if BlockGraph.filters.contains(driver) {
            try checkFilter(driver, disk, target)
            value.remove("\(prefix)bottom")
        } else {
            return setStorage(&value, prefix, disk, target, &draft)
        }
        if value["\(prefix)file"] == nil {
            try rewrite(&value, at: "\(prefix)file.", disk, target, &draft)
        }
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

    private func setStorage(
        _ value: inout OptionValue, _ prefix: String, _ disk: GuestDisk, _ target: StandbyDisk,
        _ draft: inout CommandDraft
    ) {
        noteFile(disk, target, "-blockdev", &draft)
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
    private func keepCache(_ value: inout OptionValue, _ key: String, _ disk: GuestDisk) {
        if disk.isReplicated { value.set(key, false) }
    }

    /// The standby's QEMU must open the very image that the agent writes, or it would go on from another disk.
    func checkDisks(_ draft: inout CommandDraft) {
        for disk in draft.guest.disks where disk.isReplicated {
            let target = target(disk, &draft)
            let spellings = [target.path, OptionValue.escape(target.path)].flatMap {
                [$0, JSONValue.string($0).description]
            }
            let isOpened = draft.lines.contains { option in
                guard ["-drive", "-blockdev"].contains(option.name), let value = option.value else { return false }
                return spellings.contains { value.range(of: $0) != nil }
            }
            if isOpened { continue }
            draft.problems.append(
                "drive \(disk.name) (\(disk.file)) is not where QEMU's command line says, so that the standby's QEMU would"
                    + " open another image than \(target.path): give its -drive an id or its node a name, or add its option"
                    + " line to the VM's standby overrides")
        }
    }
}

extension GuestDisk {
    /// False for what lies on another kind of storage, which has no path.
    var liesInFile: Bool { storage.map { ["file", "host_device"].contains($0) } ?? true }
}

extension StandbyDisk {
    /// QEMU's driver for what the image lies on.
    var driver: String { isBlockDevice ? "host_device" : "file" }
}
