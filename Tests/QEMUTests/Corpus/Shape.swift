import Testing

/// A QEMU command line as some product or person writes it, and what becomes of it.
struct Shape: Sendable, CustomTestStringConvertible {
    enum Outcome: Sendable, Equatable {
        case fine
        /// Inspection or derivation refuses it, with these words.
        case refused(String)
    }

    var name: String
    /// Words separated by spaces and line ends; a word with spaces stands in single quotes. `{raw}`, `{qcow2}`, `{cd}`, `{flash}`,
    /// `{cfg}` and `{dir}` are files of the test, `{tap}` and `{tap2}` its interfaces.
    var line: String
    var outcome = Outcome.fine
    /// False for what QEMU 7.2 cannot start on any machine: it is derived only.
    var starts = true

    var testDescription: String { name }

    init(_ name: String, starts: Bool = true, _ line: String) { self.init(name, .fine, starts: starts, line) }

    init(_ name: String, _ outcome: Outcome, starts: Bool = true, _ line: String) {
        self.name = name
        self.line = line
        self.outcome = outcome
        self.starts = starts
    }

    /// The words, with the places filled in, and without what only a host with KVM can do.
    func arguments(_ places: [String: String] = [:]) -> [String] {
        var words: [String] = []
        var word = ""
        var isQuoted = false
        for character in line + "\n" {
            if character == "'" {
                isQuoted.toggle()
            } else if character.isWhitespace, !isQuoted {
                if !word.isEmpty { words.append(word) }
                word = ""
            } else {
                word.append(character)
            }
        }
        for (key, value) in places { words = words.map { $0.replacing("{\(key)}", with: value) } }
        return words.filter { $0 != "-enable-kvm" }.map { word in
            switch word {
            case "kvm": "tcg"
            case "host", "host,migratable=on": "qemu64"
            default: word.replacing("accel=kvm", with: "accel=tcg")
            }
        }
    }

    static let all = libvirt + platforms + containers + tools + hands
}
