/// How libvirt calls a guest's disks.
enum LibvirtNames {
    /// The target (`vda`) of a disk from the id that libvirt gives its device: `virtio-disk0`, `ide0-1-0`, `sata0-0-2`,
    /// `scsi0-0-0-1` (seen in its command lines; its rule where the XML has no address). Nil for other ids.
    static func target(_ id: String) -> String? {
        for prefix in ["virtio-disk", "usb-disk"] where id.hasPrefix(prefix) {
            guard let index = Int(id.dropFirst(prefix.count)) else { return nil }
            return (prefix == "virtio-disk" ? "vd" : "sd") + letters(index)
        }
        let buses: [(prefix: String, letters: String, perController: Int)] = [
            ("ide", "hd", 4), ("sata", "sd", 6), ("scsi", "sd", 7), ("fdc", "fd", 2),
        ]
        for bus in buses where id.hasPrefix(bus.prefix) {
            let numbers = id.dropFirst(bus.prefix.count).split(separator: "-").map { Int($0) ?? -1 }
            guard numbers.count >= 3, !numbers.contains(where: { $0 < 0 || $0 > 255 }) else { return nil }
            let unit = bus.prefix == "ide" ? numbers[1] * 2 + numbers[2] : numbers[numbers.count - 1]
            return bus.letters + letters(numbers[0] * bus.perController + unit)
        }
        return nil
    }

    /// `a` … `z`, `aa`, …
    private static func letters(_ index: Int) -> String {
        guard (0..<10_000).contains(index) else { return "" }
        var text = ""
        var rest = index + 1
        while rest > 0 {
            rest -= 1
            text = String(UnicodeScalar(UInt8(97 + rest % 26))) + text
            rest /= 26
        }
        return text
    }
}
