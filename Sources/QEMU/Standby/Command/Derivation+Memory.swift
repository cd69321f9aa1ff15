import Hypervisor

extension Derivation {
    /// The board's own memory backend: the one that no `-object` of the command line names.
    private var implicitBlock: GuestRAMBlock? {
        guest.blocks.first { block in
            guard let backend = block.backend else { return false }
            return !source.contains { $0.name == "-object" && objectID($0) == backend }
        }
    }

    private func objectID(_ option: CommandOption) -> String? {
        OptionValue(option.value ?? "", impliedKey: "qom-type")["id"]
    }

    mutating func planMemory() {
        let directory = options.memoryDirectory ?? options.runDirectory
        for block in guest.blocks {
            guard let backend = block.backend else { continue }
            memoryFiles.append(
                StandbyCommand.MemoryFile(
                    block: block.name, path: "\(directory)/\(GuestRAMBlock.fileName(ofBackend: backend))",
                    length: block.length))
        }
    }

    mutating func object(_ option: CommandOption) {
        var value = OptionValue(option.value ?? "", impliedKey: "qom-type")
        let type = value["qom-type"] ?? ""
        let id = value["id"] ?? ""
        if type == "secret", !isReferenced(id) {
            notes.append("secret \(id) is left out: nothing else uses it")
            return
        }
        guard type.hasPrefix("memory-backend-") else {
            result.append(option)
            return
        }
        guard let block = guest.blocks.first(where: { $0.backend == id }),
            let file = memoryFiles.first(where: { $0.block == block.name })
        else {
            notes.append("memory backend \(id) is left out: no device uses it")
            return
        }
        value.set("qom-type", "memory-backend-file")
        value.remove(
            "hugetlb", "hugetlbsize", "seal", "host-nodes", "policy", "prealloc", "prealloc-threads",
            "prealloc-context", "reserve", "readonly", "rom", "pmem", "align", "discard-data", "mem-path", "share",
            "x-use-canonical-path-for-ramblock-id")
        value.set("size", JSONValue(block.length))
        value.set("mem-path", .string(file.path))
        value.set("share", true)
        value.set("x-use-canonical-path-for-ramblock-id", .bool(block.name.hasPrefix("/objects/")))
        result.append(CommandOption("-object", value.text))
    }

    /// True when another option has `id` as one of its values.
    private func isReferenced(_ id: String) -> Bool {
        source.contains { option in
            guard let value = option.value, objectID(option) != id else { return false }
            return value.contains("=\(id)") || value.contains("\"\(id)\"")
        }
    }

    // MARK: Machine

    mutating func machine(_ option: CommandOption) {
        var value = OptionValue(option.value ?? "", impliedKey: "type")
        if value["type"] != nil { value.set("type", .string(guest.machineType)) }
        if options.accelerator != nil { value.remove("accel") }
        value.remove("memory-backend")
        let text = value.text
        if !text.isEmpty { result.append(CommandOption("-machine", text)) }
    }

    /// The concrete machine type even when the primary left it to QEMU's default, and the memory backend.
    mutating func finishMachine() {
        let named = result.contains {
            $0.name == "-machine" && OptionValue($0.value ?? "", impliedKey: "type")["type"] != nil
        }
        var pairs: [(String, String)] = named ? [] : [("type", guest.machineType)]
        if let block = implicitBlock, let backend = block.backend,
            let file = memoryFiles.first(where: { $0.block == block.name })
        {
            let object = OptionValue(pairs: [
                ("qom-type", "memory-backend-file"), ("id", backend), ("size", String(block.length)),
                ("mem-path", file.path), ("share", "on"),
                ("x-use-canonical-path-for-ramblock-id", block.name.hasPrefix("/objects/") ? "on" : "off"),
            ])
            result.append(CommandOption("-object", object.text))
            pairs.append(("memory-backend", backend))
        } else if let backend = givenBackend {
            pairs.append(("memory-backend", backend))
        }
        if !pairs.isEmpty { result.append(CommandOption("-machine", OptionValue(pairs: pairs).text)) }
        if let accelerator = options.accelerator { result.append(CommandOption("-accel", accelerator)) }
    }

    /// What the primary's own `-machine memory-backend=` names.
    private var givenBackend: String? {
        source.filter { $0.name == "-machine" || $0.name == "-M" }
            .compactMap { OptionValue($0.value ?? "", impliedKey: "type")["memory-backend"] }.last
    }
}
