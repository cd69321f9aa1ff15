import Hypervisor

extension Inspection {
    /// Contents that QEMU loads from its own files at start and never changes: firmware tables, and PCI option ROMs
    /// (named after their device's path). What qxl writes into is another one, `qxl.vrom`.
    static func isConstant(_ name: String) -> Bool {
        name.hasPrefix("/rom@") || (name.contains("/") && name.hasSuffix(".rom"))
    }

    /// The name of the memory region within the block's name: devices put their path before it.
    static func regionName(_ block: String) -> String {
        guard !block.hasPrefix("/"), let slash = block.lastIndex(of: "/") else { return block }
        return String(block[block.index(after: slash)...])
    }

    private struct Backend {
        var id: String
        var blockName: String
        var regionAddress: UInt64
    }

    mutating func listBlocks() throws(QMPError) -> [GuestRAMBlock] {
        let listed = MonitorText.blocks(try monitor.monitor("info ramblock"))
        guard let view = MonitorText.memoryView(try monitor.monitor("info mtree -f")), !listed.isEmpty else {
            refuse(.memory, "", "QEMU's memory map could not be read (info ramblock, info mtree -f)")
            return []
        }
        let backends = try listBackends()
        let named = listed.filter { !$0.name.isEmpty }
        checkUnnamed(view, named)

        var blocks: [GuestRAMBlock] = []
        for block in named {
            let backend = backends.first { $0.blockName == block.name }
            blocks.append(
                GuestRAMBlock(
                    name: block.name, length: block.used, maximum: block.total, hostAddress: block.hostAddress,
                    regionAddress: backend?.regionAddress ?? 0, tracked: !Self.isConstant(block.name),
                    backend: backend?.id))
        }
        let tables = named.map { Self.regionName($0.name) }
        for index in blocks.indices where blocks[index].tracked && blocks[index].hostAddress == nil {
            // Two devices of one kind name their regions alike; then it is told by where the device's BARs are.
            let isUnique = tables.filter { $0 == tables[index] }.count == 1
            let windows = isUnique ? nil : try pciWindows()[Self.devicePath(blocks[index].name)] ?? []
            blocks[index].hostAddress = try locate(tables[index], in: view, within: windows)
        }
        locateByShape(&blocks)
        checkLocated(&blocks)
        return blocks
    }

    private mutating func listBackends() throws(QMPError) -> [Backend] {
        var backends: [Backend] = []
        for object in try monitor.execute("query-memdev").array ?? [] {
            guard let id = object["id"]?.string else { continue }
            let path = "/objects/\(id)"
            let canonical = try monitor.execute(
                "qom-get", ["path": .string(path), "property": "x-use-canonical-path-for-ramblock-id"])
            let name = canonical.bool == true ? path : id
            // The region is a child of the backend, named like the block, slashes made unambiguous by QEMU.
            let children = try monitor.execute("qom-list", ["path": .string(path)]).array ?? []
            guard let child = children.first(where: { $0["type"]?.string == "child<memory-region>" }),
                let childName = child["name"]?.string
            else { continue }
            let address = try monitor.execute(
                "qom-get", ["path": .string("\(path)/\(childName)"), "property": "addr"])
            backends.append(Backend(id: id, blockName: name, regionAddress: address.uint64 ?? 0))
        }
        return backends
    }

    /// RAM that the guest sees and that is no migratable block belongs to a device whose memory cannot be replicated.
    private mutating func checkUnnamed(_ view: [MonitorText.Range], _ named: [MonitorText.Block]) {
        let known = Set(named.map { Self.regionName($0.name) })
        var told: Set<String> = []
        for range in view where !known.contains(range.name) && told.insert(range.name).inserted {
            refuse(
                .memory, range.name,
                "the guest sees memory “\(range.name)” (\(range.kind)) that QEMU does not migrate: remove its device")
        }
    }

    /// What QEMU puts before the name of a device's memory: `0000:00:02.0` of `0000:00:02.0/vga.vram`.
    private static func devicePath(_ block: String) -> String {
        block.lastIndex(of: "/").map { String(block[..<$0]) } ?? ""
    }

