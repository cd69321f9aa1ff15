import Foundation

enum SourceText {
    /// The text with every comment replaced by spaces; line breaks stay, so that line numbers do. A `//` or `/*` inside
    /// a string literal of one line is part of the string.
    static func withoutComments(_ text: String) -> String {
        var out: [UInt8] = []
        let bytes = Array(text.utf8)
        out.reserveCapacity(bytes.count)
        var index = 0
        var inString = false
        var commentDepth = 0
        var inLineComment = false
        while index < bytes.count {
            let byte = bytes[index]
            let next = index + 1 < bytes.count ? bytes[index + 1] : 0
            let newline = byte == UInt8(ascii: "\n")
            if newline { (inLineComment, inString) = (false, false) }
            if inLineComment {
                out.append(UInt8(ascii: " "))
            } else if commentDepth > 0 {
                let closes = byte == UInt8(ascii: "*") && next == UInt8(ascii: "/")
                let opens = byte == UInt8(ascii: "/") && next == UInt8(ascii: "*")
                if closes || opens {
                    commentDepth += opens ? 1 : -1
                    out += [UInt8(ascii: " "), UInt8(ascii: " ")]
                    index += 1
                } else {
                    out.append(newline ? byte : UInt8(ascii: " "))
                }
            } else if inString {
                out.append(byte)
                if byte == UInt8(ascii: "\\"), next != 0 {
                    out.append(next)
                    index += 1
                } else if byte == UInt8(ascii: "\"") {
                    inString = false
                }
            } else if byte == UInt8(ascii: "/"), next == UInt8(ascii: "/") {
                inLineComment = true
                out.append(UInt8(ascii: " "))
            } else if byte == UInt8(ascii: "/"), next == UInt8(ascii: "*") {
                commentDepth = 1
                out += [UInt8(ascii: " "), UInt8(ascii: " ")]
                index += 1
            } else {
                if byte == UInt8(ascii: "\"") { inString = true }
                out.append(byte)
            }
            index += 1
        }
        return String(decoding: out, as: UTF8.self)
    }
}
