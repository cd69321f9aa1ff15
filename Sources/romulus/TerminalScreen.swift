import Dispatch
import Glibc
import RomulusAPI

/// The whole terminal for one program: no echo, keys one by one, a screen of its own. `restore` gives it back as it was, and
/// so does a signal that ends the program.
final class TerminalScreen {
    enum Key: Sendable {
        case quit, up, down
        /// Nothing was typed that means anything, or for so long.
        case none
    }

    private let before: termios
    private let signals: [any DispatchSourceSignal]

    private static let enter = "\u{1b}[?1049h\u{1b}[?25l"
    private static let leave = "\u{1b}[?25h\u{1b}[?1049l"

    init() throws(APIError) {
        var found = termios()
        guard tcgetattr(STDIN_FILENO, &found) == 0 else {
            throw APIError(.failed, "the terminal does not tell its settings (error \(errno))")
        }
        before = found
        let restoring = found
        // Made before anything is changed: whoever ends us finds the terminal as it was.
        signals = [SIGTERM, SIGHUP, SIGINT].map { number in
            signal(number, SIG_IGN)
            let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
            source.setEventHandler {
                Self.restore(restoring)
                exit(128 + number)
            }
            source.resume()
            return source
        }
        var raw = found
        raw.c_lflag &= ~tcflag_t(ICANON | ECHO | ISIG)
        tcsetattr(STDIN_FILENO, TCSANOW, &raw)
        Terminal.write(Self.enter, to: STDOUT_FILENO)
    }

    func restore() {
        Self.restore(before)
        for source in signals { source.cancel() }
    }

    private static func restore(_ settings: termios) {
        var settings = settings
        Terminal.write(leave, to: STDOUT_FILENO)
        tcsetattr(STDIN_FILENO, TCSANOW, &settings)
    }

    var columns: Int { size.columns }
    var rows: Int { size.rows }

    private var size: (columns: Int, rows: Int) {
        var size = winsize()
        guard ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0, size.ws_row > 0 else {
            return (80, 24)
        }
        return (Int(size.ws_col), Int(size.ws_row))
    }

    /// Draws over what is there, without a moment of emptiness in between.
    func draw(_ text: String) {
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        Terminal.write(
            "\u{1b}[H" + lines.map { $0 + "\u{1b}[K" }.joined(separator: "\n") + "\u{1b}[J", to: STDOUT_FILENO)
    }

    /// `none` at once, then each key as it is typed and `none` every so many seconds without one; ends with `quit`.
    func keys(every seconds: Double) -> AsyncStream<Key> {
        AsyncStream { stream in
            stream.yield(.none)
            DispatchQueue(label: "keys").async {
                var typed: [UInt8] = []
                while true {
                    if typed.isEmpty { typed = Self.read(within: Int32(seconds * 1000)) }
                    let key = Self.takeKey(from: &typed)
                    if case .terminated = stream.yield(key) { return }
                    if key == .quit { return stream.finish() }
                }
            }
        }
    }

    /// What Ctrl-C and Ctrl-D send.
    private static let endKeys: [UInt8] = [3, 4]

    /// What is typed, or nothing when the time is over.
    private static func read(within milliseconds: Int32) -> [UInt8] {
        var waiting = pollfd(fd: STDIN_FILENO, events: Int16(POLLIN), revents: 0)
        guard poll(&waiting, 1, milliseconds) > 0 else { return [] }
        var bytes = [UInt8](repeating: 0, count: 64)
        let count = Glibc.read(STDIN_FILENO, &bytes, bytes.count)
        // A terminal that is gone types no more.
        return count > 0 ? Array(bytes[..<count]) : endKeys
    }

    private static func takeKey(from typed: inout [UInt8]) -> Key {
        guard !typed.isEmpty else { return .none }
        // An arrow comes as three bytes.
        if typed.starts(with: [0x1b, UInt8(ascii: "[")]), typed.count >= 3 {
            defer { typed.removeFirst(3) }
            switch typed[2] {
            case UInt8(ascii: "A"): return .up
            case UInt8(ascii: "B"): return .down
            default: return .none
            }
        }
        switch typed.removeFirst() {
        case UInt8(ascii: "q"): return .quit
        case let byte where endKeys.contains(byte): return .quit
        case UInt8(ascii: "k"): return .up
        case UInt8(ascii: "j"): return .down
        default: return .none
        }
    }
}