    /// The guest addresses of each PCI device's memory BARs, by the device's path as QEMU names it (hw/pci/pci.c
    /// `pcibus_get_dev_path`): domain and root bus, then slot and function of each bridge on the way and of the device.
    private func pciWindows() throws(QMPError) -> [String: [ClosedRange<UInt64>]] {
        var windows: [String: [ClosedRange<UInt64>]] = [:]
        var buses = (try monitor.execute("query-pci").array ?? []).map { (path: "0000:00", bus: $0) }
        while let (path, bus) = buses.popLast() {
            for device in bus["devices"]?.array ?? [] {
                let slot = hex(device["slot"]?.uint64 ?? 0)
                let own = "\(path):\(slot).\(device["function"]?.uint64 ?? 0)"
                windows[own] = (device["regions"]?.array ?? []).compactMap { region in
                    guard region["type"]?.string == "memory", let start = region["address"]?.uint64,
                        let size = region["size"]?.uint64, size > 0,
                        case (let end, let overflow) = start.addingReportingOverflow(size - 1), !overflow
                    else { return nil }
                    return start...end
                }
                if let bridge = device["pci_bridge"] { buses.append((own, bridge)) }
            }
        }
        return windows
    }

    private func hex(_ slot: UInt64) -> String { (slot < 16 ? "0" : "") + String(slot, radix: 16) }

    private func locate(
        _ region: String, in view: [MonitorText.Range], within windows: [ClosedRange<UInt64>]?
    ) throws(QMPError) -> UInt64? {
        for range in view where range.name == region {
            if let windows, !windows.contains(where: { $0.contains(range.start) && $0.contains(range.end) }) {
                continue
            }
            let text = try monitor.monitor("gpa2hva 0x\(String(range.start, radix: 16))")
            guard let found = MonitorText.hostAddress(text), found.region == region, found.address >= range.offset
            else { continue }
            return found.address - range.offset
        }
        return nil
    }

    /// A block that is nowhere in the guest's address space just now (video memory before the firmware set its BAR) is
    /// found by its shape among QEMU's mappings, if exactly one has it.
    private mutating func locateByShape(_ blocks: inout [GuestRAMBlock]) {
        let lost = blocks.indices.filter { blocks[$0].tracked && blocks[$0].hostAddress == nil }
        guard !lost.isEmpty, let text = facts.read("smaps") else { return }
        let table = MappingTable(parsing: text)
        let taken = Set(blocks.compactMap(\.hostAddress))
        for index in lost {
            let length = blocks[index].maximum
            let rivals = blocks.filter { $0.hostAddress == nil && $0.maximum == length }
            let candidates = table.blockCandidates(length: length).filter { !taken.contains($0) }
            if rivals.count == 1, candidates.count == 1 { blocks[index].hostAddress = candidates[0] }
        }
    }

    private mutating func checkLocated(_ blocks: inout [GuestRAMBlock]) {
        guard let text = facts.read("maps") else {
            refuse(.process, "", "the mappings of process \(facts.pid) cannot be read: run the agent as root")
            return
        }
        let table = MappingTable(parsing: text)
        for index in blocks.indices where blocks[index].tracked {
            let block = blocks[index]
            guard let address = block.hostAddress else {
                // Without its mapping this one holds nothing but zeros: only option ROMs of the board go there.
                if block.name == "pc.rom" {
                    blocks[index].tracked = false
                } else {
                    refuse(
                        .memory, block.name,
                        "memory “\(block.name)” of \(block.length) bytes could not be found in the QEMU process; "
                            + "let the guest finish booting and try again")
                }
                continue
            }
            if block.length % 4096 != 0 {
                refuse(.memory, block.name, "memory “\(block.name)” is not made of whole pages")
            } else if !table.isWritable(address, block.length) {
                refuse(
                    .memory, block.name,
                    "memory “\(block.name)” is not mapped for reading and writing at \(String(address, radix: 16)) "
                        + "in process \(facts.pid)")
            }
        }
    }
}
