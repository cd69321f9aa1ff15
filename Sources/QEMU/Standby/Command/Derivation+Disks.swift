import Hypervisor

extension Derivation {
    mutating func disk(_ option: CommandOption, at index: Int) throws(StandbyCommandError) {
        switch option.name {
        case "-drive": try drive(OptionValue(option.value ?? "", impliedKey: "file"))
        case "-blockdev": try blockdev(option, at: index)
        default: try image(option)
        }
    }

    /// What the drive's image is here: mapped, else the same.
    mutating func target(_ disk: GuestDisk) -> StandbyDisk {
        if let key = disk.keys.first(where: { options.disks[$0] != nil }), let mapped = options.disks[key] {
            return mapped
        }
        return StandbyDisk(path: localPath(disk.file), format: disk.format, isBlockDevice: disk.isBlockDevice)
    }

    func isMapped(_ disk: GuestDisk) -> Bool { disk.keys.contains { options.disks[$0] != nil } }

    mutating func noteFile(_ disk: GuestDisk, _ target: StandbyDisk, _ purpose: String) {
        if !disk.isReplicated, disk.node != nil { require(target.path, purpose) }
    }

    /// `-hda FILE` and its like are `-drive` with the place given; only there the format can be said.
    private mutating func image(_ option: CommandOption) throws(StandbyCommandError) {
        let places: [String: [(String, String)]] = [
            "": [("index", "0"), ("media", "disk")], "-hda": [("index", "0"), ("media", "disk")],
            "-hdb": [("index", "1"), ("media", "disk")], "-hdc": [("index", "2"), ("media", "disk")],
            "-hdd": [("index", "3"), ("media", "disk")], "-cdrom": [("index", "2"), ("media", "cdrom")],
            "-fda": [("if", "floppy"), ("index", "0")], "-fdb": [("if", "floppy"), ("index", "1")],
            "-pflash": [("if", "pflash")], "-sd": [("if", "sd")], "-mtdblock": [("if", "mtd")],
        ]
        try drive(OptionValue(pairs: [("file", option.value ?? "")] + (places[option.name] ?? [])))
    }

    private mutating func drive(_ given: OptionValue) throws(StandbyCommandError) {
        var value = given
        value.remove("snapshot")
        guard let disk = disk(of: value), disk.node != nil, isMapped(disk) || disk.isReplicated || disk.liesInFile
        else {
            result.append(CommandOption("-drive", value.text))
            return
        }
        let target = target(disk)
        try checkStorage(disk)
        let file = value["file"]
        if let file, file.hasPrefix("json:") {
            var tree = OptionValue(String(file.dropFirst(5)), impliedKey: "driver")
            if tree["driver"] == nil { tree.set("driver", .string(value["format"] ?? value["driver"] ?? disk.format)) }
            try rewrite(&tree, at: "", disk, target)
            value.set("file", .string("json:" + tree.text))
            value.remove("format", "driver")
        } else if file != nil {
            noteFile(disk, target, "-drive")
            value.set("file", .string(target.path))
            if value["file.driver"] != nil { value.set("file.driver", .string(target.driver)) }
            value.remove("driver")
            value.set("format", .string(target.format))
            keepCache(&value, "file.drop-cache", disk)
        } else {
            try rewriteParts(&value, disk, target)
        }
        result.append(CommandOption("-drive", value.text))
    }

    /// A `-drive` that is written as nodes: `driver=throttle,file.driver=qcow2,file.file.filename=…`.
    private mutating func rewriteParts(
        _ value: inout OptionValue, _ disk: GuestDisk, _ target: StandbyDisk
    ) throws(StandbyCommandError) {
        if BlockGraph.filters.contains(value["driver"] ?? "") { return try rewrite(&value, at: "", disk, target) }
        value.remove("driver", "backing")
        value.set("format", .string(target.format))
        try rewrite(&value, at: "file.", disk, target)
    }

    /// The disk that a `-drive` made: by its id, else by its file.
    private func disk(of value: OptionValue) -> GuestDisk? {
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
}

extension GuestDisk {
    /// False for what lies on another kind of storage, which has no path.
    var liesInFile: Bool { storage.map { ["file", "host_device"].contains($0) } ?? true }
}

extension StandbyDisk {
    /// QEMU's driver for what the image lies on.
    var driver: String { isBlockDevice ? "host_device" : "file" }
}
