extension Derivation {
    /// Nodes on the way from a drive's top node down to its file, by `-blockdev`, and what they become.
    private func blockdev(named name: String) -> OptionValue? {
        for option in source where option.name == "-blockdev" {
            let value = OptionValue(option.value ?? "", impliedKey: "driver")
            if value["node-name"] == name { return value }
        }
        return nil
    }

    /// Which disk each `-blockdev` node carries, and which nodes only carry backing files.
    mutating func planDisks() {
        for disk in guest.disks {
            var name = disk.node
            while let node = name, let value = blockdev(named: node), diskOfNode[node] == nil {
                diskOfNode[node] = disk
                if let backing = value["backing"] { dropChain(backing) }
                name = value["file"]
            }
        }
    }

    private mutating func dropChain(_ node: String) {
        guard backingNodes.insert(node).inserted, let value = blockdev(named: node) else { return }
        for key in ["file", "backing"] {
            if let next = value[key] { dropChain(next) }
        }
    }

    mutating func disk(_ option: QEMUOption) throws(StandbyCommandError) {
        switch option.name {
        case "-drive": drive(OptionValue(option.value ?? "", impliedKey: "file"))
        case "-blockdev": blockdev(option)
        default: image(option)
        }
    }

    /// What the drive's image is here: mapped, else the same.
    private func target(_ disk: GuestDisk) -> StandbyDisk {
        for key in [disk.name, disk.device, disk.node ?? ""] where !key.isEmpty {
            if let mapped = options.disks[key] { return mapped }
        }
        return StandbyDisk(path: localPath(disk.file), format: disk.format, isBlockDevice: disk.isBlockDevice)
    }

    private mutating func noteFile(_ disk: GuestDisk, _ target: StandbyDisk, _ purpose: String) {
        if !disk.isReplicated, disk.node != nil { require(target.path, purpose) }
    }

    /// `-hda FILE` and its like are `-drive` with the place given; only there the format can be said.
    private mutating func image(_ option: QEMUOption) {
        let places: [String: [(String, String)]] = [
            "": [("index", "0"), ("media", "disk")], "-hda": [("index", "0"), ("media", "disk")],
            "-hdb": [("index", "1"), ("media", "disk")], "-hdc": [("index", "2"), ("media", "disk")],
            "-hdd": [("index", "3"), ("media", "disk")], "-cdrom": [("index", "2"), ("media", "cdrom")],
            "-fda": [("if", "floppy"), ("index", "0")], "-fdb": [("if", "floppy"), ("index", "1")],
            "-pflash": [("if", "pflash")], "-sd": [("if", "sd")], "-mtdblock": [("if", "mtd")],
        ]
        drive(OptionValue(pairs: [("file", option.value ?? "")] + (places[option.name] ?? [])))
    }

    private mutating func drive(_ given: OptionValue) {
        var value = given
        value.remove("snapshot")
        let fileKey = value["file"] != nil ? "file" : "file.filename"
        guard let file = value[fileKey], !file.isEmpty, let disk = drive(value, file) else {
            result.append(QEMUOption("-drive", value.text))
            return
        }
        let target = target(disk)
        noteFile(disk, target, "-drive")
        value.set(fileKey, .string(target.path))
        if value["file.driver"] != nil { value.set("file.driver", target.isBlockDevice ? "host_device" : "file") }
        value.remove("driver")
        value.set("format", .string(target.format))
        keepCache(&value, "file.drop-cache", disk)
        result.append(QEMUOption("-drive", value.text))
    }

    /// When QEMU takes an image over at the end of the load it would write all of it out and forget it, for the sake of
    /// storage that two hosts share (block/file-posix.c `raw_co_invalidate_cache`). The guest would wait for that, and there
    /// is no need: what the agent wrote is in this host's cache, which is QEMU's too.
    private func keepCache(_ value: inout OptionValue, _ key: String, _ disk: GuestDisk) {
        if disk.isReplicated { value.set(key, false) }
    }

    /// The disk that a `-drive` made: by its id, else by its file.
    private func drive(_ value: OptionValue, _ file: String) -> GuestDisk? {
        if let id = value["id"], let disk = guest.disks.first(where: { $0.device == id }) { return disk }
        return guest.disks.first { $0.file == file && !$0.device.isEmpty }
    }

    private mutating func blockdev(_ option: QEMUOption) {
        var value = OptionValue(option.value ?? "", impliedKey: "driver")
        let name = value["node-name"] ?? ""
        if backingNodes.contains(name) {
            notes.append(
                "block node \(name) is left out: the standby's image holds the whole disk, without backing file")
            return
        }
        guard let disk = diskOfNode[name] else {
            result.append(option)
            return
        }
        let target = target(disk)
        value.remove("backing")
        if value["filename"] != nil {
            noteFile(disk, target, "-blockdev")
            value.set("filename", .string(target.path))
            value.set("driver", target.isBlockDevice ? "host_device" : "file")
            keepCache(&value, "drop-cache", disk)
        } else if ["raw", "qcow2", "qed", "vdi", "vmdk", "vpc", "vhdx"].contains(value["driver"] ?? "") {
            if value["driver"] != target.format, target.format == "raw" {
                // Keys of other formats mean nothing to raw.
                value.remove(
                    "lazy-refcounts", "pass-discard-request", "pass-discard-snapshot", "pass-discard-other",
                    "overlap-check", "cache-size", "l2-cache-size", "refcount-cache-size", "cache-clean-interval",
                    "data-file", "discard-no-unref")
            }
            value.set("driver", .string(target.format))
            if value["file.filename"] != nil {
                noteFile(disk, target, "-blockdev")
                value.set("file.filename", .string(target.path))
                value.set("file.driver", target.isBlockDevice ? "host_device" : "file")
                keepCache(&value, "file.drop-cache", disk)
            }
        }
        result.append(QEMUOption("-blockdev", value.text))
    }
}
