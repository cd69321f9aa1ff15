/// The monitor that a domain of libvirt has beside libvirt's own: four words of QEMU's command line in its XML, within
/// `<qemu:commandline>` (libvirt's docs/kvm…, “QEMU command-line passthrough”).
package struct SecondMonitor: Hashable, Sendable {
    /// QEMU makes its socket there.
    package var path: String

    package init(path: String) { self.path = path }

    private static let id = "romulus"
    private static let namespace = "xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'"

    private var words: [String] {
        let path = self.path.split(separator: ",", omittingEmptySubsequences: false).joined(separator: ",,")
        return [
            "-chardev", "socket,id=\(Self.id),path=\(path),server=on,wait=off", "-mon",
            "chardev=\(Self.id),mode=control",
        ]
    }

    private var arguments: String { words.map { "    <qemu:arg value='\(Self.escape($0))'/>\n" }.joined() }

    // MARK: - Reading

    /// The second monitor that a domain's XML, as libvirt writes it, asks for; nil where it asks for none.
    package init?(in xml: String) {
        for line in xml.split(separator: "\n") {
            guard let value = Self.argument(line), value.hasPrefix("socket,id=\(Self.id),path=") else { continue }
            var path = ""
            var rest = value.dropFirst("socket,id=\(Self.id),path=".count)
            while let character = rest.popFirst() {
                if character == "," {
                    guard rest.first == "," else { break }
                    rest.removeFirst()
                }
                path.append(character)
            }
            self.init(path: path)
            return
        }
        return nil
    }

    /// The value of a line that is one `<qemu:arg>`; nil for another.
    private static func argument(_ line: Substring) -> String? {
        let text = line.drop { $0 == " " }
        let (head, tail) = ("<qemu:arg value='", "'/>")
        guard text.hasPrefix(head), text.hasSuffix(tail) else { return nil }
        return unescape(String(text.dropFirst(head.count).dropLast(tail.count)))
    }

    // MARK: - Writing

    /// The XML with this monitor in the place of whatever second one it has. Nil for what does not end as a domain's XML does.
    package func added(to xml: String) -> String? {
        var xml = Self.removed(from: xml)
        if let end = xml.ranges(of: "  </qemu:commandline>\n").last {
            xml.insert(contentsOf: arguments, at: end.lowerBound)
            return xml
        }
        guard let end = xml.ranges(of: "</domain>").last, let start = xml.firstRange(of: "<domain "),
            let open = xml[start.lowerBound...].firstIndex(of: ">"), open < end.lowerBound
        else { return nil }
        xml.insert(contentsOf: "  <qemu:commandline>\n\(arguments)  </qemu:commandline>\n", at: end.lowerBound)
        if !xml[start.lowerBound..<open].contains("xmlns:qemu=") {
            xml.insert(contentsOf: " \(Self.namespace)", at: open)
        }
        return xml
    }

    /// The XML without a second monitor, and without what would be empty then.
    package static func removed(from xml: String) -> String {
        guard let monitor = SecondMonitor(in: xml) else { return xml }
        let rest = xml.replacing(monitor.arguments, with: "").replacing(
            "  <qemu:commandline>\n  </qemu:commandline>\n", with: "")
        // Libvirt keeps a namespace that nothing uses.
        return rest.contains("<qemu:") ? rest : rest.replacing(" \(namespace)", with: "", maxReplacements: 1)
    }

    private static func escape(_ text: String) -> String {
        text.replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;")
            .replacing("'", with: "&apos;").replacing("\"", with: "&quot;")
    }

    private static func unescape(_ text: String) -> String {
        text.replacing("&lt;", with: "<").replacing("&gt;", with: ">").replacing("&apos;", with: "'")
            .replacing("&quot;", with: "\"").replacing("&amp;", with: "&")
    }
}
