extension SourceText {
    /// The text with comments and the contents of string literals replaced by spaces; what is interpolated into a
    /// literal is code and stays. Line breaks stay, so that line numbers do.
    static func code(_ text: String) -> String {
        var scanner = CodeScanner(Array(text.utf8))
        return scanner.run()
    }
}

/// Walks through a source and knows of each byte whether it is code.
private struct CodeScanner {
    /// What the bytes at the present place belong to.
    private enum Place {
        /// `parentheses` are those open since the interpolation began; at the bottom of the stack they do not matter.
        case code(parentheses: Int)
        case string(quotes: Int, hashes: Int)
    }

    private let bytes: [UInt8]
    private var index = 0
    private var out: [UInt8] = []
    private var stack: [Place] = [.code(parentheses: 0)]

    init(_ bytes: [UInt8]) {
        self.bytes = bytes
        out.reserveCapacity(bytes.count)
    }

    mutating func run() -> String {
        while index < bytes.count {
            switch stack[stack.count - 1] {
            case .code(let parentheses): stepInCode(parentheses)
            case .string(let quotes, let hashes): stepInString(quotes, hashes)
            }
        }
        return String(decoding: out, as: UTF8.self)
    }

    private mutating func stepInCode(_ parentheses: Int) {
        if sees("//") { return blank(while: { $0 != UInt8(ascii: "\n") }) }
        if sees("/*") { return blankBlockComment() }
        let hashes = bytes[index...].prefix { $0 == UInt8(ascii: "#") }.count
        if sees("\"", at: index + hashes) {
            let quotes = sees("\"\"\"", at: index + hashes) ? 3 : 1
            stack.append(.string(quotes: quotes, hashes: hashes))
            return keep(hashes + quotes)
        }
        if stack.count > 1 {
            if sees("(") { stack[stack.count - 1] = .code(parentheses: parentheses + 1) }
            if sees(")") {
                stack[stack.count - 1] = .code(parentheses: parentheses - 1)
                if parentheses == 1 { stack.removeLast() }
            }
        }
        keep(1)
    }

    private mutating func stepInString(_ quotes: Int, _ hashes: Int) {
        let marks = String(repeating: "#", count: hashes)
        if sees("\\" + marks + "(") {
            stack.append(.code(parentheses: 1))
            return blank(hashes + 2)
        }
        if sees("\\" + marks) { return blank(hashes + 2) }
        if sees(String(repeating: "\"", count: quotes) + marks) {
            stack.removeLast()
            return keep(quotes + hashes)
        }
        // A literal of one line ends with it: a quote that was misread costs a line, not the file.
        if quotes == 1, bytes[index] == UInt8(ascii: "\n") { stack.removeLast() }
        blank(1)
    }

    private mutating func blankBlockComment() {
        var depth = 0
        repeat {
            if sees("/*") {
                depth += 1
                blank(2)
            } else if sees("*/") {
                depth -= 1
                blank(2)
            } else {
                blank(1)
            }
        } while depth > 0 && index < bytes.count
    }

    private func sees(_ text: String, at place: Int? = nil) -> Bool {
        bytes[min(place ?? index, bytes.count)...].starts(with: text.utf8)
    }

    private mutating func keep(_ count: Int) {
        out += bytes[index..<min(index + count, bytes.count)]
        index += count
    }

    private mutating func blank(_ count: Int) {
        for byte in bytes[index..<min(index + count, bytes.count)] {
            out.append(byte == UInt8(ascii: "\n") ? byte : UInt8(ascii: " "))
        }
        index += count
    }

    private mutating func blank(while isPart: (UInt8) -> Bool) {
        blank(bytes[index...].prefix(while: isPart).count)
    }
}
