import Hypervisor

/// The rules for memory: each block with a backend lies in a file that is shared with the agent.
struct MemoryRules {
    let files: [StandbyCommand.MemoryFile]

    init(_ guest: GuestDescription, _ options: StandbyOptions) {
        let directory = options.memoryDirectory ?? options.runDirectory
        files = guest.blocks.compactMap { block in
            block.backend.map { backend in
                StandbyCommand.MemoryFile(
                    block: block.name, path: "\(directory)/\(GuestRAMBlock.fileName(ofBackend: backend))",
                    length: block.length)
            }
        }
    }

    /// The board's own memory backend: the one that no `-object` of the command line names.
    private func implicitBlock(_ draft: CommandDraft) -> GuestRAMBlock? {
        draft.guest.blocks.first { block in
            guard let backend = block.backend else { return false }
            return !draft.source.contains { $0.name == "-object" && objectID($0) == backend }
        }
    }

    private func objectID(_ option: CommandOption) -> String? {
        OptionValue(option.value ?? "", impliedKey: "qom-type")["id"]
    }

    func object(_ option: CommandOption, _ draft: inout CommandDraft) {
        var value = OptionValue(option.value ?? "", impliedKey: "qom-type")
        let type = value["qom-type"] ?? ""
        let id = value["id"] ?? ""
        if type == "secret", !isReferenced(id, draft) {
            draft.notes.append("secret \(id) is left out: nothing else uses it")
            return
        }
        guard type.hasPrefix("memory-backend-") else {
            draft.lines.append(option)
            return
        }
        guard let block = draft.guest.blocks.first(where: { $0.backend == id }),
            let file = files.first(where: { $0.block == block.name })
        else {
            draft.notes.append("memory backend \(id) is left out: no device uses it")
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
        draft.lines.append(CommandOption("-object", value.text))
    }

    /// True when another option has `id` as one of its values.
    private func isReferenced(_ id: String, _ draft: CommandDraft) -> Bool {
        draft.source.contains { option in
            guard let value = option.value, objectID(option) != id else { return false }
            return value.contains("=\(id)") || value.contains("\"\(id)\"")
        }
    }

    // MARK: Machine

    func machine(_ option: CommandOption, _ draft: inout CommandDraft) {
        var value = OptionValue(option.value ?? "", impliedKey: "type")
        if value["type"] != nil { value.set("type", .string(draft.guest.machineType)) }
        if draft.options.accelerator != nil { value.remove("accel") }
        value.remove("memory-backend")
        let text = value.text
        if !text.isEmpty { draft.lines.append(CommandOption("-machine", text)) }
    }

    /// The concrete machine type even when the primary left it to QEMU's default, and the memory backend.
    func finishMachine(_ draft: inout CommandDraft) {
        let named = draft.lines.contains {
            $0.name == "-machine" && OptionValue($0.value ?? "", impliedKey: "type")["type"] != nil
        }
        var pairs: [(String, String)] = named ? [] : [("type", draft.guest.machineType)]
        if let block = implicitBlock(draft), let backend = block.backend,
            let file = files.first(where: { $0.block == block.name })
        {
            let object = OptionValue(pairs: [
                ("qom-type", "memory-backend-file"), ("id", backend), ("size", String(block.length)),
                ("mem-path", file.path), ("share", "on"),
                ("x-use-canonical-path-for-ramblock-id", block.name.hasPrefix("/objects/") ? "on" : "off"),
            ])
            draft.lines.append(CommandOption("-object", object.text))
            pairs.append(("memory-backend", backend))
        } else if let backend = givenBackend(draft) {
            pairs.append(("memory-backend", backend))
        }
        if !pairs.isEmpty { draft.lines.append(CommandOption("-machine", OptionValue(pairs: pairs).text)) }
        if let accelerator = draft.options.accelerator { draft.lines.append(CommandOption("-accel", accelerator)) }
    }

    /// What the primary's own `-machine memory-backend=` names.
    private func givenBackend(_ draft: CommandDraft) -> String? {
        draft.source.filter { $0.name == "-machine" || $0.name == "-M" }
            .compactMap { OptionValue($0.value ?? "", impliedKey: "type")["memory-backend"] }.last
    }
}
