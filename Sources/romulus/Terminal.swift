import FoundationEssentials
import Glibc
import RomulusAPI

/// Where a verb's words go: results to stdout, everything else to stderr.
enum Terminal {
    static let stdoutIsTerminal = isatty(STDOUT_FILENO) == 1
    static let stderrIsTerminal = isatty(STDERR_FILENO) == 1
    static let stdinIsTerminal = isatty(STDIN_FILENO) == 1

    /// Colour only where somebody looks, and not when NO_COLOR is set (<https://no-color.org>).
    static let colour = stdoutIsTerminal && noColour == nil
    private static let noColour = getenv("NO_COLOR").flatMap { $0.pointee == 0 ? nil : $0.pointee }

    /// Prints a result.
    static func result(_ text: String) {
        write(text, to: STDOUT_FILENO)
    }

    /// Prints a result as one JSON document, indented, or on one line.
    static func json(_ value: some Encodable, pretty: Bool = true) throws {
        result(String(decoding: try JSONCoding.encode(value, pretty: pretty), as: UTF8.self) + "\n")
    }

    static func remark(_ text: String, _ options: OutputOptions) {
        if !options.quiet { write(text + "\n", to: STDERR_FILENO) }
    }

    static func complain(_ text: String) {
        write("romulus: \(text)\n", to: STDERR_FILENO)
    }

    /// Draws over the present line of the terminal that stderr is.
    static func redrawLine(_ text: String) {
        write("\r\u{1b}[K" + text, to: STDERR_FILENO)
    }

    /// Clears the terminal that stdout is and prints `text` at its top.
    static func redrawScreen(_ text: String) {
        write("\u{1b}[H\u{1b}[2J" + text, to: STDOUT_FILENO)
    }

    /// How wide the terminal that stderr is is; 80 when it does not say.
    static var columns: Int {
        var size = winsize()
        guard ioctl(STDERR_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return 80 }
        return Int(size.ws_col)
    }

    /// Asks on the terminal; true only for the whole word “yes”.
    static func confirm(_ question: String) -> Bool {
        write(question + " Type yes to go on: ", to: STDERR_FILENO)
        return readLine()?.lowercased() == "yes"
    }

    /// Throws unless the operator said yes, by an option or here.
    static func confirm(_ question: String, isConfirmed: Bool, what: String) throws(APIError) {
        guard !isConfirmed else { return }
        guard stdinIsTerminal else {
            throw APIError(.refused, "\(what) was not confirmed and there is no terminal to ask at: give --yes")
        }
        guard confirm(question) else { throw APIError(.refused, "\(what) was not confirmed; nothing was done") }
    }

    static func write(_ text: String, to descriptor: Int32) {
        write(Array(text.utf8), to: descriptor)
    }

    static func write(_ all: [UInt8], to descriptor: Int32) {
        var bytes = all[...]
        while !bytes.isEmpty {
            let count = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if count < 0, errno == EINTR { continue }
            // Whoever read us is gone: end quietly, as with SIGPIPE, which the event loops ignore.
            guard count > 0 else { exit(1) }
            bytes = bytes.dropFirst(count)
        }
    }
}
